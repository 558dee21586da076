//! Keeps as many pods as a replica set asks for.

pub mod plan;
pub mod run;
