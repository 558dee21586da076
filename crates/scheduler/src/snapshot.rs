//! What the scheduler knows of nodes and the pods on them, kept up to date by increments.
//!
//! Labels of nodes, kinds of pods and rules about other pods have numbers, so that a decision counts in plain lists.

mod kin;
mod node;
mod numbers;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use kin::{Bond, Kin, preferred_apart, preferred_near, required_apart, required_near};
pub use node::{Crowd, NodeInfo};
pub use numbers::Numbers;
pub use requests::{Amounts, requests, weight_of_new};

use crate::view::{NodeView, PodView};

type Labels = BTreeMap<String, String>;

/// Where a pod was counted.
#[derive(Debug)]
struct Place {
    node: String,
    kin: u32,
    bond: Option<u32>,
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    /// Where in the list they are, by name.
    at: HashMap<String, usize>,
    /// How many of them are more than a name that pods know.
    known: usize,
    placed: HashMap<String, Place>,
    keys: Numbers<String>,
    pairs: Numbers<(u32, String)>,
    images: Numbers<String>,
    /// Sizes of images, by number.
    sizes: HashMap<u32, i64>,
    kin: Numbers<Kin>,
    bonds: Numbers<Bond>,
    namespaces: HashMap<String, Labels>,
    no_labels: Labels,
    /// Pods for which others make way, by UID.
    nominated: BTreeMap<String, Arc<PodView>>,
    /// The same, by node.
    awaited: HashMap<String, Vec<Arc<PodView>>>,
    /// How many volumes of pods name a claim, by its key.
    claimed: HashMap<String, usize>,
}

/// Claims that a pod's volumes name, by key.
pub fn named(pod: &PodView) -> impl Iterator<Item = String> {
    let names = pod.spec.volumes.iter().filter_map(|volume| volume.claim.as_ref());
    names.map(|name| format!("{}/{name}", pod.metadata.namespace))
}

