//! Notices nodes that fell silent, and keeps their taints in step with their conditions; pods that do not bear a
//! `NoExecute` taint leave (`pkg/controller/nodelifecycle`, `pkg/controller/tainteviction`).
//!
//! - A node's silence is measured by this process's own steady clock, from when a renewal was seen: the nodes' wall
//!   clocks do not matter, and a machine that slept does not lose its nodes.
//! - Taints of other owners are left as they are.
//! - Nothing is known here of zones, nor is the pace of evictions limited.

pub mod eviction;
pub mod plan;
pub mod run;
