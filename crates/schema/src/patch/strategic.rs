//! Strategic merge: lists are merged by the keys that the types name, and directives in the patch
//! say what else is to happen.

use super::order::{self, Items};
use super::slots::Slots;
use super::{PatchError, go_map_text, go_text};
use crate::map::Map;
use crate::types::{Struct, Type};
use crate::value::Value;

type Result<T> = std::result::Result<T, PatchError>;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// What is known of a place in the tree.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Struct(&'a Struct),
    Type(&'a Type),
}

/// How a list or map is merged.
pub(super) struct Meta<'a> {
    pub item: Shape<'a>,
    /// Without `retainKeys`.
    pub strategy: &'a str,
    pub key: &'a str,
}

impl<'a> Shape<'a> {
    pub fn of_struct(ty: &'a Struct) -> Self {
        Self::Struct(ty)
    }

    fn of_type(ty: &'a Type) -> Self {
        match ty {
            Type::Struct(ty) => Self::Struct(ty),
            ty => Self::Type(ty),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Struct(ty) => ty.name.rsplit('.').next().unwrap_or("").to_owned(),
            Self::Type(_) => String::new(),
        }
    }

    /// What is known of a field of this struct.
    fn child(&self, key: &str) -> Result<Meta<'a>> {
        let ty = match self {
            Self::Struct(ty) => *ty,
            Self::Type(ty) => {
                let kind = match ty {
                    Type::Map(_) => "map",
                    Type::List(_) => "slice",
                    Type::Any => "interface",
                    Type::Raw | Type::FieldsV1 => {
                        return Err(unknown_field("RawExtension", key));
                    }
                    _ => "string",
                };
                return Err(PatchError::Merge(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                )));
            }
        };
        let Some((_, field)) = ty.field(key) else {
            return Err(unknown_field(&self.name(), key));
        };
        let mut strategies = field.patch_strategy.split(',').filter(|s| !s.is_empty());
        let strategy = strategies.find(|s| *s != "retainKeys").unwrap_or("");
        Ok(Meta { item: Self::of_type(&field.ty), strategy, key: &field.patch_merge_key })
    }

    /// As [`Shape::child`], for the items of a list.
    fn list(&self, key: &str) -> Result<Meta<'a>> {
        let mut meta = self.child(key)?;
        match meta.item {
            Shape::Type(Type::List(item)) => meta.item = Self::of_type(item),
            Shape::Struct(_) | Shape::Type(_) => {
                return Err(PatchError::Merge("expected slice or array type, but got another".into()));
            }
        }
        Ok(meta)
    }
}

fn unknown_field(owner: &str, key: &str) -> PatchError {
    PatchError::Merge(format!("unable to find api field in struct {owner} for the json field {key:?}"))
}

fn malformed(message: &str) -> PatchError {
    PatchError::Malformed(message.to_owned())
}

fn bad_retain_keys() -> PatchError {
    malformed("invalid patch format of retainKeys")
}

fn bad_set_order() -> PatchError {
    malformed("invalid patch format of setElementOrder list")
}

pub(super) fn no_merge_key(map: &Map, key: &str) -> PatchError {
    let map = go_map_text(map);
    PatchError::Merge(format!("map: {map} does not contain declared merge key: {key}"))
}

fn bad_patch_type(directive: &Value, map: &Map) -> PatchError {
    let (directive, map) = (go_text(directive), go_map_text(map));
    PatchError::Merge(format!("unknown patch type: {directive} in map: {map}"))
}

