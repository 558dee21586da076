//! DNS for pods, answered on each node from the informers (the contract of `dns/docs/specification.md`, 1.1.0).

pub mod answer;
pub mod run;
