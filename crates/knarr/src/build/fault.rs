//! What can be wrong with a build.

use std::io;
use std::path::Path;

/// What is wrong with one instruction.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be understood.
    #[error("{0}")]
    Syntax(String),
    /// It is good elsewhere.
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// The way out.
        instead: &'static str,
    },
    /// What it copies is not there, is not allowed, or does not fit where it shall go.
    #[error("{path}: {reason}")]
    Source {
        /// Which path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A file or folder cannot be read.
    #[error("reading {path}")]
    Read {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The layer cannot be written.
    #[error("writing a layer")]
    Write(#[source] io::Error),
}

impl Fault {
    /// For `map_err`.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Read { path, source }
    }

    /// For `ok_or_else` and the like.
    pub fn syntax(text: impl Into<String>) -> Self {
        Self::Syntax(text.into())
    }
}

/// What is wrong, and where it is.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}")]
pub struct BuildError {
    /// The Containerfile.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub source: Fault,
}
