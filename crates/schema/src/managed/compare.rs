//! What differs between two objects of one type, as paths.

use super::path::{FieldSet, PathElement};
use super::view::View;
use crate::json::decode_value;
use crate::map::Map;
use crate::object::Object;
use crate::types::{Field, ListType, Struct, Type};
use crate::value::Value;

/// The paths that one object has and the other has not, or has with another value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
    /// A list whose items are told apart by what they say has one that does not say it.
    pub nameless: bool,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares as server-side apply does: along the types, with atomic lists, maps and structs as
/// wholes. Managed fields themselves are passed over.
pub fn compare(old: &Object, new: &Object) -> Comparison {
    let mut walk = Walk { out: Comparison::default(), path: Vec::new() };
    let schema = Schema { shape: Shape::Struct(new.ty()), field: None, atomic: false };
    walk.structs(Some(View::of(old)), Some(View::of(new)), new.ty(), schema);
    walk.out
}

/// What is known of a place.
#[derive(Clone, Copy)]
struct Schema<'a> {
    shape: Shape<'a>,
    /// The field that the place is the value of, for its list type.
    field: Option<&'a Field>,
    atomic: bool,
}

#[derive(Clone, Copy)]
enum Shape<'a> {
    Struct(&'a Struct),
    Type(&'a Type),
}

impl<'a> Schema<'a> {
    fn of_type(ty: &'a Type) -> Self {
        let shape = match ty {
            Type::Struct(ty) => Shape::Struct(ty),
            ty => Shape::Type(ty),
        };
        Self { shape, field: None, atomic: false }
    }

    fn of_field(field: &'a Field) -> Self {
        let mut schema = Self::of_type(&field.ty);
        schema.atomic = match field.ty {
            Type::Struct(_) => field.struct_atomic || field.map_atomic,
            Type::Map(_) => field.map_atomic,
            _ => false,
        };
        schema.field = Some(field);
        schema
    }

    /// Of a field, or of a map's value.
    fn child(&self, key: &str) -> Self {
        match self.shape {
            Shape::Struct(ty) => match ty.field(key) {
                Some((_, field)) => Self::of_field(field),
                None => Self::of_type(&Type::Any),
            },
            Shape::Type(Type::Map(item)) => Self::of_type(item),
            Shape::Type(_) => Self::of_type(&Type::Any),
        }
    }

    fn item(&self) -> Self {
        match self.shape {
            Shape::Type(Type::List(item)) => Self::of_type(item),
            _ => Self::of_type(&Type::Any),
        }
    }

    fn is_atomic_map(&self) -> bool {
        let granular = self.field.is_some_and(|field| field.struct_granular);
        self.atomic || matches!(self.shape, Shape::Struct(ty) if ty.atomic && !granular)
    }

    fn list_type(&self) -> &'a ListType {
        self.field.map_or(&ListType::None, |f| &f.list)
    }
}

struct Walk {
    out: Comparison,
    path: Vec<PathElement>,
}

type Side<'v> = Option<View<'v>>;

impl Walk {
    fn step(&mut self, element: PathElement, left: Side<'_>, right: Side<'_>, schema: Schema<'_>) {
        self.path.push(element);
        self.descend(left, right, schema);
        self.path.pop();
    }

    fn descend(&mut self, left: Side<'_>, right: Side<'_>, schema: Schema<'_>) {
        if let (Some(View::Value(a)), Some(View::Value(b))) = (left, right)
            && a == b
        {
            return;
        }
        // What a built-in kind has as any JSON is somebody's as a whole.
        if matches!(schema.shape, Shape::Type(Type::Raw)) {
            return self.leaf(left, right);
        }
        if [left, right].iter().flatten().any(View::is_opaque) {
            let (left, right) = (left.map(|v| v.untyped()), right.map(|v| v.untyped()));
            let schema = Schema { shape: Shape::Type(&Type::Any), ..schema };
            return self.descend(left.as_ref().map(View::Value), right.as_ref().map(View::Value), schema);
        }
        let empty = |side: Side<'_>| side.is_none_or(|v| v.is_empty());
        let sides = [left, right];
        let maps = sides.iter().flatten().any(View::is_map);
        let lists = sides.iter().flatten().any(View::is_list);
        let leaf = match (maps, lists) {
            (true, false) => schema.is_atomic_map() || (empty(left) && empty(right)),
            (false, true) => {
                let atomic = matches!(schema.list_type(), ListType::None | ListType::Atomic);
                atomic || (empty(left) && empty(right))
            }
            _ => true,
        };
        if leaf {
            return self.leaf(left, right);
        }
        match [left, right].iter().flatten().find_map(View::struct_type) {
            Some(ty) => self.structs(left, right, ty, schema),
            None if maps => self.maps(left, right, schema),
            None => self.lists(left, right, schema),
        }
        if left.is_none() {
            self.out.added.insert(&self.path);
        } else if right.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn leaf(&mut self, left: Side<'_>, right: Side<'_>) {
        match (left, right) {
            (None, None) => {}
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(left), Some(right)) if left.differs(&right) => self.out.modified.insert(&self.path),
            _ => {}
        }
    }

    fn structs(&mut self, left: Side<'_>, right: Side<'_>, ty: &Struct, schema: Schema<'_>) {
        for (index, field) in ty.fields.iter().enumerate() {
            if &*field.json == "managedFields" && self.path.len() == 1 {
                continue;
            }
            let of = |side: Side<'_>| -> bool { side.is_some_and(|v| v.field(index, field).is_some()) };
            if !of(left) && !of(right) {
                continue;
            }
            let (l, r) =
                (left.and_then(|v| v.field(index, field)), right.and_then(|v| v.field(index, field)));
            self.step(PathElement::field(&field.json), l, r, Schema::of_field(field));
        }
        let extra = |side: Side<'_>| side.is_some_and(|v| v.extra().is_some());
        if extra(left) || extra(right) {
            let (left, right) = (left.and_then(|v| v.extra()), right.and_then(|v| v.extra()));
            self.keys(left, right, schema);
        }
    }

