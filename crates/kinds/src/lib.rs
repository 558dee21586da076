//! The table of kinds, and the rules of each kind: defaults, validation, what a create or an update may
//! change, and how `kubectl get` prints it.
//!
//! Pure: no clock, no I/O, no knowledge of requests or storage. A kind is one row of [`table()`] plus, where
//! it has any, its [`Rules`]; a kind without rules of its own gets those that every object has.

mod about;
mod access;
mod certificates;
mod classes;
mod columns;
pub mod content;
mod core_kinds;
mod data;
mod disruption;
mod edit;
mod event;
pub mod field;
pub mod gates;
#[cfg(test)]
mod judged;
mod limit_range;
pub mod matching;
pub mod meta;
mod node;
pub mod pod;
mod resource;
mod rules;
pub mod selector;
mod service;
mod storage;
mod table;
mod workload;

pub use about::{about, about_custom};
pub use pod::completed;
pub use rules::{
    Cell, Column, Creator, GENERIC, Part, Rules, custom_prepare_create, custom_prepare_update,
    custom_prepare_whole, generic_prepare_create, generic_prepare_update, rules,
};
pub use storage::DEFAULT_CLASS;
pub use table::{Row, Subresource, table};

/// The version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.37.0";
