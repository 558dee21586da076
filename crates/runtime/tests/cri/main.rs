//! The runtime as a kubelet sees it: over gRPC, with real containers.
//!
//! They need root, Debian's busybox-static, and nothing else; each has its own folders and cgroups.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod cni;
mod confinement;
mod exec;
mod faults;
mod handlers;
mod image;
mod image_faults;
mod lifecycle;
mod measure;
mod node;
mod restart;
mod start_faults;
mod streams;
mod upstream;
mod users;
