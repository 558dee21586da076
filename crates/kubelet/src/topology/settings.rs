//! The fields of a KubeletConfiguration that say how containers are placed.

use std::collections::BTreeMap;

use super::{Machine, Numa};
use crate::configuration::Fields;

/// More NUMA nodes than this have too many sets of them, unless an option says otherwise.
const MOST_NODES: usize = 8;

/// What a place has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nobody asks.
    None,
    BestEffort,
    Restricted,
    SingleNumaNode,
}

/// How containers are placed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub policy: Policy,
    /// All containers of a pod together.
    pub whole_pods: bool,
    pub numa: Numa,
}

/// An option that is on or off, as Go reads it.
///
/// # Errors
/// Names what is neither.
pub fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "bad value for option {name:?}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        )),
    }
}

impl Settings {
    /// As the configuration says it for this machine.
    ///
    /// # Errors
    /// Names what cannot be, in upstream's words.
    pub fn new(fields: &Fields, machine: &Machine) -> Result<Self, String> {
        let policy = match fields.topology_manager_policy.as_str() {
            "none" => Policy::None,
            "best-effort" => Policy::BestEffort,
            "restricted" => Policy::Restricted,
            "single-numa-node" => Policy::SingleNumaNode,
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let whole_pods = match fields.topology_manager_scope.as_str() {
            "container" => false,
            "pod" => true,
            other => return Err(format!("unknown scope: {other:?}")),
        };
        let nodes: Vec<i64> = machine.nodes.iter().map(|node| node.id).collect();
        let mut numa = Numa { nodes, ..Numa::default() };
        if policy != Policy::None {
            let most = options(&fields.topology_manager_policy_options, &mut numa)?;
            if numa.nodes.len() > most {
                return Err(format!("unsupported on machines with more than {most} NUMA Nodes"));
            }
            numa.distances = machine.nodes.iter().map(|node| (node.id, node.distances.clone())).collect();
        }
        Ok(Self { policy, whole_pods, numa })
    }
}

fn options(given: &BTreeMap<String, String>, numa: &mut Numa) -> Result<usize, String> {
    let mut most = MOST_NODES;
    for (name, value) in given {
        match name.as_str() {
            "prefer-closest-numa-nodes" => numa.prefer_closest = flag(name, value)?,
            "max-allowable-numa-nodes" => {
                most = value
                    .parse()
                    .map_err(|_| format!("unable to convert policy option to integer {name:?}: {value:?}"))?;
                if most < MOST_NODES {
                    return Err(format!(
                        "the minimum value of {name:?} should not be less than {MOST_NODES}"
                    ));
                }
            }
            _ => return Err(format!("unknown Topology Manager Policy option: {name:?}")),
        }
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;
    use crate::topology::Node;

    #[test]
    fn options_are_read_and_large_machines_refused() {
        let node = |id| Node { id, distances: vec![10], ..Node::default() };
        let machine = |count| Machine { nodes: (0..count).map(node).collect(), ..Machine::default() };
        let mut fields = Configuration::defaults().unwrap().fields;
        let new = |fields: &Fields, count| Settings::new(fields, &machine(count));
        assert_eq!(new(&fields, 9).unwrap().policy, Policy::None);
        fields.topology_manager_policy = "restricted".to_owned();
        fields.topology_manager_scope = "pod".to_owned();
        assert_eq!(new(&fields, 9).unwrap_err(), "unsupported on machines with more than 8 NUMA Nodes");
        for (name, value, wrong) in [
            ("prefer-closest-numa-nodes", "true", None),
            ("prefer-closest-numa-nodes", "very", Some("bad value for option")),
            ("max-allowable-numa-nodes", "9", None),
            ("max-allowable-numa-nodes", "7", Some("should not be less than 8")),
            ("best", "true", Some("unknown Topology Manager Policy option: \"best\"")),
        ] {
            fields.topology_manager_policy_options = [(name.to_owned(), value.to_owned())].into();
            let count = if name.starts_with("max") { 9 } else { 1 };
            match (new(&fields, count), wrong) {
                (Ok(settings), None) => assert!(settings.whole_pods && !settings.numa.nodes.is_empty()),
                (Err(error), Some(words)) => assert!(error.contains(words), "{error}"),
                other => panic!("{name}={value}: {other:?}"),
            }
        }
    }
}
