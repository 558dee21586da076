//! What every component needs to be a client: informers, work queues, leader election and events, on `kube`.
//!
//! Knows nothing of any particular kind. Informers list and watch in protobuf and keep of each object just the
//! struct that their consumer names. Queues hold keys, never events: a reconciler looks at what is, not at what
//! happened.

mod around;
pub mod connect;
pub mod events;
pub mod index;
pub mod informer;
pub mod leader;
pub mod queue;
pub mod rate;
pub mod reach;
pub mod replace;
pub mod served;
mod wire;

pub use around::around;
pub use index::Index;
pub use informer::{Change, Informer, Reflector, Resource};
pub use kube::Client;
pub use queue::WorkQueue;
