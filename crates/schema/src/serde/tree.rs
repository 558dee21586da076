//! A deserializer over the tree.

use ::serde::de::value::StrDeserializer;
use ::serde::de::{Deserialize as _, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{float, raw, self_describing};
use crate::DecodeError;
use crate::json::encode::Absent;
use crate::map::Map;
use crate::object::Object;
use crate::time;
use crate::types::{Form, Struct, Type};
use crate::value::Value;

/// One place of the tree.
pub(super) enum Tree<'a> {
    /// A struct; None for a zero one.
    Struct(&'a Struct, Option<&'a Object>),
    Value(&'a Type, &'a Value),
    Zero(&'a Type),
    /// Of this type, where it is known.
    Null(Option<&'a Type>),
}

impl<'a> Tree<'a> {
    pub fn new(object: &'a Object) -> Self {
        Self::Struct(object.ty(), Some(object))
    }

    fn is_null(&self) -> bool {
        match self {
            Self::Value(_, Value::Null) | Self::Null(_) => true,
            Self::Value(_, Value::Time(t)) => time::is_go_zero(*t),
            Self::Zero(ty) => !has_zero(ty),
            _ => false,
        }
    }

    fn ty(&self) -> Option<&'a Type> {
        match *self {
            Self::Value(ty, _) | Self::Zero(ty) => Some(ty),
            Self::Null(ty) => ty,
            Self::Struct(..) => None,
        }
    }

    fn any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Self::Struct(ty, object) => structure(ty, object, visitor),
            Self::Value(ty, value) => value_any(ty, value, visitor),
            Self::Zero(ty) => zero(ty, visitor),
            Self::Null(_) => visitor.visit_unit(),
        }
    }
}

impl<'de> Deserializer<'de> for Tree<'de> {
    type Error = DecodeError;

    self_describing!();
}

/// Whether the type's zero value is something other than null.
fn has_zero(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Bool
            | Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Float64
            | Type::IntOrString
            | Type::String
            | Type::Quantity
            | Type::Duration
            | Type::Struct(_)
    )
}

fn zero<'a, V: Visitor<'a>>(ty: &'a Type, visitor: V) -> Result<V::Value, DecodeError> {
    match ty {
        Type::Bool => visitor.visit_bool(false),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::IntOrString => visitor.visit_i64(0),
        Type::Float64 => visitor.visit_i64(0),
        Type::String => visitor.visit_borrowed_str(""),
        Type::Quantity => visitor.visit_borrowed_str("0"),
        Type::Duration => visitor.visit_borrowed_str("0s"),
        Type::Struct(ty) => structure(ty, None, visitor),
        _ => visitor.visit_unit(),
    }
}

fn structure<'a, V: Visitor<'a>>(
    ty: &'a Struct,
    object: Option<&'a Object>,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    if ty.form == Form::Object {
        return visitor.visit_map(Fields {
            ty,
            object,
            next: 0,
            extra: object.and_then(Object::extra).map(Entries::new),
            value: Tree::Null(None),
        });
    }
    let get = |name| object.and_then(|o| o.get(name));
    let list = match ty.form {
        Form::SchemaOrArray => get("jSONSchemas"),
        Form::SchemaOrStrings => get("property"),
        _ => None,
    };
    if let Some(list @ Value::List(items)) = list
        && !items.is_empty()
    {
        return value_any(&Type::Any, list, visitor);
    }
    match get("schema") {
        Some(schema) => value_any(&Type::Any, schema, visitor),
        None if ty.form == Form::SchemaOrBool => {
            visitor.visit_bool(get("allows").and_then(Value::as_bool).unwrap_or(false))
        }
        None => visitor.visit_unit(),
    }
}

fn item_of(ty: &Type) -> &Type {
    match ty {
        Type::List(item) | Type::Map(item) => item,
        _ => &Type::Any,
    }
}

fn value_any<'a, V: Visitor<'a>>(
    ty: &'a Type,
    value: &'a Value,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    match value {
        Value::Null => visitor.visit_unit(),
        Value::Bool(b) => visitor.visit_bool(*b),
        Value::Int(i) => match ty {
            Type::Duration => visitor.visit_string(time::format_duration(*i)),
            Type::Uint64 => visitor.visit_u64(*i as u64),
            _ => visitor.visit_i64(*i),
        },
        Value::Float(f) => float(*f, visitor),
        Value::Str(s) => visitor.visit_borrowed_str(s),
        Value::Bytes(b) => visitor.visit_string(super::wire::base64(b)),
        Value::Time(t) => match super::wire::time_text(ty, *t) {
            Some(text) => visitor.visit_string(text),
            None => visitor.visit_unit(),
        },
        Value::Raw(text) => raw(text, visitor),
        Value::Struct(o) => structure(o.ty(), Some(o), visitor),
        Value::List(items) => visitor.visit_seq(Items { ty: item_of(ty), items: items.iter() }),
        Value::Map(map) => {
            visitor.visit_map(MapEntries { ty: item_of(ty), entries: Entries::new(map), value: &Value::Null })
        }
    }
}

struct Items<'a> {
    ty: &'a Type,
    items: std::slice::Iter<'a, Value>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        match self.items.next() {
            Some(item) => seed.deserialize(Tree::Value(self.ty, item)).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a>(Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a>);

impl<'a> Entries<'a> {
    fn new(map: &'a Map) -> Self {
        Self(Box::new(map.iter()))
    }
}

struct MapEntries<'a> {
    ty: &'a Type,
    entries: Entries<'a>,
    value: &'a Value,
}

impl<'de> MapAccess<'de> for MapEntries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.0.next() else {
            return Ok(None);
        };
        self.value = value;
        seed.deserialize(::serde::de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(Tree::Value(self.ty, self.value))
    }
}

/// The fields of a struct as JSON would have them.
struct Fields<'a> {
    ty: &'a Struct,
    object: Option<&'a Object>,
    next: usize,
    extra: Option<Entries<'a>>,
    value: Tree<'a>,
}

impl<'a> Fields<'a> {
    fn advance(&mut self) -> Option<(&'a str, Tree<'a>)> {
        while let Some(field) = self.ty.fields.get(self.next) {
            let value =
                self.object.and_then(|o| o.get_index(self.next as u16)).filter(|v| !field.is_absent(v));
            self.next += 1;
            let tree = match value {
                Some(value) => Tree::Value(&field.ty, value),
                None if self.ty.custom => continue,
                None => match field.when_absent() {
                    Absent::Skip => continue,
                    Absent::Null => Tree::Null(Some(&field.ty)),
                    Absent::Zero => Tree::Zero(&field.ty),
                },
            };
            return Some((&field.json, tree));
        }
        let (key, value) = self.extra.as_mut()?.0.next()?;
        self.ty.preserve_unknown.then_some((key, Tree::Value(&Type::Any, value)))
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.advance() else {
            return Ok(None);
        };
        self.value = value;
        let key: StrDeserializer<'_, DecodeError> = ::serde::de::IntoDeserializer::into_deserializer(key);
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        seed.deserialize(std::mem::replace(&mut self.value, Tree::Null(None)))
    }
}
