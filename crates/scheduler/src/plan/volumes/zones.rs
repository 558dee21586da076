//! Volumes that say by their labels where they are (upstream's `VolumeZone`).

use std::collections::BTreeMap;

use crate::view::VolumeView;

type Labels = BTreeMap<String, String>;

/// Labels that say where something is; with each the one that took its place.
const KEYS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// Where a volume is.
#[derive(Debug)]
pub(super) struct Zone {
    key: &'static str,
    newer: &'static str,
    /// In one of these.
    values: Vec<String>,
}

/// Where a volume is, as far as it says so.
pub(super) fn of(volume: &VolumeView) -> impl Iterator<Item = Zone> {
    KEYS.iter().filter_map(|&(key, newer)| {
        let values: Vec<String> =
            volume.metadata.labels.get(key)?.split("__").map(|value| value.trim().to_owned()).collect();
        // What cannot be read is as good as not there.
        let is_whole = values.iter().all(|value| !value.is_empty());
        is_whole.then_some(Zone { key, newer, values })
    })
}

/// Whether a node with such labels is there. One that does not say where it is is everywhere.
pub(super) fn check(zones: &[Zone], labels: &Labels) -> Result<(), &'static str> {
    let holds = |zone: &Zone| {
        let value = labels.get(zone.key).or_else(|| labels.get(zone.newer));
        value.is_some_and(|value| zone.values.contains(value))
    };
    let says = || KEYS.iter().any(|(key, _)| labels.contains_key(*key));
    match zones.is_empty() || !says() || zones.iter().all(holds) {
        true => Ok(()),
        false => Err("node(s) had no available volume zone"),
    }
}
