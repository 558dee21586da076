//! Between the tree, stored bytes and any serde type whose field names are the JSON names.

use ::serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DecodeError, Object, StructRef};

/// Reads a serde type straight from a bare message; fields that the type does not have are passed
/// over. The type sees what it would see in JSON.
pub fn from_protobuf<T: DeserializeOwned>(ty: &StructRef, raw: &[u8]) -> Result<T, DecodeError> {
    let mut out = Vec::new();
    crate::transcode::protobuf_to_json(ty, None, raw, &mut out)?;
    serde_json::from_slice(&out).map_err(|e| DecodeError::Serde(e.to_string()))
}

/// Reads a serde type from the tree.
pub fn from_object<'de, T: Deserialize<'de>>(_o: &'de Object) -> Result<T, DecodeError> {
    Err(DecodeError::Serde("unfinished".into()))
}

/// Makes a tree of a serde type.
pub fn to_object<T: Serialize>(ty: &StructRef, v: &T) -> Result<Object, DecodeError> {
    let json = serde_json::to_vec(v).map_err(|e| DecodeError::Serde(e.to_string()))?;
    Ok(crate::json::decode(ty, &json)?.object)
}
