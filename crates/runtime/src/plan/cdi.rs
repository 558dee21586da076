//! Devices by the Container Device Interface: what a vendor's file says a container needs for a device.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Device, PlanError};

/// A vendor's file: `/etc/cdi/*.json`, `/var/run/cdi/*.yaml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// `vendor.com/class`.
    pub kind: String,
    /// The devices.
    pub devices: Vec<Named>,
    /// What every one of them needs.
    pub container_edits: Edits,
}

/// One device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Named {
    /// Its name within the kind.
    pub name: String,
    /// What it needs.
    pub container_edits: Edits,
}

/// What a container is to have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Edits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<Node>,
    /// Files and folders of the machine.
    pub mounts: Vec<Mount>,
    /// Programs to run at moments of its life.
    pub hooks: Vec<Hook>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// Network devices, which this runtime cannot move.
    pub net_devices: Vec<Value>,
}

/// A device node. What is not said is as it is on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// Where it is to be.
    pub path: String,
    /// Where it is on the machine; the same place where this is empty.
    pub host_path: String,
    /// Its permissions in the container.
    pub file_mode: Option<u32>,
    /// `rwm`, or less.
    pub permissions: Option<String>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
}

/// A file or folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// On the machine.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As `ro`, `nosuid`.
    pub options: Vec<String>,
    /// A file system, where it is no bind mount.
    pub r#type: String,
}

/// A program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// When.
    pub hook_name: String,
    /// What.
    pub path: String,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// After how many seconds it is given up.
    pub timeout: Option<i64>,
}

/// What containers with these devices need, by their names as `vendor.com/class=name`. Of two files that have
/// one device the later counts.
pub fn resolve(specs: &[Spec], names: &[String]) -> Result<Vec<Edits>, PlanError> {
    let mut edits: Vec<Edits> = Vec::new();
    let mut kinds: Vec<&str> = Vec::new();
    for name in names {
        let refuse = |why: &str| PlanError::Cdi(name.clone(), why.to_owned());
        let (kind, device) = name.split_once('=').ok_or_else(|| refuse("it is not vendor.com/class=name"))?;
        let find = |spec: &'_ &Spec| spec.kind == kind && spec.devices.iter().any(|d| d.name == device);
        let spec =
            specs.iter().rfind(find).ok_or_else(|| refuse("no file of /etc/cdi or /var/run/cdi has it"))?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
            edits.push(spec.container_edits.clone());
        }
        edits.extend(spec.devices.iter().filter(|d| d.name == device).map(|d| d.container_edits.clone()));
        if edits.iter().any(|edits| !edits.net_devices.is_empty()) {
            return Err(refuse("this runtime cannot move network devices"));
        }
        if edits.iter().flat_map(|edits| &edits.hooks).any(|hook| hook.hook_name == "poststop") {
            return Err(refuse("this runtime has no poststop hooks"));
        }
    }
    Ok(edits)
}

impl Node {
    /// Where it is on the machine.
    pub fn on_machine(&self) -> &str {
        if self.host_path.is_empty() { &self.path } else { &self.host_path }
    }

    /// The node as the container gets it, and how it may be used.
    pub fn applied(&self, found: Device) -> (Device, String) {
        let device = Device {
            mode: self.file_mode.unwrap_or(found.mode),
            uid: self.uid.unwrap_or(found.uid),
            gid: self.gid.unwrap_or(found.gid),
            ..found
        };
        (device, self.permissions.clone().unwrap_or_else(|| "rwm".to_owned()))
    }
}

/// The mounts, in the specification's words.
pub fn mounts(edits: &[Edits]) -> impl Iterator<Item = Value> + '_ {
    edits.iter().flat_map(|edits| &edits.mounts).map(|mount| {
        let mut options = mount.options.clone();
        let kind = if mount.r#type.is_empty() { "bind" } else { &mount.r#type };
        if kind == "bind" && !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.push("rbind".to_owned());
        }
        json!({"destination": mount.container_path, "type": kind, "source": mount.host_path, "options": options})
    })
}

/// The hooks by their moment, in the specification's words; `first` goes before others that make the container.
pub fn hooks(edits: &[Edits], first: Option<Value>) -> Value {
    let mut hooks = serde_json::Map::new();
    hooks.extend(first.map(|first| ("createContainer".to_owned(), json!([first]))));
    for hook in edits.iter().flat_map(|edits| &edits.hooks) {
        let mut value = json!({"path": hook.path, "args": hook.args, "env": hook.env});
        if let Some(timeout) = hook.timeout {
            super::insert(&mut value, "timeout", json!(timeout));
        }
        let list = hooks.entry(hook.hook_name.clone()).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(value);
        }
    }
    Value::Object(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<Spec> {
        let old = json!({"cdiVersion": "0.6.0", "kind": "x.com/gpu", "devices": [{"name": "0", "containerEdits": {"env": ["OLD=1"]}}]});
        let new = json!({
            "cdiVersion": "0.6.0", "kind": "x.com/gpu", "containerEdits": {"env": ["ALL=1"]},
            "devices": [
                {"name": "0", "containerEdits": {
                    "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw", "uid": 7}],
                    "mounts": [{"hostPath": "/lib/x", "containerPath": "/usr/lib/x", "options": ["ro"]}],
                    "hooks": [{"hookName": "createContainer", "path": "/bin/x", "args": ["x"]}],
                }},
                {"name": "1", "containerEdits": {"hooks": [{"hookName": "poststop", "path": "/bin/x"}]}},
            ],
        });
        [old, new].into_iter().map(|value| serde_json::from_value(value).unwrap()).collect()
    }

    #[test]
    fn a_device_brings_what_its_kind_and_itself_need() {
        let edits = resolve(&specs(), &["x.com/gpu=0".into()]).unwrap();
        assert_eq!((edits.len(), edits[0].env.as_slice()), (2, ["ALL=1".to_owned()].as_slice()));
        let node = &edits[1].device_nodes[0];
        assert_eq!(node.on_machine(), "/dev/null");
        let found =
            Device { path: "/dev/gpu0".into(), kind: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 };
        assert_eq!(node.applied(found.clone()), (Device { uid: 7, ..found }, "rw".to_owned()));
        let mounts: Vec<_> = mounts(&edits).collect();
        assert_eq!(mounts[0]["options"], json!(["ro", "rbind"]));
        assert_eq!(hooks(&edits, None)["createContainer"][0]["path"], "/bin/x");
    }

    #[test]
    fn what_is_not_there_or_cannot_be_done_is_refused() {
        for name in ["x.com/gpu=9", "x.com/gpu", "y.com/gpu=0", "x.com/gpu=1"] {
            assert!(resolve(&specs(), &[name.to_owned()]).is_err(), "{name}");
        }
    }
}
