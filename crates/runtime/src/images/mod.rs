//! Images: their names, their manifests and configurations, and their layers, unpacked.
//!
//! Below the root: `images/index.json` says what there is; `images/blobs/sha256/` has manifests and
//! configurations by digest; `layers/<chain id>/fs` has each layer, unpacked onto those below it,
//! so that images with the same beginning share it. Compressed layers are not kept.
//!
//! Invariants:
//! - An image is in the index only when every layer and blob of it is complete and on disk; a layer
//!   has its final name only when its digests were right.
//! - The index is replaced as a whole, under a lock that other processes respect too.
//! - Nothing here knows of containers; who may be removed is the caller's decision.

mod apply;
mod archive;
mod auth;
mod cache;
mod decompress;
mod fetch;
mod hosts;
mod layer;
mod name;
mod pull;
mod registry;
mod store;

use std::io;

pub use archive::{Source, import};
pub use auth::Auth;
pub use name::{Name, Wanted};
pub use pull::pull;
pub use store::{Image, Store};

/// Why an image is not there, or not right.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A name that cannot be one.
    #[error("invalid image reference {0:?}: {1}")]
    Reference(String, String),
    /// No such image here.
    #[error("image {0:?} is not present: pull or import it first")]
    NotFound(String),
    /// No such image there.
    #[error("{registry} has no image {image}: {reason}")]
    Missing {
        /// Who was asked.
        registry: String,
        /// For what.
        image: String,
        /// What it answered.
        reason: String,
    },
    /// The registry refused.
    #[error("{registry} denies access to {image}: check the pull secret ({reason})")]
    Denied {
        /// Who was asked.
        registry: String,
        /// For what.
        image: String,
        /// What it answered.
        reason: String,
    },
    /// The registry failed.
    #[error("pulling {image} from {registry}: {reason}")]
    Registry {
        /// Who was asked.
        registry: String,
        /// For what.
        image: String,
        /// What happened.
        reason: String,
    },
    /// Bytes are not what their digest says.
    #[error("{what} {expected} is corrupt: its content has the digest {actual}")]
    Corrupt {
        /// `layer`, `manifest`, `configuration`.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer}: {path}: {source}")]
    Unpack {
        /// Its digest.
        layer: String,
        /// Which entry.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not an image archive.
    #[error("not an image archive: {0}")]
    Archive(String),
    /// A manifest or configuration says something impossible.
    #[error("{what}: {reason}")]
    Malformed {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// No variant for this machine.
    #[error("the image has no variant for linux/{0}")]
    Platform(&'static str),
    /// The store's own files.
    #[error("image store: {what}")]
    Store {
        /// Doing what.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl ImageError {
    fn store(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Store { what, source }
    }
}

/// An error with all its causes: the other end sees nothing but text.
pub fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// What Go, and so every image, calls this machine's architecture.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};
