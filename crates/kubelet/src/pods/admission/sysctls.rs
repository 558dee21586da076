//! Settings of the kernel that a pod may make: those that harm nobody else, and those that the node's owner allows
//! (`pkg/kubelet/sysctl`).

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Pod;

use super::default_sysctls::Defaults;
use super::{Refusal, refuse};
use crate::pods::spec::PodExt;

/// Upstream's list, each with the version of the kernel since which a network namespace has its own.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];
/// Upstream's limit.
pub(super) const LONGEST: usize = 253;

/// What belongs to a namespace of messages, semaphores and shared memory.
pub(super) const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A namespace of the kernel, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    /// Which a setting is of, as far as is known.
    fn of(name: &str) -> Option<Self> {
        match name {
            // The beginnings of patterns, `kernel.shm*`.
            "kernel.shm" | "kernel.msg" => Some(Self::Ipc),
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Self::Ipc),
            name if name.starts_with("net.") => Some(Self::Net),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }
}

/// What pods of a node may set, and what is set for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sysctls {
    pub allowed: Allowed,
    defaults: Defaults,
}

impl Sysctls {
    /// As a configuration has them, on a kernel of this version.
    ///
    /// # Errors
    /// Names the first that cannot be.
    pub fn new(
        kernel: &str,
        patterns: &[String],
        defaults: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        Ok(Self { allowed: Allowed::new(kernel, patterns)?, defaults: Defaults::new(defaults)? })
    }

    /// What is set for a pod: its own settings, and those of others that the node has for every one.
    pub fn of(&self, pod: &Pod) -> HashMap<String, String> {
        let own = pod.security().and_then(|security| security.sysctls.as_ref()).into_iter().flatten();
        let said = |name: &str| own.clone().any(|own| normal(&own.name) == name);
        let usual = self.defaults.of(pod).filter(|(name, _)| !said(name));
        let own = own.clone().map(|sysctl| (sysctl.name.as_str(), sysctl.value.as_str()));
        usual.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// What is allowed on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    names: BTreeMap<String, Namespace>,
    prefixes: BTreeMap<String, Namespace>,
}

/// `net/ipv4/conf.eth0/x` is `net.ipv4.conf.eth0.x` when a slash parts first, as upstream reads it.
pub(super) fn normal(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some("/") => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Whether a pattern is written as it may be: parts of small letters, digits, `-` and `_`; a `*` may end it.
pub(super) fn is_pattern(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.chars().all(inner) && part.starts_with(edge) && part.ends_with(edge)
    };
    let parts: Vec<&str> = text.split(['.', '/']).collect();
    let Some((last, first)) = parts.split_last() else { return false };
    let last_fits = match last.strip_suffix('*') {
        Some(stem) => stem.is_empty() || part(stem.trim_end_matches(['-', '_'])),
        None => part(last),
    };
    text.len() <= LONGEST && first.iter().all(|one| part(one)) && last_fits
}

impl Allowed {
    /// The safe ones that the kernel (`6.1.0-13-amd64`) keeps apart, and `allowedUnsafeSysctls`.
    ///
    /// # Errors
    /// Names the first pattern that is none, or that no namespace keeps apart.
    pub fn new(kernel: &str, patterns: &[String]) -> Result<Self, String> {
        let mut allowed = Self::default();
        let has = version(kernel);
        for (name, since) in SAFE {
            if let Some(namespace) = Namespace::of(name).filter(|_| has >= since) {
                allowed.names.insert(name.to_owned(), namespace);
            }
        }
        for pattern in patterns {
            if !is_pattern(pattern) {
                return Err(format!(
                    "sysctl {pattern:?} must have at most {LONGEST} characters and match regex ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
                ));
            }
            let name = normal(pattern);
            let (stem, list) = match name.split_once('*') {
                Some((stem, _)) => (stem, &mut allowed.prefixes),
                None => (name.as_str(), &mut allowed.names),
            };
            let unknown = || format!("the sysctls {stem:?} are not known to be namespaced");
            list.insert(stem.to_owned(), Namespace::of(stem).ok_or_else(unknown)?);
        }
        Ok(allowed)
    }

