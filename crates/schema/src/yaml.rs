//! YAML, read and written as sigs.k8s.io/yaml does.

use crate::json::Decoded;
use crate::{DecodeError, Object, StructRef};

pub fn decode(_ty: &StructRef, _yaml: &[u8]) -> Result<Decoded, DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}

pub fn encode(_o: &Object) -> Vec<u8> {
    Vec::new()
}

pub fn to_json(_yaml: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}
