//! One value of the tree.

use bytes::Bytes;
use jiff::Timestamp;

use crate::map::Map;
use crate::object::Object;
use crate::types::Type;

/// A value. Which variant stands for which [`Type`]: `Int` for all integers,
/// for a Duration (nanoseconds) and for an IntOrString that is a number; `Str` for strings,
/// Quantities (canonical) and an IntOrString that is a string; `Raw` for RawExtension, JSON and
/// FieldsV1; the rest by name.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Only inside untyped values, and for nil items of lists and maps of pointers.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Bytes),
    Time(Timestamp),
    /// JSON text.
    Raw(Bytes),
    Struct(Object),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            Self::Int(i) => Some(*i as f64),
            _ => None,
        }
    }

    pub fn as_time(&self) -> Option<Timestamp> {
        match self {
            Self::Time(t) => Some(*t),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(b) | Self::Raw(b) => Some(b),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    pub fn as_struct(&self) -> Option<&Object> {
        match self {
            Self::Struct(o) => Some(o),
            _ => None,
        }
    }

    pub fn as_struct_mut(&mut self) -> Option<&mut Object> {
        match self {
            Self::Struct(o) => Some(o),
            _ => None,
        }
    }

    /// Whether Go would hold the zero value here, where the field is not a pointer. An empty list
    /// or map is not one: Go tells it from nil.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(i) => *i == 0,
            Self::Float(f) => *f == 0.0,
            Self::Str(s) => s.is_empty(),
            Self::Struct(o) => o.is_zero(),
            Self::Bytes(_) | Self::Time(_) | Self::Raw(_) | Self::List(_) | Self::Map(_) => false,
        }
    }

    /// As [`Value::is_zero`], for the types whose zero value looks otherwise.
    pub fn is_zero_of(&self, ty: &Type) -> bool {
        match (ty, self) {
            (Type::IntOrString, Self::Str(_)) => false,
            (Type::Quantity, Self::Str(s)) => s == "0",
            (Type::Time | Type::MicroTime, Self::Time(t)) => crate::time::is_go_zero(*t),
            _ => self.is_zero(),
        }
    }

    /// The value below this one: a field of a struct or a key of a map.
    pub fn child(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Struct(o) => o.get(key),
            Self::Map(m) => m.get(key),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($from:ty => |$v:ident| $make:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($v: $from) -> Self { $make }
        })*
    };
}

from! {
    bool => |v| Value::Bool(v),
    i64 => |v| Value::Int(v),
    i32 => |v| Value::Int(v.into()),
    u32 => |v| Value::Int(v.into()),
    u16 => |v| Value::Int(v.into()),
    f64 => |v| Value::Float(v),
    String => |v| Value::Str(v),
    &str => |v| Value::Str(v.to_owned()),
    &String => |v| Value::Str(v.clone()),
    Box<str> => |v| Value::Str(v.into()),
    Bytes => |v| Value::Bytes(v),
    Timestamp => |v| Value::Time(v),
    Object => |v| Value::Struct(v),
    Vec<Value> => |v| Value::List(v),
    Vec<Object> => |v| Value::List(v.into_iter().map(Value::Struct).collect()),
    Vec<String> => |v| Value::List(v.into_iter().map(Value::Str).collect()),
    Map => |v| Value::Map(v),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