    fn maps(&mut self, left: Side<'_>, right: Side<'_>, schema: Schema<'_>) {
        self.keys(left.and_then(|v| v.map()), right.and_then(|v| v.map()), schema);
    }

    fn keys(&mut self, left: Option<&Map>, right: Option<&Map>, schema: Schema<'_>) {
        let empty = Map::new();
        let (left, right) = (left.unwrap_or(&empty), right.unwrap_or(&empty));
        for (key, value) in left.iter() {
            let other = right.get(key).map(View::Value);
            self.step(PathElement::field(key), Some(View::Value(value)), other, schema.child(key));
        }
        for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(key)) {
            self.step(PathElement::field(key), None, Some(View::Value(value)), schema.child(key));
        }
    }

    fn lists(&mut self, left: Side<'_>, right: Side<'_>, schema: Schema<'_>) {
        let left = by_element(left.map_or(&[], |v| v.list()), schema, &mut self.out.nameless);
        let right = by_element(right.map_or(&[], |v| v.list()), schema, &mut self.out.nameless);
        let mut elements: Vec<&PathElement> = left.iter().map(|(e, _)| e).collect();
        elements.extend(right.iter().map(|(e, _)| e).filter(|e| !has(&left, e)));
        for element in elements {
            let (l, r) = (items_of(&left, element), items_of(&right, element));
            self.items(element, l, r, schema.item());
        }
    }

    /// The items of one key: one on each side, except where there are duplicates, which are
    /// compared as a whole.
    fn items(&mut self, element: &PathElement, left: &[&Value], right: &[&Value], schema: Schema<'_>) {
        let whole = |path: &[PathElement]| {
            let mut path = path.to_vec();
            path.push(element.clone());
            path
        };
        match (left, right) {
            ([] | [_], [] | [_]) => {
                let (left, right) =
                    (left.first().map(|v| View::Value(v)), right.first().map(|v| View::Value(v)));
                self.step(element.clone(), left, right, schema);
            }
            ([_, _, ..], [_, _, ..]) => {
                if left != right {
                    self.out.modified.insert(&whole(&self.path));
                }
            }
            ([_, _, ..], right) => {
                if let Some(right) = right.first() {
                    self.step(element.clone(), None, Some(View::Value(right)), schema);
                }
                self.out.removed.insert(&whole(&self.path));
            }
            (left, _) => {
                if let Some(left) = left.first() {
                    self.step(element.clone(), Some(View::Value(left)), None, schema);
                }
                self.out.added.insert(&whole(&self.path));
            }
        }
    }
}

type Elements<'v> = Vec<(PathElement, Vec<&'v Value>)>;

fn has(elements: &Elements<'_>, wanted: &PathElement) -> bool {
    elements.iter().any(|(e, _)| e == wanted)
}

fn items_of<'e, 'v>(elements: &'e Elements<'v>, wanted: &PathElement) -> &'e [&'v Value] {
    elements.iter().find(|(e, _)| e == wanted).map_or(&[], |(_, items)| items)
}

#[expect(
    clippy::mutable_key_type,
    reason = "path elements hold only scalars, which have nothing to mutate inside"
)]
/// A list's items by their path element; items that have none are left out, and told of.
fn by_element<'v>(list: &'v [Value], schema: Schema<'_>, nameless: &mut bool) -> Elements<'v> {
    let mut elements: Elements<'v> = Vec::with_capacity(list.len());
    let mut index: std::collections::BTreeMap<PathElement, usize> = Default::default();
    for item in list {
        let Some(element) = element_of(item, schema) else {
            *nameless = true;
            continue;
        };
        match index.get(&element).and_then(|at| elements.get_mut(*at)) {
            Some((_, items)) => items.push(item),
            None => {
                index.insert(element.clone(), elements.len());
                elements.push((element, vec![item]));
            }
        }
    }
    elements
}

fn element_of(item: &Value, schema: Schema<'_>) -> Option<PathElement> {
    let ListType::Map(names) = schema.list_type() else {
        return match item {
            Value::Map(_) | Value::Struct(_) | Value::List(_) | Value::Null => None,
            scalar => Some(PathElement::Value(View::Value(scalar).untyped())),
        };
    };
    if !matches!(item, Value::Map(_) | Value::Struct(_)) {
        return None;
    }
    let mut keys: Vec<(String, Value)> = Vec::with_capacity(names.len());
    for name in names {
        let value = View::Value(item).member(name).or_else(|| default_of(schema.item(), name));
        if let Some(value) = value {
            keys.push((name.to_string(), value));
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    (!keys.is_empty()).then_some(PathElement::Key(keys))
}

/// The default of a key field, where its type has one.
fn default_of(schema: Schema<'_>, name: &str) -> Option<Value> {
    let Shape::Struct(ty) = schema.shape else {
        return None;
    };
    let (_, field) = ty.field(name)?;
    match &field.default {
        Some(text) => decode_value(&Type::Any, text.as_bytes()).ok()?,
        // OpenAPI names the zero value as the default of what is always written.
        None if !ty.custom && !field.omitempty && !field.pointer => match field.ty {
            Type::String => Some(Value::Str(String::new())),
            Type::Int32 | Type::Int64 => Some(Value::Int(0)),
            _ => None,
        },
        None => None,
    }
}
