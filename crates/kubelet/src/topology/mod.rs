//! Where on the machine a container is to be: NUMA nodes (`pkg/kubelet/cm/topologymanager`).
//!
//! `machine` reads what the machine is, `settings` what is wanted, `merge` decides (pure). Who has what is not known
//! here.

mod machine;
mod mask;
mod merge;
mod settings;

#[cfg(test)]
pub use machine::Node;
pub use machine::{Machine, MachineError};
pub use mask::{Mask, combinations, subsets};
pub use merge::{Hint, Hints, Numa, merge};
pub use settings::{Policy, Settings, flag};
