//! The pools of devices that a node can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use schema::quantity::Quantity;

use super::{Site, World, amounts};

/// Counters by set and name.
pub type Counters = BTreeMap<String, BTreeMap<String, Quantity>>;

/// A pool.
#[derive(Debug, Default)]
pub struct Pool {
    pub driver: String,
    pub name: String,
    /// Its driver is about to publish it anew.
    pub is_incomplete: bool,
    /// What its driver has published contradicts itself.
    pub is_invalid: bool,
    /// Slices with devices, some of which the node can reach.
    pub slices: Vec<Arc<ResourceSlice>>,
    /// Slices with devices that it cannot reach: they use the pool's counters as well.
    pub others: Vec<Arc<ResourceSlice>>,
    pub counters: Counters,
}

/// The devices of a slice.
pub fn devices(slice: &ResourceSlice) -> &[Device] {
    slice.spec.devices.as_deref().unwrap_or_default()
}

/// Whether a device can be reached from a node by itself.
pub fn reaches(device: &Device, node: Site<'_>) -> bool {
    match (device.node_name.as_deref().unwrap_or_default(), &device.node_selector) {
        ("", _) if device.all_nodes == Some(true) => true,
        ("", Some(selector)) => node.is_in(selector),
        ("", None) => false,
        (name, _) => name == node.name,
    }
}

fn has_counters(slice: &ResourceSlice) -> bool {
    slice.spec.shared_counters.as_ref().is_some_and(|sets| !sets.is_empty())
}

fn is_relevant(slice: &ResourceSlice, node: Site<'_>) -> bool {
    let spec = &slice.spec;
    if has_counters(slice) {
        return true;
    }
    match (spec.node_name.as_deref().unwrap_or_default(), &spec.node_selector) {
        ("", _) if spec.all_nodes == Some(true) => true,
        ("", Some(selector)) => node.is_in(selector),
        ("", None) => {
            spec.per_device_node_selection == Some(true)
                && devices(slice).iter().any(|device| reaches(device, node))
        }
        (name, _) => name == node.name,
    }
}

/// Whether a pool has devices that must be made ready before they are used.
fn has_conditions(pool: &Pool) -> bool {
    let mut all = pool.slices.iter().flat_map(|slice| devices(slice));
    all.any(|device| device.binding_conditions.is_some())
}

/// The pools of a node, by driver and name; last those with devices that are not ready at once.
pub fn gather(world: &World<'_>, node: Site<'_>) -> Vec<Pool> {
    let own = world.on_node.get(node.name).into_iter().flatten();
    let mut found: BTreeMap<(&str, &str), Vec<&Arc<ResourceSlice>>> = BTreeMap::new();
    for slice in own.chain(&world.anywhere).filter(|slice| is_relevant(slice, node)) {
        let known = found.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default();
        let generation = known.first().map(|first| first.spec.pool.generation);
        match generation.map(|known| known.cmp(&slice.spec.pool.generation)) {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Less) => *known = vec![slice],
            Some(std::cmp::Ordering::Equal) | None => known.push(slice),
        }
    }
    let mut pools: Vec<Pool> =
        found.into_iter().filter_map(|(id, slices)| complete(world, id, slices)).collect();
    pools.sort_by_key(has_conditions);
    pools
}

/// A pool from the slices that the node can reach; `None` when there is a newer generation elsewhere.
fn complete(
    world: &World<'_>,
    (driver, name): (&str, &str),
    slices: Vec<&Arc<ResourceSlice>>,
) -> Option<Pool> {
    let first = slices.first()?;
    let (generation, count) = (first.spec.pool.generation, first.spec.pool.resource_slice_count);
    let is_all = |number: usize| i64::try_from(number) == Ok(count);
    let mut others = Vec::new();
    if !is_all(slices.len()) {
        let of = |slice: &&Arc<ResourceSlice>| slice.spec.driver == driver && slice.spec.pool.name == name;
        let all: Vec<_> = world.all.iter().filter(of).collect();
        if all.iter().any(|slice| slice.spec.pool.generation > generation) {
            return None;
        }
        let all: Vec<_> = all.into_iter().filter(|slice| slice.spec.pool.generation == generation).collect();
        if !is_all(all.len()) {
            let (driver, name) = (driver.to_owned(), name.to_owned());
            return Some(Pool { driver, name, is_incomplete: true, ..Pool::default() });
        }
        let is_near = |slice: &Arc<ResourceSlice>| slices.iter().any(|near| Arc::ptr_eq(near, slice));
        others.extend(all.into_iter().filter(|slice| !is_near(slice)).cloned());
    }
    Some(build(driver, name, slices, others))
}

fn build(
    driver: &str,
    name: &str,
    mut slices: Vec<&Arc<ResourceSlice>>,
    others: Vec<Arc<ResourceSlice>>,
) -> Pool {
    slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let (mut counters, mut is_invalid) = (Counters::new(), false);
    for set in slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
        let amounts =
            set.counters.iter().map(|(name, counter)| (name.clone(), amounts::read(&counter.value)));
        is_invalid |= counters.insert(set.name.clone(), amounts.collect()).is_some();
    }
    let slices: Vec<_> = slices.into_iter().filter(|slice| !has_counters(slice)).cloned().collect();
    let mut names = BTreeSet::new();
    is_invalid |= !slices.iter().flat_map(|slice| devices(slice)).all(|device| names.insert(&device.name));
    let consumed = slices.iter().chain(&others).flat_map(|slice| devices(slice));
    let consumed = consumed.flat_map(|device| device.consumes_counters.iter().flatten());
    let is_known = |name: &String, set: &str| counters.get(set).is_some_and(|set| set.contains_key(name));
    for consumption in consumed {
        let set = consumption.counter_set.as_str();
        is_invalid |=
            !counters.contains_key(set) || !consumption.counters.keys().all(|name| is_known(name, set));
    }
    let (driver, name) = (driver.to_owned(), name.to_owned());
    Pool { driver, name, is_incomplete: false, is_invalid, slices, others, counters }
}
