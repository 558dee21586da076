//! The API server: one pipeline and one generic handler for every kind.
//!
//! Modules stand in the order of a request: [`server`] → [`pipeline`] → [`handlers`] → [`mod@write`] and [`read`] → the
//! store and its watch [`cache`]. It knows nothing of scheduling, controllers or nodes; nobody but this crate
//! touches the store.

pub mod admission;
pub mod answer;
pub mod body;
pub mod bootstrap;
pub mod cache;
pub mod codec;
pub mod convert;
pub mod core;
pub mod crds;
pub mod custom;
pub mod descriptions;
pub mod effects;
pub mod flow;
pub mod handlers;
pub mod https;
pub mod kubelet_client;
pub mod leases;
pub mod metrics;
pub mod negotiate;
pub mod options;
pub mod pipeline;
pub mod read;
pub mod registry;
pub mod security;
pub mod server;
pub mod start;
pub mod status;
mod warning;
pub mod write;
