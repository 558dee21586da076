//! The tree that the pipeline works on.
//!
//! The tree is canonical: two trees are equal when the Go values would be. A zero value of a field
//! that is not a pointer is not stored; null is absence; an empty list or map differs from none.

mod meta;

use crate::map::Map;
use crate::types::{Field, StructRef, Type};
use crate::value::Value;

/// A struct's value: the fields that are set.
#[derive(Clone)]
pub struct Object {
    ty: StructRef,
    /// Sorted by field index.
    fields: Vec<(u16, Value)>,
    /// Unknown fields, where the struct preserves them.
    extra: Option<Box<Map>>,
}

impl Object {
    pub fn new(ty: StructRef) -> Self {
        Self { ty, fields: Vec::new(), extra: None }
    }

    pub fn ty(&self) -> &StructRef {
        &self.ty
    }

    /// Nothing is set, or only what Go could not tell from nothing.
    pub fn is_zero(&self) -> bool {
        self.extra.as_ref().is_none_or(|e| e.is_empty())
            && self.fields.iter().all(|(i, v)| self.is_absent(*i, v))
    }

    fn is_absent(&self, index: u16, value: &Value) -> bool {
        let field = self.ty.fields.get(usize::from(index));
        field.is_some_and(|f| f.is_absent(value))
    }

    fn position(&self, index: u16) -> Result<usize, usize> {
        match self.fields.last() {
            None => Err(0),
            Some((last, _)) if *last < index => Err(self.fields.len()),
            _ => self.fields.binary_search_by_key(&index, |(i, _)| *i),
        }
    }

    /// The value of the field with this index.
    pub fn get_index(&self, index: u16) -> Option<&Value> {
        let at = self.position(index).ok()?;
        self.fields.get(at).map(|(_, v)| v)
    }

    pub fn get_index_mut(&mut self, index: u16) -> Option<&mut Value> {
        let at = self.position(index).ok()?;
        self.fields.get_mut(at).map(|(_, v)| v)
    }

    /// Stores the value as it is. The caller keeps the tree canonical.
    pub(crate) fn put_index(&mut self, index: u16, value: Value) -> Option<Value> {
        match self.position(index) {
            Ok(at) => self.fields.get_mut(at).map(|(_, v)| std::mem::replace(v, value)),
            Err(at) => {
                self.fields.insert(at, (index, value));
                None
            }
        }
    }

    /// The value at `index`, which is `made` when there was none.
    fn slot(&mut self, index: u16, made: Value) -> &mut Value {
        let at = match self.position(index) {
            Ok(at) => at,
            Err(at) => {
                self.fields.insert(at, (index, made));
                at
            }
        };
        match self.fields.get_mut(at) {
            Some((_, value)) => value,
            None => unreachable!("the entry was just found or inserted"),
        }
    }

    pub fn remove_index(&mut self, index: u16) -> Option<Value> {
        let at = self.position(index).ok()?;
        Some(self.fields.remove(at).1)
    }

    /// The value of a field. None stands for Go's zero value or nil.
    pub fn get(&self, json: &str) -> Option<&Value> {
        match self.ty.field(json) {
            Some((index, _)) => self.get_index(index),
            None => self.extra.as_ref()?.get(json),
        }
    }

    pub fn get_mut(&mut self, json: &str) -> Option<&mut Value> {
        match self.ty.field(json).map(|(i, _)| i) {
            Some(index) => self.get_index_mut(index),
            None => self.extra.as_mut()?.get_mut(json),
        }
    }

    /// False when there is no such field. Setting the zero value of a field that is not a pointer
    /// removes it, as does setting null.
    pub fn set(&mut self, json: &str, value: impl Into<Value>) -> bool {
        let value = value.into();
        let Some((index, field)) = self.ty.field(json) else {
            if !self.ty.preserve_unknown {
                return false;
            }
            self.extra.get_or_insert_default().insert(json.to_owned(), value);
            return true;
        };
        let value = fit(field, value);
        let drop = match value {
            Value::Null => !(self.ty.custom && field.nullable),
            _ => field.is_absent(&value),
        };
        if drop {
            self.remove_index(index);
        } else {
            self.put_index(index, value);
        }
        true
    }

    pub fn remove(&mut self, json: &str) -> Option<Value> {
        match self.ty.field(json).map(|(i, _)| i) {
            Some(index) => self.remove_index(index),
            None => self.extra.as_mut()?.remove(json),
        }
    }

