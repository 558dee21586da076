//! A node with what is on it.

use std::collections::HashMap;
use std::sync::Arc;

use super::requests::{Amounts, add, requests, weight};
use crate::view::{NodeView, PodView};

/// Pods of one kin on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// The number of their kin.
    pub kin: u32,
    /// How many there are.
    pub all: i64,
    /// How many of them are being deleted.
    pub ending: i64,
}

/// A node with what is on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    pub(super) name: String,
    /// The node; `None` while only its pods are known.
    pub node: Option<Arc<NodeView>>,
    /// What its pods may use.
    pub allocatable: Amounts,
    /// What its pods use.
    pub used: Amounts,
    /// Processor and memory that its pods use, where those that ask for none count as a little.
    pub weight: [i64; 2],
    /// The pods, by UID.
    pub pods: HashMap<String, Arc<PodView>>,
    /// Its labels: numbers of their keys, and of keys with values.
    pub(super) pairs: Vec<(u32, u32)>,
    /// Numbers of its images.
    pub(super) images: Vec<u32>,
    pub(super) crowds: Vec<Crowd>,
    /// Its pods by the number of the rules that they have about others.
    pub(super) bonds: Vec<(u32, i64)>,
}

impl NodeInfo {
    /// The number of its label with the key of this number.
    pub fn pair(&self, key: u32) -> Option<u32> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, pair)| *pair)
    }

    /// The numbers of its labels.
    pub fn pairs(&self) -> impl Iterator<Item = u32> {
        self.pairs.iter().map(|(_, pair)| *pair)
    }

    /// Its pods by kin.
    pub fn crowds(&self) -> &[Crowd] {
        &self.crowds
    }

    /// How many of its pods have which rules about others.
    pub fn bonds(&self) -> &[(u32, i64)] {
        &self.bonds
    }

    /// Whether it has the image of this number.
    pub fn has_image(&self, image: u32) -> bool {
        self.images.binary_search(&image).is_ok()
    }

    /// A pod takes its room. The rest of the snapshot is not told.
    pub fn put(&mut self, pod: Arc<PodView>) {
        self.count(&pod, 1);
        self.pods.insert(pod.metadata.uid.clone(), pod);
    }

    /// A pod gives its room back.
    pub fn take(&mut self, uid: &str) -> Option<Arc<PodView>> {
        let pod = self.pods.remove(uid)?;
        self.count(&pod, -1);
        Some(pod)
    }

    fn count(&mut self, pod: &PodView, sign: i64) {
        let needs = requests(pod);
        let weight = weight(pod, &needs);
        self.weight.iter_mut().zip(weight).for_each(|(total, more)| *total += sign * more);
        add(&mut self.used, &needs, sign);
    }

    pub(super) fn gather(&mut self, kin: u32, is_ending: bool, by: i64) {
        let ending = if is_ending { by } else { 0 };
        match self.crowds.iter_mut().find(|crowd| crowd.kin == kin) {
            Some(crowd) => {
                crowd.all += by;
                crowd.ending += ending;
            }
            None => self.crowds.push(Crowd { kin, all: by, ending }),
        }
        self.crowds.retain(|crowd| crowd.all > 0);
    }

    pub(super) fn bind(&mut self, bond: u32, by: i64) {
        match self.bonds.iter_mut().find(|(known, _)| *known == bond) {
            Some((_, count)) => *count += by,
            None => self.bonds.push((bond, by)),
        }
        self.bonds.retain(|(_, count)| *count > 0);
    }
}

/// Whether a pod on a node counts as it did before. What cannot change of it is not compared.
pub(super) fn counts_as(old: &PodView, new: &PodView) -> bool {
    let is_ending = |pod: &PodView| pod.metadata.deletion_timestamp.is_some();
    is_ending(old) == is_ending(new)
        && old.metadata.labels == new.metadata.labels
        && old.spec.containers == new.spec.containers
        && old.spec.init_containers == new.spec.init_containers
        && old.spec.resources == new.spec.resources
        && old.spec.affinity == new.spec.affinity
        && old.status.conditions == new.status.conditions
        && old.status.container_statuses == new.status.container_statuses
        && old.status.init_container_statuses == new.status.init_container_statuses
        && old.status.resources == new.status.resources
        && old.status.allocated_resources == new.status.allocated_resources
}
