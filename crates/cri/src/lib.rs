//! The Container Runtime Interface, version 1: its messages, its services and a client.
//!
//! `proto/runtime.proto` states the messages of `k8s.io/cri-api` v0.37. The crate knows neither a
//! kubelet nor a runtime: it only connects the two over a unix socket.

mod client;

pub use client::{ConnectError, ImageClient, RuntimeClient, channel, connect};

/// The messages and services of `runtime.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