    /// Walks structs and maps.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.get(first)?;
        for key in rest {
            value = value.child(key)?;
        }
        Some(value)
    }

    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    pub fn int_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_int()
    }

    pub fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    pub fn list_at(&self, path: &[&str]) -> Option<&[Value]> {
        self.at(path)?.as_list()
    }

    pub fn map_at(&self, path: &[&str]) -> Option<&Map> {
        self.at(path)?.as_map()
    }

    pub fn struct_at(&self, path: &[&str]) -> Option<&Object> {
        self.at(path)?.as_struct()
    }

    /// The struct in this field, created when absent. None when the field holds no struct.
    pub fn struct_mut(&mut self, json: &str) -> Option<&mut Object> {
        let (index, field) = self.ty.field(json)?;
        if self.position(index).is_err() {
            let Type::Struct(ty) = &field.ty else {
                return None;
            };
            let made = Object::new(ty.clone());
            self.put_index(index, Value::Struct(made));
        }
        self.get_index_mut(index)?.as_struct_mut()
    }

    /// The map in this field, created when absent. None when the field holds no map.
    pub fn map_mut(&mut self, json: &str) -> Option<&mut Map> {
        let (index, field) = self.ty.field(json)?;
        if self.position(index).is_err() {
            if !matches!(field.ty, Type::Map(_) | Type::Any) {
                return None;
            }
            self.put_index(index, Value::Map(Map::new()));
        }
        self.get_index_mut(index)?.as_map_mut()
    }

    /// The list in this field, created when absent. None when the field holds no list.
    pub fn list_mut(&mut self, json: &str) -> Option<&mut Vec<Value>> {
        let (index, field) = self.ty.field(json)?;
        if self.position(index).is_err() {
            if !matches!(field.ty, Type::List(_) | Type::Any) {
                return None;
            }
            self.put_index(index, Value::List(Vec::new()));
        }
        self.get_index_mut(index)?.as_list_mut()
    }

    /// The struct type of the items of a list (or of the values of a map) in this field.
    pub fn item_type(&self, json: &str) -> Option<StructRef> {
        let (_, field) = self.ty.field(json)?;
        match &field.ty {
            Type::List(inner) | Type::Map(inner) => match &**inner {
                Type::Struct(ty) => Some(ty.clone()),
                _ => None,
            },
            Type::Struct(ty) => Some(ty.clone()),
            _ => None,
        }
    }

    /// The fields that are set, in JSON order. Unknown ones are in [`Object::extra`].
    pub fn fields(&self) -> impl Iterator<Item = (&Field, &Value)> {
        self.fields.iter().filter_map(|(i, v)| Some((self.ty.fields.get(usize::from(*i))?, v)))
    }

    /// Drops the fields that are not to be kept, each of which may be changed before.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Field, &mut Value) -> bool) {
        let ty = self.ty.clone();
        self.fields.retain_mut(|(index, value)| match ty.fields.get(usize::from(*index)) {
            Some(field) => keep(field, value),
            None => true,
        });
    }

    pub(crate) fn indexed(&self) -> &[(u16, Value)] {
        &self.fields
    }

    /// Preserved unknown fields.
    pub fn extra(&self) -> Option<&Map> {
        self.extra.as_deref()
    }

    pub(crate) fn extra_mut(&mut self) -> &mut Map {
        self.extra.get_or_insert_default()
    }
}

/// Brings a value to the form in which the tree holds it.
fn fit(field: &Field, value: Value) -> Value {
    match (&field.ty, value) {
        (Type::Time, Value::Time(t)) => Value::Time(crate::time::to_seconds(t)),
        (Type::MicroTime, Value::Time(t)) => Value::Time(crate::time::to_micros(t)),
        (Type::Quantity, Value::Str(s)) => match s.parse::<crate::quantity::Quantity>() {
            Ok(q) => Value::Str(q.to_string()),
            Err(_) => Value::Str(s),
        },
        (Type::Raw | Type::FieldsV1, Value::Bytes(b)) => Value::Raw(b),
        (_, value) => value,
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        if self.ty != other.ty {
            return false;
        }
        let (mut a, mut b) = (self.fields.iter().peekable(), other.fields.iter().peekable());
        loop {
            match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some((i, x)), Some((j, y))) if i == j => {
                    if x != y {
                        return false;
                    }
                    a.next();
                    b.next();
                }
                (Some((i, x)), other_side) if other_side.is_none_or(|(j, _)| i < j) => {
                    if !self.is_absent(*i, x) {
                        return false;
                    }
                    a.next();
                }
                (_, Some((j, y))) => {
                    if !self.is_absent(*j, y) {
                        return false;
                    }
                    b.next();
                }
                (Some(_), None) => return false,
            }
        }
        let empty = |o: &Self| o.extra.as_ref().is_none_or(|e| e.is_empty());
        (empty(self) && empty(other)) || self.extra == other.extra
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for (field, value) in self.fields() {
            map.entry(&&*field.json, value);
        }
        if let Some(extra) = &self.extra {
            map.entries(extra.iter());
        }
        map.finish()
    }
}
