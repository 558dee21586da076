use cri::v1::LinuxContainerSecurityContext;
use serde_json::{Value, json};

use super::PlanError;

/// By number, as in `linux/capability.h`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers have unless they say otherwise; the same with every runtime.
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

fn bit(name: &str) -> Result<u64, PlanError> {
    let plain = name.to_ascii_uppercase();
    let plain = plain.strip_prefix("CAP_").unwrap_or(&plain);
    let at = NAMES.iter().position(|known| *known == plain);
    at.map(|at| 1 << at).ok_or_else(|| PlanError::Capability(name.to_owned()))
}

fn bits<'a>(names: impl IntoIterator<Item = &'a String>, all: u64) -> Result<u64, PlanError> {
    names
        .into_iter()
        .try_fold(0, |bits, name| Ok(bits | if name.eq_ignore_ascii_case("ALL") { all } else { bit(name)? }))
}

fn names(bits: u64) -> Vec<String> {
    NAMES
        .iter()
        .enumerate()
        .filter(|(at, _)| bits & (1 << at) != 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

/// The five sets. What we do not have ourselves we cannot give.
pub fn plan(context: &LinuxContainerSecurityContext, ours: u64) -> Result<Value, PlanError> {
    let every = (1 << NAMES.len()) - 1;
    let wanted = context.capabilities.clone().unwrap_or_default();
    let mut set = if context.privileged {
        every
    } else {
        let default = DEFAULT.iter().try_fold(0, |set, name| bit(name).map(|bit| set | bit))?;
        let (add, drop) = (&wanted.add_capabilities, &wanted.drop_capabilities);
        // ALL is applied first, whichever list it is in, so that the other list can refine it.
        let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let base = if all(drop) { 0 } else { default };
        let base = if all(add) { every } else { base };
        let single = |list: &[String]| -> Vec<String> {
            list.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")).cloned().collect()
        };
        (base | bits(&single(add), every)?) & !bits(&single(drop), every)?
    };
    let ambient = bits(&wanted.add_ambient_capabilities, every)? & ours;
    set = (set | ambient) & ours;
    Ok(json!({
        "bounding": names(set),
        "effective": names(set),
        "permitted": names(set),
        "inheritable": names(ambient),
        "ambient": names(ambient),
    }))
}

#[cfg(test)]
mod tests {
    use cri::v1::Capability;

    use super::*;

    fn bounding(add: &[&str], drop: &[&str], ours: u64) -> Vec<String> {
        let list = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        let context = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: list(add),
                drop_capabilities: list(drop),
                ..Default::default()
            }),
            ..Default::default()
        };
        serde_json::from_value(plan(&context, ours).unwrap()["bounding"].clone()).unwrap()
    }

    #[test]
    fn all_can_be_dropped_and_refined() {
        assert_eq!(bounding(&[], &[], u64::MAX).len(), 14);
        assert_eq!(bounding(&["NET_ADMIN"], &["ALL"], u64::MAX), ["CAP_NET_ADMIN"]);
        assert_eq!(bounding(&["cap_net_admin", "ALL"], &["KILL"], u64::MAX).len(), NAMES.len() - 1);
        assert_eq!(bounding(&["ALL"], &[], 1 << 12), ["CAP_NET_ADMIN"]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let context = LinuxContainerSecurityContext {
            capabilities: Some(Capability { add_capabilities: vec!["FLY".into()], ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(plan(&context, u64::MAX), Err(PlanError::Capability("FLY".into())));
    }
}
