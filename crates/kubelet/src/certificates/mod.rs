//! The node's certificates: asked of the cluster, kept in files as upstream's kubelet keeps them, and renewed while
//! they are used (`rotateCertificates`, `serverTLSBootstrap`).
//!
//! `plan` says when one is to be renewed, `files` keeps it, `request` asks for it, `run` goes on and on.
//! Whoever uses a certificate is told of a new one, and does not know where it is from.

mod files;
mod given;
mod plan;
mod request;
mod run;

pub use files::{FileError, Files};
pub use given::{Given, authority, follow_authority};
pub use plan::Wanted;
pub use request::{RequestError, request};
pub use run::{Measure, Renewal, Use};
