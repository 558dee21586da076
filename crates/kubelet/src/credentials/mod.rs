//! Image credential providers (KEP-2133, KEP-4412): programs that are asked who the node, or a pod's service account,
//! is at a registry.
//!
//! `config` reads which there are, `matching` says whom an image concerns (pure), `run` asks and remembers.

mod config;
pub mod files;
pub mod matching;
mod run;

pub use config::{CredentialProviderError, CredentialProviders};
pub use run::{Asked, Providers};
