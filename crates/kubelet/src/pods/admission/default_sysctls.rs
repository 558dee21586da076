//! Settings of the kernel that every pod has unless it says otherwise (`defaultPodSysctls`, KEP-5996).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use super::sysctls::{IPC, LONGEST, is_pattern, normal};
use crate::pods::spec::PodExt;

/// Which namespace keeps a setting apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
    User,
    Uts,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        match name {
            "kernel.domainname" => Some(Self::Uts),
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Self::Ipc),
            name if name.starts_with("net.") => Some(Self::Net),
            name if name.starts_with("user.") => Some(Self::User),
            _ => None,
        }
    }

    /// Whether a pod has one of its own.
    fn is_own(self, pod: &Pod) -> bool {
        let spec = pod.spec();
        match self {
            Self::Ipc => !spec.and_then(|spec| spec.host_ipc).unwrap_or(false),
            Self::Net | Self::Uts => !pod.host_network(),
            Self::User => spec.and_then(|spec| spec.host_users) == Some(false),
        }
    }
}

/// The settings, by their names with dots.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Defaults(Vec<(String, String, Namespace)>);

impl Defaults {
    /// As a configuration has them.
    ///
    /// # Errors
    /// Names the first that is no name, that no namespace keeps apart, or that is there twice.
    pub fn new(settings: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        let one = |(name, value): (&String, &String)| {
            if !is_pattern(name) || name.contains('*') {
                return Err(format!(
                    "defaultPodSysctls: {name:?} must have at most {LONGEST} characters and be the name of a sysctl"
                ));
            }
            let normal = normal(name);
            let namespace = Namespace::of(&normal).ok_or_else(|| {
                format!("defaultPodSysctls: the sysctl {name:?} is not known to be namespaced")
            })?;
            if !names.insert(normal.clone()) {
                return Err(format!("defaultPodSysctls: the sysctl {normal:?} is set twice"));
            }
            Ok((normal, value.clone(), namespace))
        };
        settings.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// What of them a pod gets: not what it shares with the machine.
    pub fn of(&self, pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
        let own = self.0.iter().filter(|(.., namespace)| namespace.is_own(pod));
        own.map(|(name, value, _)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defaults(names: &[&str]) -> Result<Defaults, String> {
        Defaults::new(&names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect())
    }

    #[test]
    fn a_pod_has_what_it_does_not_share() {
        let all = defaults(&[
            "net/core/somaxconn",
            "kernel.sem",
            "fs.mqueue.msg_max",
            "user.x",
            "kernel.domainname",
        ]);
        let all = all.unwrap();
        let names = |spec: serde_json::Value| -> Vec<String> {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            all.of(&pod).map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(
            names(json!({"containers": [], "hostUsers": false})),
            ["fs.mqueue.msg_max", "kernel.domainname", "kernel.sem", "net.core.somaxconn", "user.x"]
        );
        assert_eq!(
            names(json!({"containers": [], "hostNetwork": true})),
            ["fs.mqueue.msg_max", "kernel.sem"]
        );
        assert_eq!(
            names(json!({"containers": [], "hostIPC": true, "hostUsers": true})),
            ["kernel.domainname", "net.core.somaxconn"]
        );
    }

    #[test]
    fn what_is_not_kept_apart_is_refused() {
        for (wrong, why) in [
            (&["vm.swappiness"][..], "not known to be namespaced"),
            (&["kernel.msg"], "not known to be namespaced"),
            (&["net.*"], "be the name of a sysctl"),
            (&["Net.x"], "be the name of a sysctl"),
            (&["net.x", "net/x"], "\"net.x\" is set twice"),
        ] {
            let told = defaults(wrong).unwrap_err();
            assert!(told.ends_with(why), "{told}");
        }
    }
}
