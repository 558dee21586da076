//! Memory of a pod that has resources as a whole (KEP-5526): it is of the same NUMA nodes for all its containers, and
//! theirs are parts of it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::plan::{Amounts, MemoryError, again, amounts, concerns, listed};
use super::state::{Block, State};
use crate::pods::has_own_resources;
use crate::pods::spec::{PodExt, in_turn};
use crate::topology::{Hint, Hints, Mask};

/// What the pod asks for.
fn of_whole(pod: &Pod) -> Amounts {
    let mut wanted = amounts(pod.spec().and_then(|spec| spec.resources.as_ref()));
    wanted.retain(|_, bytes| *bytes > 0);
    wanted
}

impl State {
    /// Whether the pod takes part as a whole.
    pub(super) fn is_whole(&self, pod: &Pod) -> bool {
        self.by_pod && has_own_resources(pod)
    }

    /// Whether something is left of the pod's for those that share.
    fn check_shares(&self, pod: &Pod) -> Result<(), MemoryError> {
        let all = of_whole(pod);
        let (mut own, mut shared) = (Amounts::new(), false);
        // The first kind of which nothing is left.
        let used_up = |own: &Amounts| {
            all.iter()
                .find(|(kind, bytes)| own.get(*kind).copied().unwrap_or(0) >= **bytes)
                .map(|(kind, _)| kind.clone())
        };
        for (container, lasts) in in_turn(pod) {
            let wanted = self.of_container(pod, container);
            match (wanted.is_empty(), lasts) {
                (true, true) => shared = true,
                (true, false) => {
                    if let Some(kind) = used_up(&own) {
                        let why = format!("pod has shared init containers but no {kind} available for them");
                        return Err(MemoryError::NothingToShare(why));
                    }
                }
                (false, true) => add(&mut own, &wanted),
                (false, false) => {}
            }
        }
        match used_up(&own).filter(|_| shared) {
            Some(kind) => Err(MemoryError::NothingToShare(format!(
                "sum of exclusive container {kind} requests equals pod budget, leaving no memory for shared containers"
            ))),
            None => Ok(()),
        }
    }

    /// Where the pod could have its memory.
    pub(super) fn whole_hints(&self, pod: &Pod) -> Hints {
        let wanted = of_whole(pod);
        if self.check_shares(pod).is_err() {
            return wanted.into_keys().map(|kind| (kind, Some(Vec::new()))).collect();
        }
        match self.pods.get(pod.uid()) {
            Some(blocks) => again(blocks, &wanted),
            None => listed(&wanted, &self.places(&wanted, |_, _| 0)),
        }
    }

    /// Gives a pod its memory, and its containers theirs of it; whether anything changed.
    ///
    /// # Errors
    /// [`MemoryError`]; then nothing did.
    pub fn allocate_whole(&mut self, pod: &Pod, place: Hint) -> Result<bool, MemoryError> {
        let wanted = of_whole(pod);
        if !concerns(pod, self.by_pod) || wanted.is_empty() || self.pods.contains_key(pod.uid()) {
            return Ok(false);
        }
        self.check_shares(pod)?;
        let mask = self.place(self.places(&wanted, |_, _| 0), &wanted, place)?;
        for (kind, bytes) in &wanted {
            self.reserve(mask, kind, *bytes);
        }
        self.given.insert(pod.uid().to_owned(), self.divide(pod, &wanted, mask));
        self.pods.insert(pod.uid().to_owned(), blocks(&wanted, mask));
        Ok(true)
    }

    /// What each container may use of the pod's.
    fn divide(&self, pod: &Pod, all: &Amounts, mask: Mask) -> BTreeMap<String, Vec<Block>> {
        let (mut shares, mut sharing, mut own) = (BTreeMap::new(), Vec::new(), Amounts::new());
        let left = |own: &Amounts| -> Vec<Block> {
            let rest = |(kind, bytes): (&String, &u64)| {
                (kind.clone(), bytes.saturating_sub(own.get(kind).copied().unwrap_or(0)))
            };
            blocks(&all.iter().map(rest).collect(), mask)
        };
        for (container, lasts) in in_turn(pod) {
            let (name, wanted) = (container.name.clone(), self.of_container(pod, container));
            match (wanted.is_empty(), lasts) {
                (true, true) => sharing.push(name),
                (true, false) => drop(shares.insert(name, left(&own))),
                (false, lasts) => {
                    if lasts {
                        add(&mut own, &wanted);
                    }
                    shares.insert(name, blocks(&wanted, mask));
                }
            }
        }
        shares.extend(sharing.into_iter().map(|name| (name, left(&own))));
        shares
    }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (kind, bytes) in more {
        *sum.entry(kind.clone()).or_default() += bytes;
    }
}

fn blocks(amounts: &Amounts, mask: Mask) -> Vec<Block> {
    let some = amounts.iter().filter(|(_, bytes)| **bytes > 0);
    some.map(|(kind, size)| Block { numa_affinity: mask.nodes().collect(), kind: kind.clone(), size: *size })
        .collect()
}
