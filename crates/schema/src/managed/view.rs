//! A tree seen as the JSON that it would be written as: zero values that JSON has are there.

use crate::json::encode::{Absent, zero};
use crate::json::{decode_value, encode_value};
use crate::map::Map;
use crate::object::Object;
use crate::types::{Field, Form, Struct, Type};
use crate::value::Value;

/// One place.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    Object(&'a Object),
    Value(&'a Value),
    /// The zero value of a type, which is written.
    Zero(&'a Type),
    Null,
}

fn parse(text: &[u8]) -> Value {
    match decode_value(&Type::Any, text) {
        Ok(Some(value)) => value,
        // Null, or embedded text that is no JSON and is written as null.
        Ok(None) | Err(_) => Value::Null,
    }
}

impl<'a> View<'a> {
    pub fn of(object: &'a Object) -> Self {
        Self::Object(object)
    }

    fn object(&self) -> Option<&'a Object> {
        match self {
            Self::Object(o) => Some(o),
            Self::Value(Value::Struct(o)) => Some(o),
            _ => None,
        }
    }

    /// Types that JSON shows as something else.
    pub fn is_opaque(&self) -> bool {
        matches!(self, Self::Value(Value::Raw(_)))
            || self.struct_type().is_some_and(|ty| ty.form != Form::Object)
    }

    /// As an untyped tree.
    pub fn untyped(&self) -> Value {
        let mut out = Vec::new();
        match self {
            Self::Object(o) => crate::json::encode_into(o, &mut out),
            Self::Value(value @ (Value::Str(_) | Value::Int(_) | Value::Bool(_))) => return (*value).clone(),
            Self::Value(value) => encode_value(&Type::Any, value, &mut out),
            Self::Zero(ty) => zero(&mut out, ty),
            Self::Null => return Value::Null,
        }
        parse(&out)
    }

    pub fn struct_type(&self) -> Option<&'a Struct> {
        match self {
            Self::Zero(Type::Struct(ty)) => Some(ty),
            view => view.object().map(|o| &**o.ty()),
        }
    }

    pub fn is_map(&self) -> bool {
        self.struct_type().is_some() || matches!(self, Self::Value(Value::Map(_)))
    }

    pub fn is_list(&self) -> bool {
        matches!(self, Self::Value(Value::List(_)))
    }

    pub fn map(&self) -> Option<&'a Map> {
        match self {
            Self::Value(Value::Map(map)) => Some(map),
            _ => None,
        }
    }

    pub fn list(&self) -> &'a [Value] {
        match self {
            Self::Value(Value::List(items)) => items,
            _ => &[],
        }
    }

    pub fn extra(&self) -> Option<&'a Map> {
        let object = self.object()?;
        object.extra().filter(|e| object.ty().preserve_unknown && !e.is_empty())
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        match self.struct_type() {
            Some(ty) => {
                let mut fields = ty.fields.iter().enumerate();
                self.extra().is_none() && fields.all(|(i, f)| self.field(i, f).is_none())
            }
            None => self.map().is_none_or(Map::is_empty) && self.list().is_empty(),
        }
    }

    /// A struct's field, where JSON has it.
    pub fn field(&self, index: usize, field: &'a Field) -> Option<View<'a>> {
        let ty = self.struct_type()?;
        let value = self.object().and_then(|o| o.get_index(index as u16));
        match value.filter(|v| !field.is_absent(v)) {
            Some(Value::List(l)) if l.is_empty() && field.drops_empty() => None,
            Some(Value::Map(m)) if m.is_empty() && field.drops_empty() => None,
            Some(Value::Bytes(b)) if b.is_empty() && field.drops_empty() => None,
            Some(Value::Time(t)) if crate::time::is_go_zero(*t) => Some(View::Null),
            Some(value) => Some(View::Value(value)),
            None if ty.custom => None,
            None => match field.when_absent() {
                Absent::Skip => None,
                Absent::Null => Some(View::Null),
                Absent::Zero => Some(View::Zero(&field.ty)),
            },
        }
    }

    /// The value of a struct's or map's member, as JSON has it.
    pub fn member(&self, name: &str) -> Option<Value> {
        let Some(ty) = self.struct_type() else {
            return self.map()?.get(name).cloned();
        };
        match ty.field(name) {
            Some((index, field)) => self.field(usize::from(index), field).map(|v| v.untyped()),
            None => self.extra()?.get(name).cloned(),
        }
    }

    /// Whether two leaves are different in JSON.
    pub fn differs(&self, other: &View<'_>) -> bool {
        match (self, other) {
            (View::Value(a), View::Value(b)) if a == b => false,
            (View::Value(Value::Str(_) | Value::Int(_) | Value::Bool(_)), View::Value(_)) => true,
            (View::Null, View::Null) => false,
            // Trees may tell empty from nil where JSON does not.
            (a, b) => a.untyped() != b.untyped(),
        }
    }
}
