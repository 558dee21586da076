//! What a container needs for its devices, all resources together. Pure.

use std::collections::BTreeMap;

use cri::device_plugin as wire;
use cri::v1 as runtime;

/// What is added to a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    pub env: Vec<(String, String)>,
    pub mounts: Vec<runtime::Mount>,
    pub devices: Vec<runtime::Device>,
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi: Vec<String>,
}

impl Needs {
    /// Adds what a plugin said. Of two that say something different of the same thing, the first is right.
    pub fn add(&mut self, said: &wire::ContainerAllocateResponse) {
        let envs: BTreeMap<_, _> = said.envs.iter().collect();
        for (name, value) in envs {
            if !self.env.iter().any(|(known, _)| known == name) {
                self.env.push((name.clone(), value.clone()));
            }
        }
        for mount in &said.mounts {
            if !self.mounts.iter().any(|known| known.container_path == mount.container_path) {
                self.mounts.push(runtime::Mount {
                    container_path: mount.container_path.clone(),
                    host_path: mount.host_path.clone(),
                    readonly: mount.read_only,
                    ..Default::default()
                });
            }
        }
        for device in &said.devices {
            if !self.devices.iter().any(|known| known.container_path == device.container_path) {
                self.devices.push(runtime::Device {
                    container_path: device.container_path.clone(),
                    host_path: device.host_path.clone(),
                    permissions: device.permissions.clone(),
                });
            }
        }
        for (name, value) in &said.annotations {
            self.annotations.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for device in &said.cdi_devices {
            self.add_cdi(&device.name);
        }
    }

    /// Adds a CDI device, once.
    pub fn add_cdi(&mut self, name: &str) {
        if !self.cdi.iter().any(|known| known == name) {
            self.cdi.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_added_once() {
        let said = |value: &str| wire::ContainerAllocateResponse {
            envs: [("A".to_owned(), value.to_owned())].into(),
            mounts: vec![wire::Mount {
                container_path: "/a".to_owned(),
                host_path: value.to_owned(),
                read_only: true,
            }],
            devices: vec![wire::DeviceSpec {
                container_path: "/dev/a".to_owned(),
                host_path: value.to_owned(),
                permissions: "rw".to_owned(),
            }],
            annotations: [("a".to_owned(), value.to_owned())].into(),
            cdi_devices: vec![wire::CdiDevice { name: "x.com/a=1".to_owned() }],
        };
        let mut needs = Needs::default();
        needs.add(&said("1"));
        let once = needs.clone();
        needs.add(&said("2"));
        assert_eq!(needs, once);
        assert_eq!(once.env, [("A".to_owned(), "1".to_owned())]);
        assert!(once.mounts[0].readonly && once.devices[0].permissions == "rw");
    }
}
