//! Writes, in the order of their stages: decoded → defaulted → admitted → validated → allowed → committed.
//!
//! Each stage's output is a type that only its module can make, so that no handler can leave one out:
//! [`decode::Decoded`] → [`admit::Admitted`] → [`validate::Valid`] → [`admit::Allowed`] →
//! [`commit::Committed`].

pub mod admit;
pub mod commit;
pub mod create;
pub mod decode;
pub mod delete;
pub mod prepare;
pub mod update;
pub mod validate;

use std::sync::Arc;

use crate::core::Core;
use crate::options::WriteOptions;
use crate::pipeline::authorize::Authorized;
use crate::registry::Resource;

/// What every stage of a write looks at.
pub struct WriteContext<'a> {
    /// The server.
    pub core: &'a Arc<Core>,
    /// Proof that the write is allowed, with who asked for what.
    pub authorized: &'a Authorized,
    /// What is written.
    pub resource: &'a Arc<Resource>,
    /// How.
    pub options: &'a WriteOptions,
}

impl WriteContext<'_> {
    /// The namespace that the path names.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.authorized.info().namespace } else { "" }
    }
}
