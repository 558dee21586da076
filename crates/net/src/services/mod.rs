//! Services by nftables maps alone: one chain for each number of endpoints, none for each Service.
//!
//! [`plan`] turns Services and endpoint slices into the contents of the maps; [`apply`] writes the difference to
//! what is there in one transaction; [`run`] follows the cluster.

pub mod apply;
pub mod plan;
pub mod run;
