//! Ends pods on devices with `NoExecute` taints that their claims do not bear (KEP-5055), and tells in the status of
//! rules how far that is.
//!
//! `plan` says when a pod must go and why, `rule` what a rule is told (both pure); `follow` turns changes into keys,
//! `run` acts on one.

mod follow;
mod plan;
mod rule;
mod run;

pub(crate) use follow::users;
pub use follow::{Copies, start_informers};
pub use run::{DeviceTaints, Key};

#[cfg(test)]
mod tests;
