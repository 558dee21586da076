//! JSON patch, merge patch and strategic merge patch.

use crate::json::Decoded;
use crate::{DecodeError, Object};

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// A `test` operation did not hold: 422.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// The patch does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patched document is not an object of the kind.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub fn json_patch(_o: &Object, _patch: &[u8]) -> Result<Decoded, PatchError> {
    Err(PatchError::Malformed("unfinished".into()))
}

pub fn merge_patch(_o: &Object, _patch: &[u8]) -> Result<Decoded, PatchError> {
    Err(PatchError::Malformed("unfinished".into()))
}

pub fn strategic_merge(_o: &Object, _patch: &[u8]) -> Result<Decoded, PatchError> {
    Err(PatchError::Malformed("unfinished".into()))
}
