//! Between the tree, stored bytes and any serde type.

use ::serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{DecodeError, Object, StructRef};

pub fn from_protobuf<T: DeserializeOwned>(_ty: &StructRef, _raw: &[u8]) -> Result<T, DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}

pub fn from_object<'de, T: Deserialize<'de>>(_o: &'de Object) -> Result<T, DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}

pub fn to_object<T: Serialize>(_ty: &StructRef, _v: &T) -> Result<Object, DecodeError> {
    Err(DecodeError::Type("unfinished".into()))
}
