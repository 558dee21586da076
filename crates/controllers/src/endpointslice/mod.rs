//! Tells which pods stand behind a Service.

pub mod plan;
pub mod run;
