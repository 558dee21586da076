//! Message to tree.

use bytes::Bytes;

use super::message::{self, map_entry};
use super::wire::{Payload, Reader, Result};
use crate::DecodeError;
use crate::json::scan::MAX_DEPTH;
use crate::map::Map;
use crate::object::Object;
use crate::types::{Field, ProtoKind, ProtoNode, Struct, StructRef, Type};
use crate::value::Value;

/// Decodes a bare message. `apiVersion` and `kind` are not in it; see [`Object::set_gvk`].
pub fn decode(ty: &StructRef, bytes: &[u8]) -> Result<Object> {
    if !ty.has_proto {
        return Err(DecodeError::NoProtobuf(ty.name.clone()));
    }
    let mut object = Object::new(ty.clone());
    merge(&mut object, ty, bytes, 0)?;
    Ok(object)
}

fn merge(object: &mut Object, ty: &Struct, bytes: &[u8], depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Reader::new(bytes).error("exceeded max depth"));
    }
    merge_nodes(object, ty, &ty.proto, bytes, depth)
}

fn merge_nodes(
    object: &mut Object,
    ty: &Struct,
    nodes: &[ProtoNode],
    bytes: &[u8],
    depth: usize,
) -> Result<()> {
    let mut reader = Reader::new(bytes);
    let mut hint = 0;
    while let Some((tag, payload)) = reader.field()? {
        let Some(node) = message::find(nodes, tag, &mut hint) else {
            continue;
        };
        match &node.kind {
            ProtoKind::Field(index) => {
                if let Some(field) = ty.fields.get(usize::from(*index)) {
                    put(object, *index, field, payload, depth)
                        .map_err(|e| message::at_field(e, ty, field))?;
                }
            }
            ProtoKind::Embedded { nodes, .. } => {
                let inner = message::bytes_of(payload)?;
                merge_nodes(object, ty, nodes, inner, depth)?;
            }
        }
    }
    Ok(())
}

fn put(object: &mut Object, index: u16, field: &Field, payload: Payload<'_>, depth: usize) -> Result<()> {
    let value = match &field.ty {
        Type::List(item) => {
            let mut items = match object.remove_index(index) {
                Some(Value::List(items)) => items,
                _ => Vec::new(),
            };
            if field.items_message {
                push_items(&mut items, item, message::bytes_of(payload)?, depth)?;
            } else {
                push_list(&mut items, item, payload, depth)?;
            }
            Value::List(items)
        }
        Type::Map(item) => {
            let mut map = match object.remove_index(index) {
                Some(Value::Map(map)) => map,
                _ => Map::new(),
            };
            put_entry(&mut map, item, message::bytes_of(payload)?, depth)?;
            Value::Map(map)
        }
        Type::Struct(ty) => {
            let mut inner = match object.remove_index(index) {
                Some(Value::Struct(inner)) => inner,
                _ => Object::new(ty.clone()),
            };
            merge(&mut inner, ty, message::bytes_of(payload)?, depth + 1)?;
            Value::Struct(inner)
        }
        ty => single(ty, payload, depth)?,
    };
    if field.is_absent(&value) {
        object.remove_index(index);
    } else {
        object.put_index(index, value);
    }
    Ok(())
}

fn push_list(items: &mut Vec<Value>, item: &Type, payload: Payload<'_>, depth: usize) -> Result<()> {
    if let (true, Payload::Bytes(packed)) = (message::is_varint(item), payload) {
        let mut reader = Reader::new(packed);
        while reader.pos < packed.len() {
            let value = Payload::Varint(reader.varint()?);
            items.push(single(item, value, depth)?);
        }
        return Ok(());
    }
    items.push(single(item, payload, depth)?);
    Ok(())
}

fn push_items(items: &mut Vec<Value>, item: &Type, bytes: &[u8], depth: usize) -> Result<()> {
    let mut reader = Reader::new(bytes);
    while let Some((tag, payload)) = reader.field()? {
        if tag == 1 {
            push_list(items, item, payload, depth)?;
        }
    }
    Ok(())
}

fn put_entry(map: &mut Map, item: &Type, bytes: &[u8], depth: usize) -> Result<()> {
    let (key, payload) = map_entry(bytes)?;
    let key = message::text(key).into_owned();
    let value = match (item, payload) {
        (Type::List(inner), payload) => {
            let mut items = Vec::new();
            if let Some(payload) = payload {
                push_items(&mut items, inner, message::bytes_of(payload)?, depth)?;
            }
            Value::List(items)
        }
        (item, Some(payload)) => single(item, payload, depth)?,
        (item, None) => missing(item),
    };
    map.insert(key, value);
    Ok(())
}

/// The value of a map's entry that has only a key.
fn missing(ty: &Type) -> Value {
    match ty {
        Type::Bool => Value::Bool(false),
        Type::Float64 => Value::Float(0.0),
        Type::String => Value::Str(String::new()),
        Type::Quantity => Value::Str("0".into()),
        Type::Bytes => Value::Bytes(Bytes::new()),
        Type::Struct(ty) => Value::Struct(Object::new(ty.clone())),
        Type::Time | Type::MicroTime => Value::Time(crate::time::GO_ZERO),
        Type::Raw | Type::FieldsV1 | Type::Any | Type::List(_) | Type::Map(_) => Value::Null,
        _ => Value::Int(0),
    }
}

/// A value that stands once: no list, no map.
fn single(ty: &Type, payload: Payload<'_>, depth: usize) -> Result<Value> {
    Ok(match ty {
        Type::Bool => Value::Bool(message::varint_of(payload)? != 0),
        Type::Int32 => Value::Int(i64::from(message::varint_of(payload)? as i32)),
        Type::Uint32 => Value::Int(i64::from(message::varint_of(payload)? as u32)),
        Type::Int64 | Type::Uint64 => Value::Int(message::varint_of(payload)? as i64),
        Type::Float64 => Value::Float(message::float_of(payload)?),
        Type::String => Value::Str(message::text(message::bytes_of(payload)?).into_owned()),
        Type::Bytes => Value::Bytes(Bytes::copy_from_slice(message::bytes_of(payload)?)),
        Type::Time | Type::MicroTime => Value::Time(message::time(ty, message::bytes_of(payload)?)?),
        Type::Duration => Value::Int(message::duration(message::bytes_of(payload)?)?),
        Type::IntOrString => match message::int_or_string(message::bytes_of(payload)?)? {
            message::IntOrString::Int(i) => Value::Int(i.into()),
            message::IntOrString::Str(s) => Value::Str(s.into_owned()),
        },
        Type::Quantity => Value::Str(message::quantity(message::bytes_of(payload)?)?.into_owned()),
        Type::Raw | Type::FieldsV1 => match message::raw(message::bytes_of(payload)?)? {
            Some(raw) => Value::Raw(Bytes::copy_from_slice(raw)),
            None => Value::Null,
        },
        Type::Struct(ty) => {
            let mut object = Object::new(ty.clone());
            merge(&mut object, ty, message::bytes_of(payload)?, depth + 1)?;
            Value::Struct(object)
        }
        Type::Any | Type::List(_) | Type::Map(_) => {
            return Err(message::wrong_wire());
        }
    })
}