pub(super) fn merge_map(mut original: Map, mut patch: Map, shape: &Shape<'_>) -> Result<Map> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::Str(s)) if s == "replace" => {
            patch.remove(DIRECTIVE);
            return Ok(patch);
        }
        Some(Value::Str(s)) if s == "delete" => return Ok(Map::new()),
        Some(other) => return Err(bad_patch_type(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    set_element_orders(&mut original, &mut patch, shape)?;
    for (key, value) in patch {
        let (key, deleting) = match key.strip_prefix(DELETE_FROM) {
            Some(rest) => match rest.strip_prefix('/') {
                Some(key) => (key.to_owned(), true),
                None => return Err(malformed("invalid patch format of primitive list")),
            },
            None => (key, false),
        };
        merge_key(&mut original, key, value, deleting, shape)?;
    }
    Ok(original)
}

fn merge_key(original: &mut Map, key: String, value: Value, deleting: bool, shape: &Shape<'_>) -> Result<()> {
    if value == Value::Null {
        original.remove(&key);
        return Ok(());
    }
    let merged = match (original.remove(&key), value) {
        (Some(Value::Map(current)), Value::Map(value)) => {
            let meta = shape.child(&key)?;
            Some(Value::Map(if meta.strategy == "replace" {
                value
            } else {
                merge_map(current, value, &meta.item)?
            }))
        }
        (Some(Value::List(current)), Value::List(value)) => {
            let meta = shape.list(&key)?;
            Some(Value::List(merge_list(current, value, &meta, deleting)?.items))
        }
        (current, _) if deleting => current,
        (_, mut value) => {
            discard_nulls(&mut value);
            without_directives(value)
        }
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|_, value| {
            discard_nulls(value);
            *value != Value::Null
        }),
        Value::List(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// None where the value itself is a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Map(map) if map.contains_key(DIRECTIVE) => None,
        Value::Map(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Map(kept.collect()))
        }
        Value::List(items) => Some(Value::List(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// `$retainKeys` names all the keys that may stay.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<()> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::List(keys) = keys else {
        return Err(bad_retain_keys());
    };
    let listed = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
        if *value != Value::Null && !directive && !listed(key) {
            return Err(bad_retain_keys());
        }
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

/// `$setElementOrder/x` says in which order the items of list `x` are to stand.
fn set_element_orders(original: &mut Map, patch: &mut Map, shape: &Shape<'_>) -> Result<()> {
    let directives: Vec<String> =
        patch.keys().filter(|k| k.starts_with(SET_ORDER)).map(str::to_owned).collect();
    for directive in directives {
        let Some(Value::List(wanted)) = patch.remove(&directive) else {
            return Err(PatchError::Merge("expected a []interface {}, but received a string".into()));
        };
        let key = directive.strip_prefix(SET_ORDER).and_then(|k| k.strip_prefix('/'));
        let key = key.ok_or_else(bad_set_order)?;
        set_element_order(original, patch, key, &wanted, shape)?;
    }
    Ok(())
}

fn set_element_order(
    original: &mut Map,
    patch: &mut Map,
    key: &str,
    wanted: &[Value],
    shape: &Shape<'_>,
) -> Result<()> {
    let list = |value: Option<&Value>| match value {
        None => Ok(None),
        Some(Value::List(items)) => Ok(Some(items.clone())),
        Some(_) => Err(PatchError::Merge("expected a []interface {}, but received another type".into())),
    };
    let current = list(original.get(key))?;
    let patched = list(patch.get(key))?;
    let meta = shape.list(key)?;
    order::check(patched.as_deref().unwrap_or_default(), wanted, meta.key)?;
    let mut server = current.clone().unwrap_or_default();
    let merged = match (&current, &patched) {
        (Some(current), None) => current.clone(),
        (None, Some(patched)) => patched.iter().cloned().filter_map(without_directives).collect(),
        (Some(current), Some(patched)) => {
            let merged = merge_list(current.clone(), patched.clone(), &meta, false)?;
            server = merged.server;
            merged.items
        }
        (None, None) => return Ok(()),
    };
    let maps = order::are_maps(&[&server, patched.as_deref().unwrap_or_default()])?;
    let items = Items { key: meta.key, maps };
    let (mine, theirs) = items.partition(merged, wanted)?;
    let ordered = items.normalize(mine, theirs, wanted, &server)?;
    original.insert(key, Value::List(ordered));
    patch.remove(key);
    Ok(())
}

/// A merged list, and what upstream takes for the server's order afterwards.
struct Merged {
    items: Vec<Value>,
    server: Vec<Value>,
}

fn merge_list(current: Vec<Value>, patch: Vec<Value>, meta: &Meta<'_>, deleting: bool) -> Result<Merged> {
    let whole = |items: Vec<Value>, server: Vec<Value>| Ok(Merged { items, server });
    if meta.strategy != "merge" && !deleting {
        return whole(patch, current);
    }
    if current.is_empty() && patch.is_empty() {
        return whole(current, Vec::new());
    }
    let maps = order::are_maps(&[&current, &patch])?;
    let items = Items { key: meta.key, maps };
    if !maps {
        if deleting {
            let kept = current.iter().filter(|v| !patch.contains(v)).cloned().collect();
            return whole(kept, current);
        }
        let both = current.iter().chain(&patch).cloned().collect();
        let (mine, theirs) = items.partition(order::deduplicate(both), &patch)?;
        let ordered = items.normalize(mine, theirs, &patch, &current)?;
        return whole(ordered, current);
    }
    if meta.key.is_empty() {
        let name = meta.item.name();
        return Err(PatchError::Merge(format!("cannot merge lists without merge key for {name}")));
    }
    let mut slots = Slots::new(current);
    let (patch, replaced) = special_items(&mut slots, patch, meta.key)?;
    let (before, merged, patch) = if replaced {
        (patch.clone(), patch, Vec::new())
    } else {
        let before = slots.items().to_vec();
        merge_items(&mut slots, &patch, meta)?;
        (before, slots.items().to_vec(), patch)
    };
    let (mine, theirs) = items.partition(merged, &patch)?;
    let ordered = items.normalize(mine, theirs, &patch, &before)?;
    whole(ordered, slots.into_room())
}

/// Obeys the `$patch` directives of a list's items, and takes them out. The items that are left,
/// and whether they replace the list.
fn special_items(current: &mut Slots, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, bool)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Value::Map(map) = &item else {
            continue;
        };
        match map.get(DIRECTIVE) {
            None => plain.push(item),
            Some(Value::Str(s)) if s == "delete" => {
                let Some(value) = map.get(key) else {
                    return Err(no_merge_key(map, key));
                };
                current.delete(key, value);
            }
            Some(Value::Str(s)) if s == "replace" => replace = true,
            Some(Value::Str(s)) if s == "merge" => {
                return Err(PatchError::Merge("merging lists cannot yet be specified in the patch".into()));
            }
            Some(other) => return Err(bad_patch_type(other, map)),
        }
    }
    Ok((plain, replace))
}

fn merge_items(current: &mut Slots, patch: &[Value], meta: &Meta<'_>) -> Result<()> {
    for item in patch {
        let Value::Map(map) = item else {
            continue;
        };
        let Some(value) = map.get(meta.key) else {
            return Err(no_merge_key(map, meta.key));
        };
        match current.find(meta.key, value) {
            Some(Value::Map(found)) => {
                *found = merge_map(std::mem::take(found), map.clone(), &meta.item)?;
            }
            _ => current.push(item.clone()),
        }
    }
    Ok(())
}
