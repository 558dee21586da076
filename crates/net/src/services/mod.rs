//! Services by nftables maps alone: one chain for each number of endpoints, none for each Service.
//!
//! [`plan`] turns Services and endpoint slices into the contents of the maps; [`apply`] writes the difference to
//! what is there in one transaction, after which the kernel forgets what is [`stale`]; [`run`] follows the cluster, and
//! [`health`] and [`checks`] tell how that goes.

pub mod apply;
pub mod checks;
pub mod health;
pub mod plan;
mod policy;
pub mod run;
pub mod stale;
