//! The scheduler: finds a node for each pod.
//!
//! [`plan`] decides and is pure; [`run`] follows the cluster, keeps [`snapshot`] and [`queue`], and binds. It is a
//! client of the API server and knows nothing of how nodes run pods.

mod claims;
mod groups;
pub mod plan;
pub mod queue;
mod run;
pub mod snapshot;
pub mod view;
mod volumes;

pub use run::run;
