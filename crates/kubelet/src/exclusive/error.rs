//! What goes wrong, and how a pod is told.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::cpus::{CpuError, CpusError};
use crate::devices::AllocateError;
use crate::memory::{MemoryError, MemorySetupError};
use crate::pods::admission::Refusal;
use crate::topology::MachineError;

/// Why a kubelet cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ExclusiveError {
    /// Its folder cannot be made.
    #[error("making {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Who has which devices is not known.
    #[error("{0}: drain this node and delete that file")]
    Devices(#[from] CheckpointError),
    /// The machine cannot be looked at.
    #[error("the machine's NUMA nodes and cpus: {0}")]
    Machine(#[from] MachineError),
    /// Settings that cannot be.
    #[error("{0}")]
    Placing(String),
    /// Of processors.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// Of memory.
    #[error(transparent)]
    Memory(#[from] MemorySetupError),
}

/// Why a pod's containers do not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error("Resources cannot be allocated with Topology locality")]
    Topology,
    /// Of a pod that has resources as a whole.
    #[error("Pod Scope pod with pod-level resources failed admission {}", match by_pod {
        true => "under pod-scope topology manager",
        false => "with a container-level topology manager",
    })]
    WholeTopology { by_pod: bool },
    #[error(transparent)]
    Devices(#[from] AllocateError),
    #[error(transparent)]
    Cpus(#[from] CpuError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl AdmitError {
    /// As upstream says it: what it expects by its name, and the rest as unexpected.
    pub fn refusal(&self) -> Refusal {
        let reason = match self {
            Self::Cpus(CpuError::NothingToShare(_)) | Self::Memory(MemoryError::NothingToShare(_)) => {
                "EmptyPodSharedPoolError"
            }
            Self::Topology | Self::WholeTopology { .. } => "TopologyAffinityError",
            Self::Cpus(CpuError::HalfCores { .. } | CpuError::TooFewCores { .. }) => "SMTAlignmentError",
            _ => {
                return Refusal {
                    reason: "UnexpectedAdmissionError".to_owned(),
                    message: format!("Allocate failed due to {self}, which is unexpected"),
                };
            }
        };
        Refusal { reason: reason.to_owned(), message: self.to_string() }
    }
}