impl Snapshot {
    /// All nodes that are known.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|info| info.node.is_some())
    }

    /// The same, beginning somewhere.
    pub fn nodes_from(&self, first: u64) -> impl Iterator<Item = &NodeInfo> {
        let first = first.checked_rem(self.nodes.len() as u64).unwrap_or_default();
        let (before, after) = self.nodes.split_at(usize::try_from(first).unwrap_or_default());
        after.iter().chain(before).filter(|info| info.node.is_some())
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.at.get(name).and_then(|at| self.nodes.get(*at)).filter(|info| info.node.is_some())
    }

    fn info(&mut self, name: &str) -> Option<&mut NodeInfo> {
        self.at.get(name).and_then(|at| self.nodes.get_mut(*at))
    }

    /// As [`Self::info`]; makes room for it where it is new.
    fn entry(&mut self, name: &str) -> Option<&mut NodeInfo> {
        if !self.at.contains_key(name) {
            self.at.insert(name.to_owned(), self.nodes.len());
            self.nodes.push(NodeInfo { name: name.to_owned(), ..NodeInfo::default() });
        }
        self.info(name)
    }

    /// The last one of the list takes its place.
    fn drop_entry(&mut self, name: &str) {
        let Some(at) = self.at.remove(name) else { return };
        self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.at.insert(moved.name.clone(), at);
        }
    }

    /// The number of a label's key, if a node has it.
    pub fn key(&self, key: &str) -> Option<u32> {
        self.keys.get(&key.to_owned())
    }

    /// So long must a list be to have a place for each label of nodes.
    pub fn pairs(&self) -> usize {
        self.pairs.places()
    }

    /// Pods that selectors cannot tell apart.
    pub fn kin(&self) -> &Numbers<Kin> {
        &self.kin
    }

    /// Rules that pods have about others.
    pub fn bonds(&self) -> &Numbers<Bond> {
        &self.bonds
    }

    /// Labels of a namespace.
    pub fn namespace(&self, name: &str) -> &BTreeMap<String, String> {
        self.namespaces.get(name).unwrap_or(&self.no_labels)
    }

    /// An image that a node has: its number, its size, and how many nodes have it.
    pub fn image(&self, name: &str) -> Option<(u32, i64, usize)> {
        let image = self.images.get(&name.to_owned())?;
        Some((image, self.sizes.get(&image).copied()?, self.images.users(image)))
    }

    /// A namespace has these labels now.
    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.namespaces.insert(name.to_owned(), labels);
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: Arc<NodeView>) {
        let Some(info) = self.entry(&node.metadata.name) else { return };
        let old = info.node.replace(node.clone());
        let old = old.as_deref();
        if old.is_none_or(|old| old.status.allocatable != node.status.allocatable) {
            info.allocatable = requests::amounts(&node.status.allocatable);
        }
        if old.is_none() {
            self.known += 1;
        }
        let labelled = old.is_none_or(|old| old.metadata.labels != node.metadata.labels);
        let stocked = old.is_none_or(|old| old.status.images != node.status.images);
        if labelled {
            self.label(&node);
        }
        if stocked {
            self.stock(&node);
        }
    }

    /// A node is gone; its pods may be told of later.
    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.info(name) else { return };
        let (was_known, is_empty) = (info.node.take().is_some(), info.pods.is_empty());
        let (pairs, images) = (std::mem::take(&mut info.pairs), std::mem::take(&mut info.images));
        if was_known {
            self.known -= 1;
        }
        if is_empty {
            self.drop_entry(name);
        }
        self.forget(&pairs, &images);
    }

    fn label(&mut self, node: &NodeView) {
        let (keys, pairs) = (&mut self.keys, &mut self.pairs);
        let numbers = node.metadata.labels.iter().map(|(key, value)| {
            let key = keys.take(key.clone());
            (key, pairs.take((key, value.clone())))
        });
        let numbers: Vec<(u32, u32)> = numbers.collect();
        let Some(info) = self.info(&node.metadata.name) else { return };
        let old = std::mem::replace(&mut info.pairs, numbers);
        self.forget(&old, &[]);
    }

    fn stock(&mut self, node: &NodeView) {
        let mut numbers = Vec::new();
        for image in &node.status.images {
            for name in &image.names {
                let number = self.images.take(name.clone());
                if numbers.contains(&number) {
                    self.images.release(number);
                    continue;
                }
                self.sizes.entry(number).or_insert(image.size_bytes);
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let Some(info) = self.info(&node.metadata.name) else { return };
        let old = std::mem::replace(&mut info.images, numbers);
        self.forget(&[], &old);
    }

    fn forget(&mut self, pairs: &[(u32, u32)], images: &[u32]) {
        for &(key, pair) in pairs {
            self.keys.release(key);
            self.pairs.release(pair);
        }
        for &image in images {
            self.images.release(image);
            if self.images.users(image) == 0 {
                self.sizes.remove(&image);
            }
        }
    }

    /// A pod is on a node, or (assumed) is about to be.
    pub fn set_pod(&mut self, pod: Arc<PodView>) {
        if self.replaced(&pod) {
            return;
        }
        self.remove_pod(&pod.metadata.uid);
        if !pod.takes_room() {
            return;
        }
        let node = pod.spec.node_name.clone();
        let kin = self.kin.take(Kin::of(&pod));
        let bond = Bond::of(&pod).map(|bond| self.bonds.take(bond));
        named(&pod).for_each(|claim| *self.claimed.entry(claim).or_default() += 1);
        let Some(info) = self.entry(&node) else { return };
        info.gather(kin, pod.metadata.deletion_timestamp.is_some(), 1);
        if let Some(bond) = bond {
            info.bind(bond, 1);
        }
        info.put(pod.clone());
        self.placed.insert(pod.metadata.uid.clone(), Place { node, kin, bond });
    }

    /// Most that is told of a pod changes nothing that is counted: then it only takes its old copy's place.
    fn replaced(&mut self, pod: &Arc<PodView>) -> bool {
        let uid = &pod.metadata.uid;
        let is_there =
            pod.takes_room() && self.placed.get(uid).is_some_and(|place| place.node == pod.spec.node_name);
        let info = if is_there { self.info(&pod.spec.node_name) } else { None };
        let Some(old) = info.and_then(|info| info.pods.get_mut(uid)) else { return false };
        let is_same = node::counts_as(old, pod);
        if is_same {
            *old = pod.clone();
        }
        is_same
    }

    /// A pod is gone, or was not bound after all.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(Place { node, kin, bond }) = self.placed.remove(uid) else { return };
        self.kin.release(kin);
        if let Some(bond) = bond {
            self.bonds.release(bond);
        }
        let Some(info) = self.info(&node) else { return };
        if let Some(bond) = bond {
            info.bind(bond, -1);
        }
        let Some(pod) = info.take(uid) else { return };
        info.gather(kin, pod.metadata.deletion_timestamp.is_some(), -1);
        if info.node.is_none() && info.pods.is_empty() {
            self.drop_entry(&node);
        }
        for claim in named(&pod) {
            if let Some(count) = self.claimed.get_mut(&claim) {
                *count -= 1;
                if *count == 0 {
                    self.claimed.remove(&claim);
                }
            }
        }
    }

    /// Others make way for a pod, on the node that its status names.
    pub fn nominate(&mut self, pod: Arc<PodView>) {
        self.renounce(&pod.metadata.uid);
        self.awaited.entry(pod.status.nominated_node_name.clone()).or_default().push(pod.clone());
        self.nominated.insert(pod.metadata.uid.clone(), pod);
    }

    /// Nobody makes way for it any more.
    pub fn renounce(&mut self, uid: &str) {
        let Some(pod) = self.nominated.remove(uid) else { return };
        let node = &pod.status.nominated_node_name;
        if let Some(pods) = self.awaited.get_mut(node) {
            pods.retain(|pod| pod.metadata.uid != uid);
            if pods.is_empty() {
                self.awaited.remove(node);
            }
        }
    }

    /// Pods for which others make way on a node.
    pub fn nominated(&self, node: &str) -> impl Iterator<Item = &Arc<PodView>> {
        self.awaited.get(node).into_iter().flatten()
    }

    /// Pods that wait for this node and matter no less than `pod`: it is not to take what was freed for them.
    pub fn kept_for(&self, node: &str, pod: &PodView) -> Vec<Arc<PodView>> {
        let others = self.nominated(node).filter(|other| {
            other.metadata.uid != pod.metadata.uid
                && other.spec.priority >= pod.spec.priority
                && !self.is_placed(&other.metadata.uid)
        });
        others.cloned().collect()
    }

    /// How many volumes of pods on nodes name a claim.
    pub fn claims(&self, claim: &str) -> usize {
        self.claimed.get(claim).copied().unwrap_or_default()
    }

    /// Whether a pod is on a node, or about to be.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}

#[cfg(test)]
mod tests;
