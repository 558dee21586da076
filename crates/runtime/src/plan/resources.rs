use std::path::Path;

use cri::v1::LinuxContainerResources;
use serde_json::{Value, json};

use super::{Device, Machine};
use crate::cgroup;

/// The limits, in the specification's words. What is not limited is left out.
pub fn plan(
    wanted: &LinuxContainerResources,
    privileged: bool,
    machine: &Machine,
    extra: &[(Device, String)],
) -> Value {
    let mut resources = json!({});
    let mut set = |key: &str, value: Value| {
        if let Some(map) = resources.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    let mut cpu = serde_json::Map::new();
    for (key, value) in
        [("period", wanted.cpu_period), ("quota", wanted.cpu_quota), ("shares", wanted.cpu_shares)]
    {
        if value != 0 && !(key == "shares" && machine.unified_cgroups) {
            cpu.insert(key.to_owned(), json!(value));
        }
    }
    for (key, value) in [("cpus", &wanted.cpuset_cpus), ("mems", &wanted.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(key.to_owned(), json!(value));
        }
    }
    if !cpu.is_empty() {
        set("cpu", cpu.into());
    }
    if wanted.memory_limit_in_bytes > 0 {
        let mut memory = serde_json::Map::new();
        memory.insert("limit".to_owned(), json!(wanted.memory_limit_in_bytes));
        if wanted.memory_swap_limit_in_bytes > 0 {
            memory.insert("swap".to_owned(), json!(wanted.memory_swap_limit_in_bytes));
        }
        set("memory", memory.into());
    }
    // A kubelet names every size of the machine, most of them with 0. Where nothing counts huge pages, there is nothing
    // to be said of them; containerd leaves them out as well.
    let pages: Vec<Value> = wanted
        .hugepage_limits
        .iter()
        .filter(|_| machine.hugetlb)
        .map(|limit| json!({"pageSize": limit.page_size, "limit": limit.limit}))
        .collect();
    if !pages.is_empty() {
        set("hugepageLimits", json!(pages));
    }
    let mut unified: std::collections::BTreeMap<String, String> =
        wanted.unified.clone().into_iter().collect();
    if machine.unified_cgroups && wanted.cpu_shares > 0 {
        let weight = cgroup::weight(wanted.cpu_shares as u64);
        unified.entry("cpu.weight".to_owned()).or_insert_with(|| weight.to_string());
    }
    if machine.unified_cgroups && !unified.is_empty() {
        set("unified", json!(unified));
    }
    let mut devices = vec![json!({"allow": privileged, "access": "rwm"})];
    for (device, access) in extra {
        devices.push(json!({
            "allow": true, "type": device.kind.to_string(), "major": device.major, "minor": device.minor, "access": access,
        }));
    }
    set("devices", json!(devices));
    resources
}

/// What may be used, for where we limit that ourselves.
pub fn rules(privileged: bool, extra: &[(Device, String)]) -> cgroup::Devices {
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let allowed = extra.iter().map(|(device, access)| {
        cgroup::Rule::device(device.kind, number(device.major), number(device.minor), access)
    });
    cgroup::Devices { all: privileged, allowed: allowed.collect() }
}

/// Whether a device is below `/dev`: nodes are made only there.
pub fn is_node(path: &str) -> bool {
    Path::new(path).starts_with("/dev")
}

/// Device nodes to make: those that the container names, or all. What it wants to see elsewhere is mounted there.
pub fn devices(privileged: bool, machine: &Machine, extra: &[(Device, String)]) -> Vec<Value> {
    let named = extra.iter().map(|(device, _)| device).filter(|device| is_node(&device.path));
    let all = machine.devices.iter().filter(|_| privileged);
    named
        .chain(all)
        .map(|device| {
            json!({
                "path": device.path, "type": device.kind.to_string(), "major": device.major, "minor": device.minor,
                "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlimited_is_left_out() {
        let none = plan(&LinuxContainerResources::default(), false, &Machine::default(), &[]);
        assert_eq!(none, json!({"devices": [{"allow": false, "access": "rwm"}]}));
    }

    #[test]
    fn huge_pages_are_limited_where_the_kernel_can() {
        let limit = cri::v1::HugepageLimit { page_size: "2MB".into(), limit: 0 };
        let wanted = LinuxContainerResources { hugepage_limits: vec![limit], ..Default::default() };
        assert_eq!(plan(&wanted, false, &Machine::default(), &[]).get("hugepageLimits"), None);
        let able = plan(&wanted, false, &Machine { hugetlb: true, ..Machine::default() }, &[]);
        assert_eq!(able["hugepageLimits"], json!([{"pageSize": "2MB", "limit": 0}]));
    }

    #[test]
    fn shares_become_a_weight_on_version_2() {
        let wanted =
            LinuxContainerResources { cpu_shares: 1024, memory_limit_in_bytes: 5, ..Default::default() };
        let v1 = plan(&wanted, false, &Machine::default(), &[]);
        assert_eq!((v1["cpu"]["shares"].as_i64(), v1["memory"]["limit"].as_i64()), (Some(1024), Some(5)));
        let v2 = plan(&wanted, false, &Machine { unified_cgroups: true, ..Machine::default() }, &[]);
        assert_eq!((v2.get("cpu"), v2["unified"]["cpu.weight"].as_str()), (None, Some("100")));
    }
}
