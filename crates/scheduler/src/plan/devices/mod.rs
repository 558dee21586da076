//! Which devices a node can give to claims (KEP-4381, `structured.Allocator`): an exhaustive search with backtracking
//! that takes the first solution. Pure.
//!
//! `pools` says what a node can reach, `request` what is asked for, `rules` what must hold between devices, `amounts`
//! counts what devices share, `search` tries, `give` gives and takes back, `result` writes down what was found.
//!
//! Invariant: a device that is not for all comers is given once, over all claims of the cluster and those in the making.

mod amounts;
mod give;
mod pools;
mod request;
mod result;
mod rules;
mod search;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice,
};
use kinds::matching::selects;
use schema::quantity::Quantity;

/// At most so many devices in one claim (`resource.AllocationResultsMaxSize`).
const MOST_RESULTS: usize = 32;
/// So many steps of a search stand for upstream's ten seconds.
const MOST_STEPS: usize = 200_000;

/// Driver, pool and name of a device.
pub type DeviceId = (String, String, String);

/// What claims have already.
#[derive(Debug, Clone, Default)]
pub struct Allocated {
    /// Devices that are somebody's alone.
    pub devices: HashSet<DeviceId>,
    /// Devices that several have a part of.
    pub shared: HashSet<DeviceId>,
    /// What is taken of their capacity.
    pub capacity: HashMap<DeviceId, BTreeMap<String, Quantity>>,
}

impl Allocated {
    /// Counts an allocation. Devices for administrators are not taken from anybody.
    pub fn add(&mut self, allocation: &AllocationResult) {
        let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
        for result in results.filter(|result| result.admin_access != Some(true)) {
            let id = (result.driver.clone(), result.pool.clone(), result.device.clone());
            if result.share_id.is_none() {
                self.devices.insert(id);
                continue;
            }
            for (name, amount) in result.consumed_capacity.iter().flatten() {
                let taken = self.capacity.entry(id.clone()).or_default();
                amounts::add(taken, name, &amounts::read(amount));
            }
            self.shared.insert(id);
        }
    }
}

/// Why nothing can be said of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Something is wrong that has nothing to do with the node; in upstream's words.
    Error(String),
    /// Something is wrong with what the node can reach; others may do.
    Node(String),
}

/// All devices, and who has them.
pub struct World<'a> {
    on_node: HashMap<&'a str, Vec<&'a Arc<ResourceSlice>>>,
    anywhere: Vec<&'a Arc<ResourceSlice>>,
    all: &'a [Arc<ResourceSlice>],
    classes: &'a HashMap<String, Arc<DeviceClass>>,
    rules: &'a [Arc<DeviceTaintRule>],
    allocated: &'a Allocated,
    expressions: &'a cel::Cache,
}

/// A node, as far as devices care.
#[derive(Debug, Clone, Copy)]
pub struct Site<'n> {
    /// Its name.
    pub name: &'n str,
    /// Its labels.
    pub labels: &'n BTreeMap<String, String>,
}

impl Site<'_> {
    /// Whether a selector means this node.
    pub fn is_in(&self, selector: &NodeSelector) -> bool {
        selector.node_selector_terms.iter().any(|term| selects(term, self.name, self.labels))
    }
}

impl<'a> World<'a> {
    /// With all slices and classes of the cluster, and all rules that taint devices.
    pub fn new(
        all: &'a [Arc<ResourceSlice>],
        classes: &'a HashMap<String, Arc<DeviceClass>>,
        rules: &'a [Arc<DeviceTaintRule>],
        allocated: &'a Allocated,
        expressions: &'a cel::Cache,
    ) -> Self {
        let mut on_node: HashMap<&str, Vec<&Arc<ResourceSlice>>> = HashMap::new();
        let mut anywhere = Vec::new();
        for slice in all {
            let has_counters = slice.spec.shared_counters.as_ref().is_some_and(|sets| !sets.is_empty());
            match slice.spec.node_name.as_deref().filter(|name| !name.is_empty() && !has_counters) {
                Some(node) => on_node.entry(node).or_default().push(slice),
                None => anywhere.push(slice),
            }
        }
        Self { on_node, anywhere, all, classes, rules, allocated, expressions }
    }

    /// What each claim would get on a node; `None` when not all of them get what they ask for. Shares of devices that
    /// several may have bear an empty ID.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn allocate(
        &self,
        node: Site<'_>,
        claims: &[Arc<ResourceClaim>],
    ) -> Result<Option<Vec<AllocationResult>>, Refusal> {
        let pools = pools::gather(self, node);
        let mut search = search::Search::new(self, node, &pools, claims)?;
        if !search.run()? {
            if pools.iter().any(|pool| pool.is_invalid) {
                let why = "invalid resource pools were encountered";
                return Err(Refusal::Node(why.to_owned()));
            }
            return Ok(None);
        }
        Ok(Some(search.results()))
    }
}
