//! What tests of a whole cluster need: clusters in this process, simulated nodes, a clock that jumps, and a checker
//! of histories.
//!
//! Nothing of a cluster is global, so a test makes as many as it likes. A failed expectation panics, as in any test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this crate serves tests: it fails by panicking"
)]

pub mod clock;
pub mod cluster;
pub mod go;
pub mod http;
pub mod linear;
pub mod nodes;
pub mod wait;
pub mod watch;

pub use clock::ShiftedClock;
pub use cluster::{Cluster, Options, StoreChoice};
pub use http::Answer;
pub use store::testing::EtcdServer;
pub use wait::until;
pub use watch::Watch;
