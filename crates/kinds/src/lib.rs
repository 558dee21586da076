//! The table of kinds, and the rules of each kind: defaults, validation, what a create or an update may
//! change, and how `kubectl get` prints it.
//!
//! Pure: no clock, no I/O, no knowledge of requests or storage. A kind is one row of [`table()`] plus, where
//! it has any, its [`Rules`]; a kind without rules of its own gets those that every object has.

pub mod field;
pub mod meta;
mod rules;
mod table;

pub use rules::{Cell, Column, Part, Rules, rules};
pub use table::{Row, Subresource, table};
