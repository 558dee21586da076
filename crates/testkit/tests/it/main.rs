//! Whole clusters in one process, as their users see them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something unexpected happens"
)]

mod at_once;
mod endpoints;
mod faults;
mod gates;
mod leader;
mod linear;
mod pods;
mod protobuf;
mod services;
mod two_clusters;
mod webhook;
