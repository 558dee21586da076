//! Between the tree, stored bytes and any serde type whose field names are the JSON names.
//!
//! A type sees what it would see in JSON, but no JSON is written: bytes and times come as strings,
//! what is not omitted when zero comes as zero.

mod tree;
mod wire;

use ::serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::types::Type;
use crate::{DecodeError, Object, StructRef};

/// Reads a serde type straight from a bare message; fields that the type does not have are passed
/// over unread. `apiVersion` and `kind` are not in a message.
pub fn from_protobuf<T: DeserializeOwned>(ty: &StructRef, raw: &[u8]) -> Result<T, DecodeError> {
    if !ty.has_proto {
        return Err(DecodeError::NoProtobuf(ty.name.clone()));
    }
    T::deserialize(wire::Message::new(ty, raw))
}

/// The same without `metadata.managedFields`, which take more memory than all the rest and matter to nobody who only
/// reads.
pub fn from_protobuf_lean<T: DeserializeOwned>(ty: &StructRef, raw: &[u8]) -> Result<T, DecodeError> {
    if !ty.has_proto {
        return Err(DecodeError::NoProtobuf(ty.name.clone()));
    }
    T::deserialize(wire::Message::new(ty, raw).without("managedFields"))
}

/// Reads a serde type from the tree.
pub fn from_object<'de, T: Deserialize<'de>>(o: &'de Object) -> Result<T, DecodeError> {
    T::deserialize(tree::Tree::new(o))
}

/// Makes a tree of a serde type.
pub fn to_object<T: Serialize>(ty: &StructRef, v: &T) -> Result<Object, DecodeError> {
    let json = serde_json::to_vec(v).map_err(|e| DecodeError::Serde(e.to_string()))?;
    Ok(crate::json::decode(ty, &json)?.object)
}

/// The methods of a self-describing deserializer, around its `any` and `text`.
macro_rules! self_describing {
    () => {
        fn deserialize_any<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            self.any(visitor)
        }

        fn deserialize_option<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
        }

        // Go reads null into a list or a map as an empty one, and writes an empty one as null where its tag does not
        // leave it out.
        fn deserialize_seq<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            if self.is_null() {
                return visitor.visit_seq(crate::serde::NOTHING);
            }
            self.any(visitor)
        }

        fn deserialize_map<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            if self.is_null() {
                return visitor.visit_map(crate::serde::NOTHING);
            }
            self.any(visitor)
        }

        // And into a time or a text as the zero one: a time that nobody may leave out is null as long as nobody set it.
        fn deserialize_str<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            match self.is_null() {
                true => visitor.visit_str(crate::serde::zero_text(self.ty())),
                false => self.any(visitor),
            }
        }

        fn deserialize_string<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            self.deserialize_str(visitor)
        }

        fn deserialize_newtype_struct<V: ::serde::de::Visitor<'de>>(
            self,
            _name: &'static str,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            visitor.visit_newtype_struct(self)
        }

        fn deserialize_enum<V: ::serde::de::Visitor<'de>>(
            self,
            _name: &'static str,
            _variants: &'static [&'static str],
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            let text = String::deserialize(self)?;
            visitor.visit_enum(::serde::de::IntoDeserializer::into_deserializer(text))
        }

        fn deserialize_ignored_any<V: ::serde::de::Visitor<'de>>(
            self,
            visitor: V,
        ) -> std::result::Result<V::Value, crate::DecodeError> {
            visitor.visit_unit()
        }

        ::serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char
            bytes byte_buf unit unit_struct tuple tuple_struct struct identifier
        }
    };
}
use self_describing;

/// What null is as a text.
fn zero_text(ty: Option<&Type>) -> &'static str {
    match ty {
        Some(Type::Time | Type::MicroTime) => "0001-01-01T00:00:00Z",
        _ => "",
    }
}

/// A list, or a map, in which nothing is.
struct Nothing;

const NOTHING: Nothing = Nothing;

impl<'de> ::serde::de::SeqAccess<'de> for Nothing {
    type Error = DecodeError;

    fn next_element_seed<T: ::serde::de::DeserializeSeed<'de>>(
        &mut self,
        _: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        Ok(None)
    }
}

impl<'de> ::serde::de::MapAccess<'de> for Nothing {
    type Error = DecodeError;

    fn next_key_seed<K: ::serde::de::DeserializeSeed<'de>>(
        &mut self,
        _: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        Ok(None)
    }

    fn next_value_seed<V: ::serde::de::DeserializeSeed<'de>>(
        &mut self,
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::Serde("nothing has no value".into()))
    }
}

/// A whole number is one in JSON, whatever it is here.
fn float<'de, V: ::serde::de::Visitor<'de>>(value: f64, visitor: V) -> Result<V::Value, DecodeError> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return visitor.visit_i64(value as i64);
    }
    visitor.visit_f64(value)
}

/// Hands embedded JSON text to a visitor.
fn raw<'de, V: ::serde::de::Visitor<'de>>(text: &[u8], visitor: V) -> Result<V::Value, DecodeError> {
    // The text does not live as long as the target: a reader lends nothing of it.
    let mut text = serde_json::Deserializer::from_reader(text);
    let value = ::serde::Deserializer::deserialize_any(&mut text, visitor);
    value.and_then(|value| text.end().map(|()| value)).map_err(|e| DecodeError::Serde(e.to_string()))
}

#[cfg(test)]
mod tests;
