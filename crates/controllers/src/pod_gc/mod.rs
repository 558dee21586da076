//! Deletes pods that nobody else will delete (`pkg/controller/podgc`): those of nodes that are no more, those that were
//! deleted before they had a node, those that are being deleted on nodes which are out of service, and the oldest of
//! very many that have ended.
//!
//! - Nothing is looked at until something changes: a node goes, or a pod comes to one, ends or is deleted.
//! - That a node is gone is believed only after a while, and when the API server says so itself.

pub mod plan;
pub mod run;

use client::WorkQueue;
use k8s_openapi::api::core::v1::Node;

use crate::view::PodView;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A node by its name: its pods may have to go.
    Node(String),
    /// A pod that was deleted before it had a node: namespace and name.
    Pod(String),
    /// All pods that have ended.
    Ended,
}

/// Notes what a changed node may mean.
pub(crate) fn follow_node(queue: &WorkQueue<Key>, change: &client::Change<'_, Node>) {
    let is_due = match change {
        client::Change::Set { new, .. } => plan::is_out_of_service(new),
        client::Change::Removed { .. } => true,
    };
    if is_due {
        queue.add(Key::Node(change.key().to_owned()));
    }
}

/// Notes what a changed pod may mean.
pub(crate) fn follow_pod(queue: &WorkQueue<Key>, key: &str, pod: &PodView, old: Option<&PodView>) {
    let is_going = pod.metadata.deletion_timestamp.is_some();
    let went = is_going && old.is_none_or(|old| old.metadata.deletion_timestamp.is_none());
    match pod.spec.node_name.as_str() {
        "" if is_going => queue.add(Key::Pod(key.to_owned())),
        "" => {}
        node if went || old.is_none_or(|old| old.spec.node_name.is_empty()) => {
            queue.add(Key::Node(node.to_owned()));
        }
        _ => {}
    }
    if pod.is_finished() && old.is_none_or(|old| !old.is_finished()) {
        queue.add(Key::Ended);
    }
}
