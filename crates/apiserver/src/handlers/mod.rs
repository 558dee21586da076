//! What each verb on a resource, a subresource or a plain path does. There are no handlers per kind: what is
//! particular to a kind stands in its rules.

pub mod binding;
pub mod discovery;
pub mod eviction;
pub mod health;
pub mod node_proxy;
pub mod openapi;
pub mod openapi_v2;
pub mod patch;
mod pod_logs;
pub mod proxy;
pub mod resource;
pub mod reviews;
pub mod scale;
pub mod socket;
pub mod subresource;
pub mod token;
pub mod usage;
