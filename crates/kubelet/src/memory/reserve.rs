//! What system and Kubernetes keep of each NUMA node (`reservedMemory`). Pure.

use std::collections::BTreeMap;

use schema::quantity::{Format, Quantity};

use super::state::{NodeState, Table};
use crate::configuration::Fields;
use crate::topology::Machine;

/// Bytes by NUMA node and kind.
type Reserved = BTreeMap<i64, BTreeMap<String, u64>>;

/// The NUMA nodes with nothing given of them; `total` is what is reserved of the whole node, in bytes by kind.
///
/// # Errors
/// Names what does not fit together, in upstream's words.
pub fn nodes(
    fields: &Fields,
    machine: &Machine,
    total: &BTreeMap<String, i64>,
) -> Result<BTreeMap<i64, NodeState>, String> {
    let reserved = reserved(fields, machine)?;
    check(&reserved, total)?;
    let of = |id: i64, kind: &str| reserved.get(&id).and_then(|kinds| kinds.get(kind)).copied().unwrap_or(0);
    let table = |total: u64, system_reserved: u64, elsewhere: u64| {
        let allocatable = total.saturating_sub(system_reserved).saturating_sub(elsewhere);
        Table { total, system_reserved, allocatable, reserved: 0, free: allocatable }
    };
    let nodes = machine.nodes.iter().map(|node| {
        let pages = node.huge_pages.iter();
        let mut memory_map: BTreeMap<String, Table> =
            pages.map(|(kind, bytes)| (kind.clone(), table(*bytes, of(node.id, kind), 0))).collect();
        let in_pages = node.huge_pages.values().sum();
        memory_map.insert("memory".to_owned(), table(node.memory, of(node.id, "memory"), in_pages));
        (node.id, NodeState { number_of_assignments: 0, memory_map, cells: vec![node.id] })
    });
    Ok(nodes.collect())
}

fn reserved(fields: &Fields, machine: &Machine) -> Result<Reserved, String> {
    let mut all = Reserved::new();
    for reservation in &fields.reserved_memory {
        let id = i64::from(reservation.numa_node);
        if !machine.nodes.iter().any(|node| node.id == id) {
            return Err(format!(
                "the reserved memory configuration references a NUMA node {id} that does not exist on this machine"
            ));
        }
        for (kind, text) in &reservation.limits {
            let amount = text.parse::<Quantity>().map_err(|_| format!("{kind}: {text:?} is no quantity"))?;
            let amount = u64::try_from(amount.value())
                .map_err(|_| format!("reservedMemory: {kind}: {text:?} is negative"))?;
            all.entry(id).or_default().insert(kind.clone(), amount);
        }
    }
    Ok(all)
}

/// What is reserved of all NUMA nodes is what is reserved of the node.
fn check(reserved: &Reserved, total: &BTreeMap<String, i64>) -> Result<(), String> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (kind, amount) in reserved.values().flatten() {
        *sums.entry(kind).or_default() += i64::try_from(*amount).unwrap_or(i64::MAX);
    }
    let relevant = |kind: &&String| *kind == "memory" || kind.starts_with("hugepages-");
    let kinds = total.keys().filter(relevant).map(String::as_str).chain(sums.keys().copied());
    for kind in kinds.collect::<std::collections::BTreeSet<_>>() {
        let sum = sums.get(kind).copied().unwrap_or(0);
        let wanted = total.get(kind).copied().unwrap_or(0);
        if sum != wanted {
            let text = |bytes| Quantity::from_int(bytes, Format::BinarySi).to_string();
            return Err(format!(
                "the total amount {:?} of type {kind:?} is not equal to the value {:?} determined by Node Allocatable feature",
                text(sum),
                text(wanted)
            ));
        }
    }
    match sums.get("memory") {
        Some(sum) if *sum > 0 => Ok(()),
        _ => Err("[memorymanager] you should specify the system reserved memory".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;
    use crate::configuration::ReservedMemory;
    use crate::topology::Node;

    #[test]
    fn what_is_reserved_of_the_parts_is_what_is_reserved_of_the_whole() {
        let pages = BTreeMap::from([("hugepages-2Mi".to_owned(), 4 << 20)]);
        let node = |id| Node { id, memory: 64 << 20, huge_pages: pages.clone(), distances: vec![] };
        let machine = Machine { nodes: vec![node(0), node(1)], ..Machine::default() };
        let mut fields = Configuration::defaults().unwrap().fields;
        let reserve = |list: &[(i32, &str, &str)]| {
            let one = |(numa_node, kind, text): &(i32, &str, &str)| ReservedMemory {
                numa_node: *numa_node,
                limits: [((*kind).to_owned(), (*text).to_owned())].into(),
            };
            list.iter().map(one).collect::<Vec<_>>()
        };
        let total = BTreeMap::from([("memory".to_owned(), 24 << 20), ("cpu".to_owned(), 1)]);
        fields.reserved_memory = reserve(&[(0, "memory", "16Mi"), (1, "memory", "8Mi")]);
        let found = nodes(&fields, &machine, &total).unwrap();
        let memory = &found[&0].memory_map["memory"];
        assert_eq!((memory.total >> 20, memory.system_reserved >> 20, memory.free >> 20), (64, 16, 44));
        assert_eq!(found[&1].memory_map["hugepages-2Mi"].free, 4 << 20);
        fields.reserved_memory = reserve(&[(0, "memory", "16Mi")]);
        assert_eq!(
            nodes(&fields, &machine, &total).unwrap_err(),
            "the total amount \"16Mi\" of type \"memory\" is not equal to the value \"24Mi\" determined by Node Allocatable feature"
        );
        fields.reserved_memory = reserve(&[(2, "memory", "24Mi")]);
        assert!(nodes(&fields, &machine, &total).unwrap_err().contains("NUMA node 2 that does not exist"));
        fields.reserved_memory = Vec::new();
        let nothing = nodes(&fields, &machine, &BTreeMap::new()).unwrap_err();
        assert!(nothing.contains("you should specify the system reserved memory"));
    }
}
