//! Field ownership: sets of paths, their text form (FieldsV1), which fields a write changed, and
//! `metadata.managedFields`.
//!
//! Paths are those of the JSON that the objects would be written as, walked along their types: a
//! list is owned item by item where its type names keys, and as a whole otherwise.

mod compare;
mod entries;
mod path;
mod text;
mod update;
mod view;

pub use compare::{Comparison, compare};
pub use path::{FieldSet, PathElement};
pub use text::FieldsError;
pub use update::{About, Write, forget_new_times, update_managed_fields};

#[cfg(test)]
mod tests;
