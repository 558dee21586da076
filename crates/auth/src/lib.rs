//! Who somebody is and what they may do: the cluster's PKI, authentication and authorization.
//!
//! Knows nothing of HTTP bodies, storage or the pipeline. What it must look up (service accounts, pods, secrets) it
//! asks of a trait that the API server fills from its watch cache.

pub mod authenticate;
pub mod authorizer;
pub mod encryption;
pub mod impersonation;
pub mod kubeconfig;
pub mod node;
pub mod pki;
pub mod privileged;
pub mod rbac;
pub mod token;
pub mod user;

pub use pki::user_of_certificate;
