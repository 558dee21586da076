//! Why a kubelet does not run.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::claims::ClaimsError;
use crate::exclusive::ExclusiveError;
use crate::pods::userns::UsersError;
use crate::runtime::RuntimeError;
use crate::socket::SocketError;
/// Why a kubelet does not run.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A directory of its own cannot be made.
    #[error("making {}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the kernel tells of the machine cannot be read.
    #[error("reading {path}: {source}")]
    Machine {
        /// Which file.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// What is to be reserved is no amount.
    #[error("invalid Node Allocatable configuration. {0}")]
    Reserved(String),
    /// Which users pods have cannot be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Who has what for itself cannot be read.
    #[error(transparent)]
    Exclusive(#[from] ExclusiveError),
    /// Which images are verified makes no sense.
    #[error("{0}")]
    Verify(String),
    /// `allowedUnsafeSysctls` names what cannot be.
    #[error("{0}")]
    Sysctls(String),
    /// Which claims are used cannot be read.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Whoever is on the node cannot reach it.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The configuration and the machine's kernel do not fit each other.
    #[error("{0}")]
    Kernel(String),
    /// Somebody wants cgroups to be made by systemd.
    #[error("systemd is to make pods' cgroups, and does not answer: {0}")]
    Systemd(String),
    /// The container runtime cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The certificate of the HTTPS API cannot be used.
    #[error("the kubelet's serving certificate: {0}")]
    Certificate(#[from] auth::pki::PkiError),
    /// What is asked of TLS cannot be.
    #[error("{0}")]
    Tls(String),
    /// The HTTPS API cannot listen.
    #[error("listening at {address}: {source}: choose another address, or stop what listens there")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}
