//! Where on the machine a container is to be: NUMA nodes.

mod mask;

pub use mask::Mask;
