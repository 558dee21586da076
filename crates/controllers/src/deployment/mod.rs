//! Rolls a deployment's pods from one template to the next by scaling replica sets.

pub mod plan;
pub mod run;
mod status;
