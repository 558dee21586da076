//! The static policy: memory of as few NUMA nodes as can be, and a node's memory either by itself or always together
//! with the same others (`memorymanager.staticPolicy`). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use schema::quantity::Quantity;

use super::state::{Block, NodeState, State};
use crate::checkpoint::CheckpointError;
use crate::pods::spec::{PodExt, is_sidecar};
use crate::pods::{has_own_resources, is_fixed, qos};
use crate::topology::{Hint, Hints, Mask, subsets};

/// Why a container gets no memory, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error(
        "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
    )]
    NoPlace,
    #[error("[memorymanager] failed to find the default preferred hint")]
    NotPreferred,
    #[error("[memorymanager] failed to find NUMA nodes to extend the current topology hint")]
    NoExtension,
    #[error("[memorymanager] failed to find the extended preferred hint")]
    ExtensionNotPreferred,
    #[error("[memorymanager] preferred hint violates NUMA node allocation")]
    Violates,
    /// Of a pod that has some as a whole.
    #[error("pod rejected, {0}")]
    NothingToShare(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Bytes by kind.
pub(super) type Amounts = BTreeMap<String, u64>;

/// The memory that is asked for.
pub(super) fn amounts(resources: Option<&ResourceRequirements>) -> Amounts {
    let mut amounts = Amounts::new();
    // Limits stand for requests that are not written.
    for list in resources.into_iter().flat_map(|r| [r.limits.as_ref(), r.requests.as_ref()]).flatten() {
        for (kind, text) in
            list.iter().filter(|(kind, _)| *kind == "memory" || kind.starts_with("hugepages-"))
        {
            let bytes = text.0.parse::<Quantity>().ok().and_then(|amount| u64::try_from(amount.value()).ok());
            amounts.insert(kind.clone(), bytes.unwrap_or(0));
        }
    }
    amounts
}

/// What a pod's containers ask for together at the worst time.
fn of_pod(pod: &Pod) -> Amounts {
    let of_container = |container: &Container| amounts(container.resources.as_ref());
    let (mut init, mut sidecars, mut main) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in pod.init_containers() {
        for (kind, bytes) in of_container(container) {
            let running = sidecars.entry(kind.clone()).or_default();
            match is_sidecar(container) {
                true => *running += bytes,
                false => {
                    let most = init.entry(kind).or_default();
                    *most = (*most).max(*running + bytes);
                }
            }
        }
    }
    for container in pod.containers() {
        for (kind, bytes) in of_container(container) {
            *main.entry(kind).or_default() += bytes;
        }
    }
    for (kind, bytes) in &mut main {
        let then = *bytes + sidecars.get(kind).copied().unwrap_or(0);
        *bytes = then.max(init.get(kind).copied().unwrap_or(0));
    }
    main
}

/// Whether a pod's containers have memory for themselves, or the pod as a whole where that can be (`by_pod`).
pub fn concerns(pod: &Pod, by_pod: bool) -> bool {
    qos(pod) == "Guaranteed" && (by_pod || !has_own_resources(pod))
}

impl State {
    /// What a container asks for, if its pod is guaranteed; nothing if it shares what its pod has as a whole.
    pub(super) fn of_container(&self, pod: &Pod, container: &Container) -> Amounts {
        match self.is_whole(pod) && !is_fixed(container) {
            true => Amounts::new(),
            false => amounts(container.resources.as_ref()),
        }
    }

    /// What a container has.
    pub fn of(&self, uid: &str, container: &str) -> Option<&Vec<Block>> {
        self.given.get(uid)?.get(container)
    }

    /// Where a container could have its memory.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        if !concerns(pod, self.by_pod) {
            return Hints::new();
        }
        let wanted = self.of_container(pod, container);
        match self.of(pod.uid(), &container.name) {
            Some(blocks) => again(blocks, &wanted),
            None => listed(
                &wanted,
                &self.places(&wanted, |kind, mask| self.reusable(pod, &container.name, kind, mask)),
            ),
        }
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        if !concerns(pod, self.by_pod) {
            return Hints::new();
        }
        if self.is_whole(pod) {
            return self.whole_hints(pod);
        }
        let wanted = of_pod(pod);
        let containers = pod.init_containers().iter().chain(pod.containers());
        let first = containers.filter_map(|container| self.of(pod.uid(), &container.name)).next();
        match first {
            Some(blocks) => again(blocks, &wanted),
            None => listed(&wanted, &self.places(&wanted, |_, _| 0)),
        }
    }

    /// Every set of nodes that can serve this.
    pub(super) fn places(&self, wanted: &Amounts, reusable: impl Fn(&str, Mask) -> u64) -> Vec<Hint> {
        let nodes: Vec<i64> = self.nodes.keys().copied().collect();
        let sum = |mask: Mask, kind: &str, of: fn(&super::state::Table) -> u64| -> u64 {
            let tables = mask.nodes().filter_map(|id| self.nodes.get(&id)?.memory_map.get(kind));
            tables.map(of).sum()
        };
        let mut least = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        for mask in subsets(&nodes) {
            if wanted.iter().any(|(kind, bytes)| sum(mask, kind, |table| table.allocatable) < *bytes) {
                continue;
            }
            least = least.min(mask.count());
            let enough = |(kind, bytes): (&String, &u64)| {
                sum(mask, kind, |table| table.free) + reusable(kind, mask) >= *bytes
            };
            if self.is_groupable(mask) && wanted.iter().all(enough) {
                found.push(mask);
            }
        }
        let hint = |mask: Mask| Hint { affinity: Some(mask), preferred: mask.count() == least };
        found.into_iter().map(hint).collect()
    }

    /// Whether memory of these nodes can be given together: none of them is used in another company.
    fn is_groupable(&self, mask: Mask) -> bool {
        let single = mask.count() == 1;
        let mut nodes = mask.nodes().filter_map(|id| self.nodes.get(&id));
        nodes.all(|node| match single {
            true => node.cells.len() <= 1,
            false => !is_used_otherwise(node, mask),
        })
    }

    /// What a container can have although it is given: what init containers before it had of the same nodes.
    fn reusable(&self, pod: &Pod, container: &str, kind: &str, mask: Mask) -> u64 {
        let before = pod.init_containers().iter().take_while(|init| init.name != container);
        let blocks =
            before.filter(|init| !is_sidecar(init)).filter_map(|init| self.of(pod.uid(), &init.name));
        let same =
            |block: &&Block| block.kind == kind && Mask::of(block.numa_affinity.iter().copied()) == mask;
        blocks.flatten().filter(same).map(|block| block.size).sum()
    }

    /// Gives a container its memory; whether anything changed.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn allocate(&mut self, pod: &Pod, container: &Container, place: Hint) -> Result<bool, MemoryError> {
        let wanted = self.of_container(pod, container);
        if !concerns(pod, self.by_pod) || wanted.is_empty() || self.of(pod.uid(), &container.name).is_some() {
            return Ok(false);
        }
        let places = self.places(&wanted, |kind, mask| self.reusable(pod, &container.name, kind, mask));
        let mask = self.place(places, &wanted, place)?;
        let mut blocks = Vec::new();
        for (kind, size) in &wanted {
            let reused = self.reusable(pod, &container.name, kind, mask);
            self.reserve(mask, kind, size.saturating_sub(reused));
            blocks.push(Block { numa_affinity: mask.nodes().collect(), kind: kind.clone(), size: *size });
        }
        self.hand_on(pod, &container.name, &blocks);
        self.given.entry(pod.uid().to_owned()).or_default().insert(container.name.clone(), blocks);
        Ok(true)
    }

    /// Of the places where it could be, the one that is wanted, or the next best.
    pub(super) fn place(
        &self,
        places: Vec<Hint>,
        wanted: &Amounts,
        mut place: Hint,
    ) -> Result<Mask, MemoryError> {
        let best =
            |places: &[Hint]| places.iter().copied().min_by_key(|hint| (!hint.preferred, hint.affinity));
        if place.affinity.is_none() {
            let default = best(&places).ok_or(MemoryError::NoPlace)?;
            if place.preferred && !default.preferred {
                return Err(MemoryError::NotPreferred);
            }
            place = default;
        }
        let mask = place.affinity.unwrap_or_default();
        let free = |kind: &str| -> u64 {
            let tables = mask.nodes().filter_map(|id| self.nodes.get(&id)?.memory_map.get(kind));
            tables.map(|table| table.free).sum()
        };
        let mask = match wanted.iter().all(|(kind, bytes)| free(kind) >= *bytes) {
            true => mask,
            false => {
                let covers = |hint: &Hint| hint.affinity.is_some_and(|wider| wider.covers(mask));
                let wider: Vec<Hint> = places.into_iter().filter(covers).collect();
                let extended = best(&wider).ok_or(MemoryError::NoExtension)?;
                if place.preferred && !extended.preferred {
                    return Err(MemoryError::ExtensionNotPreferred);
                }
                extended.affinity.unwrap_or_default()
            }
        };
        let mut nodes = mask.nodes().filter_map(|id| self.nodes.get(&id));
        if mask.count() > 1 && nodes.any(|node| is_used_otherwise(node, mask)) {
            return Err(MemoryError::Violates);
        }
        Ok(mask)
    }

    /// Takes memory of nodes, one after the other.
    pub(super) fn reserve(&mut self, mask: Mask, kind: &str, mut bytes: u64) {
        for id in mask.nodes() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.number_of_assignments += 1;
            node.cells = mask.nodes().collect();
            if let Some(table) = node.memory_map.get_mut(kind) {
                let taken = table.free.min(bytes);
                (table.free, table.reserved) = (table.free - taken, table.reserved + taken);
                bytes -= taken;
            }
        }
    }

    /// What init containers had belongs to whoever runs after them: sizes are corrected, so that they add up.
    fn hand_on(&mut self, pod: &Pod, container: &str, blocks: &[Block]) {
        let Some(shares) = self.given.get_mut(pod.uid()) else { return };
        for block in blocks {
            let mut left = block.size;
            for init in pod.init_containers().iter().take_while(|init| init.name != container) {
                let theirs = shares.get_mut(&init.name).filter(|_| !is_sidecar(init));
                let same = |other: &&mut Block| {
                    other.kind == block.kind && other.numa_affinity == block.numa_affinity
                };
                for other in theirs.into_iter().flatten().filter(same) {
                    let taken = other.size.min(left);
                    (other.size, left) = (other.size - taken, left - taken);
                }
            }
        }
    }

    /// A pod is over; whether it had any.
    pub fn release(&mut self, uid: &str) -> bool {
        let Some(shares) = self.given.remove(uid) else { return false };
        // What a pod has as a whole is its containers', too.
        let whole = self.pods.remove(uid);
        let blocks = whole.unwrap_or_else(|| shares.into_values().flatten().collect());
        for block in blocks {
            let mut left = block.size;
            for id in &block.numa_affinity {
                let Some(node) = self.nodes.get_mut(id) else { continue };
                node.number_of_assignments -= 1;
                if node.number_of_assignments == 0 {
                    node.cells = vec![*id];
                }
                if let Some(table) = node.memory_map.get_mut(&block.kind) {
                    let given = table.reserved.min(left);
                    (table.free, table.reserved) = (table.free + given, table.reserved - given);
                    left -= given;
                }
            }
        }
        true
    }
}

/// Whether a node's memory is given, and not together with exactly these.
fn is_used_otherwise(node: &NodeState, mask: Mask) -> bool {
    node.number_of_assignments > 0 && (node.cells.len() == 1 || Mask::of(node.cells.iter().copied()) != mask)
}

/// The same places for every kind; without any, nothing is said.
pub(super) fn listed(wanted: &Amounts, places: &[Hint]) -> Hints {
    match places.is_empty() {
        true => Hints::new(),
        false => wanted.keys().map(|kind| (kind.clone(), Some(places.to_vec()))).collect(),
    }
}

/// Where memory is that was given already, if it is what is wanted.
pub(super) fn again(blocks: &[Block], wanted: &Amounts) -> Hints {
    let fits = blocks.len() == wanted.len()
        && blocks.iter().all(|block| wanted.get(&block.kind) == Some(&block.size));
    if !fits {
        return Hints::new();
    }
    let hint = |block: &Block| Hint {
        affinity: Some(Mask::of(block.numa_affinity.iter().copied())),
        preferred: true,
    };
    blocks.iter().map(|block| (block.kind.clone(), Some(vec![hint(block)]))).collect()
}
