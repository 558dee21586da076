//! Keys, bytes and revisions: one trait, [`Store`], with an embedded and an etcd back end.
//!
//! Knows nothing of Kubernetes objects. Its invariants:
//! - The revision is one 64-bit counter for the whole store; every commit raises it by one.
//! - What was acknowledged is durable, and a revision is visible (to reads and watches) only once it is.
//! - A watch delivers every event of its range from its first revision on, in order, without gaps,
//!   or ends with an error that says why.
//! - After a failed commit the embedded store is poisoned: it refuses everything until reopened. So that a
//!   full disk does not come to that, writes are refused while there is still room for what was accepted.

pub mod embedded;
pub mod etcd;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use types::*;
