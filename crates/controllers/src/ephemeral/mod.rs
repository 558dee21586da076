//! Claims of generic ephemeral volumes (KEP-1698): each lives and dies with its pod, which owns it.

pub mod plan;
pub mod run;
