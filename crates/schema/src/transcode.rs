//! From protobuf to JSON without a tree.

use crate::{DecodeError, StructRef};

pub fn protobuf_to_json(
    _ty: &StructRef,
    _gvk: Option<(&str, &str)>,
    _raw: &[u8],
    _out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}
