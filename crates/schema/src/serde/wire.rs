//! A deserializer over a bare protobuf message.

use std::borrow::Cow;

use ::serde::de::value::StrDeserializer;
use ::serde::de::{
    Deserialize as _, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::{float, raw, self_describing};
use crate::DecodeError;
use crate::json::encode::Absent;
use crate::json::scan::MAX_DEPTH;
use crate::protobuf::message::{self, Entries, Entry, IntOrString, MapEntries};
use crate::protobuf::wire::{Payload, Reader};
use crate::time;
use crate::types::{Field, Form, Struct, Type};

type Result<T> = std::result::Result<T, DecodeError>;

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// None for Go's zero time, which is null.
pub(super) fn time_text(ty: &Type, value: jiff::Timestamp) -> Option<String> {
    if time::is_go_zero(value) {
        return None;
    }
    Some(match ty {
        Type::MicroTime => time::format_rfc3339_micro(value),
        _ => time::format_rfc3339(value),
    })
}

/// A whole message.
pub(super) struct Message<'a> {
    ty: &'a Struct,
    raw: &'a [u8],
    depth: usize,
    /// A field that is passed over, here and in the messages below.
    omit: &'static str,
}

impl<'a> Message<'a> {
    pub fn new(ty: &'a Struct, raw: &'a [u8]) -> Self {
        Self { ty, raw, depth: 0, omit: "" }
    }

    /// The same without a field, by its JSON name.
    pub fn without(self, omit: &'static str) -> Self {
        Self { omit, ..self }
    }

    fn is_null(&self) -> bool {
        false
    }

    fn ty(&self) -> Option<&Type> {
        None
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.depth > MAX_DEPTH {
            return Err(Reader::new(self.raw).error("exceeded max depth"));
        }
        let entries = message::collect(self.ty, self.raw)?;
        if self.ty.form != Form::Object {
            return form(self.ty, &entries, self.depth, visitor);
        }
        let Self { ty, depth, omit, .. } = self;
        visitor.visit_map(Fields { ty, entries, taken: 0, next: 0, value: None, depth, omit })
    }
}

impl<'de> Deserializer<'de> for Message<'_> {
    type Error = DecodeError;

    self_describing!();
}

/// The apiextensions types that are a schema or something else.
fn form<'de, V: Visitor<'de>>(
    ty: &Struct,
    entries: &[Entry<'_>],
    depth: usize,
    visitor: V,
) -> Result<V::Value> {
    for name in ["jSONSchemas", "property", "schema", "allows"] {
        let Some((index, field)) = ty.field(name) else {
            continue;
        };
        if name == "allows" && ty.form != Form::SchemaOrBool {
            continue;
        }
        let start = entries.partition_point(|e| e.index < index);
        let end = entries.partition_point(|e| e.index <= index);
        let own = entries.get(start..end).unwrap_or_default();
        if !own.is_empty() {
            return FieldValue { field, own, depth, omit: "" }.any(visitor);
        }
    }
    match ty.form {
        Form::SchemaOrBool => visitor.visit_bool(false),
        _ => visitor.visit_unit(),
    }
}

/// The fields of a message as JSON would have them.
struct Fields<'a> {
    ty: &'a Struct,
    entries: Entries<'a>,
    /// Entries before this one have been visited.
    taken: usize,
    next: usize,
    /// The field whose key was given last, and its entries; none for a zero or null.
    value: Option<(&'a Field, usize, usize)>,
    depth: usize,
    omit: &'static str,
}

impl<'a> Fields<'a> {
    fn advance(&mut self) -> Result<Option<&'a str>> {
        while let Some(field) = self.ty.fields.get(self.next) {
            let start = self.taken;
            while self.entries.get(self.taken).is_some_and(|e| usize::from(e.index) == self.next) {
                self.taken += 1;
            }
            self.next += 1;
            if !self.omit.is_empty() && *field.json == *self.omit {
                continue;
            }
            let own = self.entries.get(start..self.taken).unwrap_or_default();
            let absent = message::is_absent(field, own).map_err(|e| message::at_field(e, self.ty, field))?;
            if absent && field.when_absent() == Absent::Skip {
                continue;
            }
            let end = if absent { start } else { self.taken };
            self.value = Some((field, start, end));
            return Ok(Some(&field.json));
        }
        Ok(None)
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some(name) = self.advance()? else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, DecodeError> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        let Some((field, start, end)) = self.value.take() else {
            return Err(DecodeError::Serde("a value was read before its key".into()));
        };
        let own = self.entries.get(start..end).unwrap_or_default();
        seed.deserialize(FieldValue { field, own, depth: self.depth, omit: self.omit })
            .map_err(|e| message::at_field(e, self.ty, field))
    }
}

/// One field's value; no entries stand for its zero value or null.
struct FieldValue<'a> {
    field: &'a Field,
    own: &'a [Entry<'a>],
    depth: usize,
    omit: &'static str,
}

