//! The failpoints of a node, as its sources name them: one that is new is there without being named here.

use std::collections::BTreeSet;
use std::path::Path;

/// The kubelet's calls of the runtime that change something; before and after each of them is a place. Containers are
/// removed with their sandbox.
const CALLS: [&str; 6] = [
    "run_podsandbox",
    "create_container",
    "start_container",
    "stop_container",
    "stop_podsandbox",
    "remove_podsandbox",
];
/// Places that no life of a pod comes to: they have tests of their own.
const ELSEWHERE: [&str; 7] = [
    // Only what shares its processes outlives its first one (`node_faults`).
    "runtime.cgroup.frozen",
    // Whoever makes a shim anew has lost one.
    "runtime.shim.spawned_again",
    "runtime.shim.adopted",
    // Rotation waits for ten megabytes.
    "kubelet.log.moved",
    // Claims need a driver.
    "kubelet.claims.noted",
    "kubelet.claims.prepared",
    "kubelet.claims.unprepared",
];
/// Every place that the sources name.
pub fn places() -> Vec<String> {
    fn below(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let named = text.split("failpoint::hit(\"").skip(1);
                found.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for name in ["kubelet", "net", "runtime"] {
        below(&crates.join(name).join("src"), &mut found);
    }
    for call in CALLS {
        found.extend(["asked", "answered"].map(|at| format!("kubelet.{call}.{at}")));
    }
    found.retain(|place| !ELSEWHERE.contains(&place.as_str()));
    found.into_iter().collect()
}

/// Whether only a pull comes there: what is imported does not arrive bit by bit.
pub fn is_of_pulls(place: &str) -> bool {
    ["runtime.image.layer_arrived", "runtime.image.layer_pulled"].contains(&place)
}

/// Whether a pod's shim is there while its runtime comes to a place.
pub fn has_shim(place: &str) -> bool {
    let without = [
        "begun",
        "recorded",
        "shim_ended",
        "unmounted",
        "cleared",
        "stopped",
        "emptied",
        "removed",
        "folder_removed",
    ];
    match place.strip_prefix("runtime.sandbox.") {
        Some(at) => !without.contains(&at),
        None => place.starts_with("runtime.container.") || place.starts_with("runtime.exec."),
    }
}
