//! What can go wrong with the kernel's network.

/// A failure, with what was being done.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("{what}: {source}")]
    Netlink {
        /// What was being done, to what.
        what: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
    /// Something is not as it must be.
    #[error("{0}")]
    Other(String),
}

/// A result.
pub type Result<T> = std::result::Result<T, NetError>;

/// Adds what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| NetError::Io { what: what(), source })
    }
}

impl<T> Doing<T> for std::result::Result<T, nix::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| NetError::Io { what: what(), source: error.into() })
    }
}

impl<T> Doing<T> for std::result::Result<T, rtnetlink::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| NetError::Netlink { what: what(), source })
    }
}