impl FieldValue<'_> {
    fn is_null(&self) -> bool {
        self.own.is_empty() && self.field.when_absent() == Absent::Null
    }

    fn ty(&self) -> Option<&Type> {
        Some(&self.field.ty)
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Self { field, own, depth, omit } = self;
        let Some(last) = own.last() else {
            return match self.field.when_absent() {
                Absent::Zero => Zero(&field.ty).any(visitor),
                _ => visitor.visit_unit(),
            };
        };
        match &field.ty {
            Type::Struct(ty) => {
                let joined = message::joined(own)?;
                Message { ty, raw: &joined, depth: depth + 1, omit }.any(visitor)
            }
            Type::List(item) => {
                let payloads = own.iter().map(|e| e.payload);
                list(item, field.items_message, payloads, depth, visitor)
            }
            Type::Map(item) => visitor.visit_map(Map {
                item,
                entries: message::map_entries(own)?.into_iter(),
                value: None,
                depth,
            }),
            ty => Single { ty, payload: last.payload, depth }.any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for FieldValue<'_> {
    type Error = DecodeError;

    self_describing!();
}

/// A zero value, for visitors that do not borrow from the type.
struct Zero<'a>(&'a Type);

impl Zero<'_> {
    fn is_null(&self) -> bool {
        matches!(self.0, Type::Time | Type::MicroTime)
    }

    fn ty(&self) -> Option<&Type> {
        Some(self.0)
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0 {
            Type::Struct(ty) => Message::new(ty, b"").any(visitor),
            Type::String => visitor.visit_str(""),
            Type::Quantity => visitor.visit_str("0"),
            Type::Duration => visitor.visit_str("0s"),
            Type::Bool => visitor.visit_bool(false),
            Type::Float64 => visitor.visit_i64(0),
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::IntOrString => {
                visitor.visit_i64(0)
            }
            _ => visitor.visit_unit(),
        }
    }
}

impl<'de> Deserializer<'de> for Zero<'_> {
    type Error = DecodeError;

    self_describing!();
}

fn list<'a, 'de, V: Visitor<'de>>(
    item: &'a Type,
    wrapped: bool,
    payloads: impl Iterator<Item = Payload<'a>>,
    depth: usize,
    visitor: V,
) -> Result<V::Value> {
    let items = message::list_items(item, wrapped, payloads)?;
    visitor.visit_seq(Items { item, items: items.iter(), depth })
}

struct Items<'a> {
    item: &'a Type,
    items: std::slice::Iter<'a, Payload<'a>>,
    depth: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(payload) = self.items.next() else {
            return Ok(None);
        };
        let value = Single { ty: self.item, payload: *payload, depth: self.depth };
        seed.deserialize(value).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Map<'a> {
    item: &'a Type,
    entries: <MapEntries<'a> as IntoIterator>::IntoIter,
    value: Option<Payload<'a>>,
    depth: usize,
}

impl<'de> MapAccess<'de> for Map<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some((key, value)): Option<(Cow<'_, str>, _)> = self.entries.next() else {
            return Ok(None);
        };
        self.value = value;
        let key: StrDeserializer<'_, DecodeError> = (*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value> {
        match self.value.take() {
            Some(payload) => seed.deserialize(Single { ty: self.item, payload, depth: self.depth }),
            None if matches!(self.item, Type::Bytes) => seed.deserialize(Zero(&Type::String)),
            None => seed.deserialize(Zero(self.item)),
        }
    }
}

/// A value that stands once; a list only where it is a message of its own.
struct Single<'a> {
    ty: &'a Type,
    payload: Payload<'a>,
    depth: usize,
}

impl Single<'_> {
    fn is_null(&self) -> bool {
        let Payload::Bytes(bytes) = self.payload else {
            return false;
        };
        match self.ty {
            Type::Time | Type::MicroTime => bytes.is_empty(),
            Type::Raw | Type::FieldsV1 => matches!(message::raw(bytes), Ok(None | Some([]))),
            _ => false,
        }
    }

    fn ty(&self) -> Option<&Type> {
        Some(self.ty)
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Self { ty, payload, depth } = self;
        match ty {
            Type::Bool => visitor.visit_bool(message::varint_of(payload)? != 0),
            Type::Int32 => visitor.visit_i32(message::varint_of(payload)? as i32),
            Type::Uint32 => visitor.visit_u32(message::varint_of(payload)? as u32),
            Type::Int64 => visitor.visit_i64(message::varint_of(payload)? as i64),
            Type::Uint64 => visitor.visit_u64(message::varint_of(payload)?),
            Type::Float64 => float(message::float_of(payload)?, visitor),
            Type::List(item) => list(item, true, std::iter::once(payload), depth, visitor),
            ty => delimited(ty, message::bytes_of(payload)?, depth, visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Single<'_> {
    type Error = DecodeError;

    self_describing!();
}

fn delimited<'de, V: Visitor<'de>>(ty: &Type, bytes: &[u8], depth: usize, visitor: V) -> Result<V::Value> {
    match ty {
        Type::String => visitor.visit_str(&message::text(bytes)),
        Type::Bytes => visitor.visit_string(base64(bytes)),
        Type::Time | Type::MicroTime => match time_text(ty, message::time(ty, bytes)?) {
            Some(text) => visitor.visit_string(text),
            None => visitor.visit_unit(),
        },
        Type::Duration => visitor.visit_string(time::format_duration(message::duration(bytes)?)),
        Type::IntOrString => match message::int_or_string(bytes)? {
            IntOrString::Int(i) => visitor.visit_i32(i),
            IntOrString::Str(s) => visitor.visit_str(&s),
        },
        Type::Quantity => visitor.visit_str(&message::quantity(bytes)?),
        Type::Raw | Type::FieldsV1 => match message::raw(bytes)? {
            Some([]) | None => visitor.visit_unit(),
            Some(text) => raw(text, visitor),
        },
        Type::Struct(ty) => Message { ty, raw: bytes, depth: depth + 1, omit: "" }.any(visitor),
        _ => Err(message::wrong_wire()),
    }
}