    /// Whether a pod's settings are allowed.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(&self, pod: &Pod) -> Result<(), Refusal> {
        let host_ipc = pod.spec().and_then(|spec| spec.host_ipc).unwrap_or(false);
        for sysctl in pod.security().and_then(|security| security.sysctls.as_ref()).into_iter().flatten() {
            let name = normal(&sysctl.name);
            let forbid = |why: String| Err(refuse("SysctlForbidden", format!("forbidden sysctl: {why}")));
            let by_prefix =
                || self.prefixes.iter().find(|(prefix, _)| name.starts_with(*prefix)).map(|(_, of)| of);
            let Some(namespace) = self.names.get(&name).or_else(by_prefix).copied() else {
                return forbid(format!("{name:?} not allowlisted"));
            };
            let shared = match namespace {
                Namespace::Ipc => host_ipc,
                Namespace::Net => pod.host_network(),
            };
            if shared {
                return forbid(format!("{name:?} not allowed with host {} enabled", namespace.name()));
            }
        }
        Ok(())
    }
}

/// Of a kernel: the first two numbers. What cannot be read is older than all.
fn version(kernel: &str) -> (u32, u32) {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(name: &str, host: bool) -> Pod {
        let spec = json!({"hostNetwork": host, "hostIPC": host, "containers": [],
                          "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn check(allowed: &Allowed, name: &str, host: bool) -> Result<(), String> {
        allowed.check(&with(name, host)).map_err(|refusal| {
            assert_eq!(refusal.reason, "SysctlForbidden");
            refusal.message
        })
    }

    #[test]
    fn safe_ones_are_allowed_where_the_kernel_keeps_them_apart() {
        let safe = Allowed::new("6.1.0-13-amd64", &[]).unwrap();
        assert_eq!(check(&safe, "net.ipv4.tcp_syncookies", false), Ok(()));
        assert_eq!(check(&safe, "net/ipv4/tcp_rmem", false), Ok(()));
        assert_eq!(
            check(&safe, "kernel.msgmax", false),
            Err("forbidden sysctl: \"kernel.msgmax\" not allowlisted".to_owned())
        );
        assert_eq!(
            check(&safe, "net.ipv4.tcp_syncookies", true),
            Err("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled".to_owned())
        );
        assert_eq!(
            check(&safe, "kernel.shm_rmid_forced", true),
            Err("forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled".to_owned())
        );
        let old = Allowed::new("4.9.0", &[]).unwrap();
        assert!(check(&old, "net.ipv4.tcp_rmem", false).is_err());
        assert_eq!(check(&old, "net.ipv4.tcp_fin_timeout", false), Ok(()));
    }

    #[test]
    fn what_a_pod_says_wins_over_what_every_pod_has() {
        let usual =
            [("net.core.somaxconn", "9"), ("kernel.sem", "8")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let defaults = Defaults::new(&usual.into()).unwrap();
        let sysctls = Sysctls { defaults, ..Sysctls::default() };
        let shown = |name: &str| {
            let mut all: Vec<_> = sysctls.of(&with(name, false)).into_iter().collect();
            all.sort();
            all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("net/core/somaxconn"), "kernel.sem=8 net/core/somaxconn=1");
        assert_eq!(shown("net.a"), "kernel.sem=8 net.a=1 net.core.somaxconn=9");
    }

    #[test]
    fn the_owner_allows_more_by_name_and_by_pattern() {
        let patterns = ["kernel.msg*", "net.core.somaxconn", "net.ipv4.route.*"].map(str::to_owned);
        let allowed = Allowed::new("6.1", &patterns).unwrap();
        for name in ["kernel.msgmax", "kernel.msgmni", "net.core.somaxconn", "net.ipv4.route.min_pmtu"] {
            assert_eq!(check(&allowed, name, false), Ok(()), "{name}");
            assert!(check(&allowed, name, true).is_err(), "{name}");
        }
        assert!(check(&allowed, "net.core.somaxconn2", false).is_err());
        for wrong in ["vm.swappiness", "kernel.*", "NET.x", "net..x", "*", "net.*.x", ""] {
            assert!(Allowed::new("6.1", &[wrong.to_owned()]).is_err(), "{wrong:?}");
        }
    }
}
