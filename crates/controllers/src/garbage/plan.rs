//! What is to become of an object, from what is known of its owners and dependents. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, Item, ORPHAN};

/// Which question an object raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// None.
    Nothing,
    /// Its dependents lose it as an owner, then it goes.
    Orphan,
    /// Its dependents go, then it goes.
    Foreground,
    /// It lives as long as one of its owners.
    Owned,
}

/// What is known of one of an object's owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is there.
    Solid,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// It is gone.
    Dangling,
}

/// What is to be done with an owned object.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It keeps these owners only.
    Release(Vec<OwnerReference>),
    /// It goes.
    Delete {
        /// `propagationPolicy`.
        policy: &'static str,
        /// First it stops to block its owners: two objects that wait for each other would wait forever.
        unblock: bool,
    },
}

/// The question that an object raises.
pub fn question(item: &Item) -> Question {
    match (item.is_deleting(), item.has(ORPHAN), item.has(FOREGROUND)) {
        (true, true, _) => Question::Orphan,
        (true, false, true) => Question::Foreground,
        (true, false, false) => Question::Nothing,
        (false, ..) if item.meta().owner_references.is_empty() => Question::Nothing,
        (false, ..) => Question::Owned,
    }
}

/// Judges an object by its owners; `owners` are in the order of its references.
pub fn judge(item: &Item, owners: &[Owner], dependents: &[Item]) -> Verdict {
    let references = item.meta().owner_references.iter();
    let solid: Vec<OwnerReference> = references
        .zip(owners)
        .filter(|(_, owner)| **owner == Owner::Solid)
        .map(|(one, _)| one.clone())
        .collect();
    if solid.len() == item.meta().owner_references.len() {
        return Verdict::Keep;
    }
    if !solid.is_empty() {
        return Verdict::Release(solid);
    }
    if owners.contains(&Owner::Waiting) && !dependents.is_empty() {
        let unblock = dependents.iter().any(Item::awaits_dependents);
        return Verdict::Delete { policy: "Foreground", unblock };
    }
    let policy = match (item.has(ORPHAN), item.has(FOREGROUND)) {
        (true, _) => "Orphan",
        (false, true) => "Foreground",
        (false, false) => "Background",
    };
    Verdict::Delete { policy, unblock: false }
}

/// Whether an owner that is deleted in the foreground still has to wait for one of its dependents.
pub fn is_blocked(uid: &str, dependents: &[Item]) -> bool {
    let blocks = |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
    dependents.iter().any(|item| item.meta().owner_references.iter().any(blocks))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
