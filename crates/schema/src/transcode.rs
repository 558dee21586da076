//! From protobuf to JSON in one pass per message, without a tree. What is written is byte-equal
//! with decoding and encoding.

use std::borrow::Cow;

use crate::DecodeError;
use crate::json::encode::{comma, put_absent, put_time, zero};
use crate::json::scan::MAX_DEPTH;
use crate::json::write;
use crate::protobuf::message::{self, Entry, IntOrString};
use crate::protobuf::wire::{Payload, Reader, Result};
use crate::time;
use crate::types::{Field, Form, Struct, StructRef, Type};

/// Writes the JSON of a bare message. `gvk` is the `apiVersion` and `kind` to write, which the
/// message itself does not have.
pub fn protobuf_to_json(
    ty: &StructRef,
    gvk: Option<(&str, &str)>,
    raw: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    if !ty.has_proto {
        return Err(DecodeError::NoProtobuf(ty.name.clone()));
    }
    structure(out, ty, gvk, raw, 0)
}

fn structure(
    out: &mut Vec<u8>,
    ty: &Struct,
    gvk: Option<(&str, &str)>,
    raw: &[u8],
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Reader::new(raw).error("exceeded max depth"));
    }
    let entries = message::collect(ty, raw)?;
    let mut rest = &entries[..];
    if ty.form != Form::Object {
        return form(out, ty, rest, depth);
    }
    out.push(b'{');
    let mut first = true;
    for (index, field) in ty.fields.iter().enumerate() {
        let own = take(&mut rest, index);
        if let (Some((api_version, kind)), []) = (gvk, own) {
            let text = match &*field.json {
                "apiVersion" => Some(api_version),
                "kind" => Some(kind),
                _ => None,
            };
            if let Some(text) = text.filter(|t| !t.is_empty()) {
                comma(out, &mut first);
                write::name(out, &field.json);
                write::string(out, text);
                continue;
            }
        }
        put_field(out, field, own, &mut first, depth).map_err(|e| message::at_field(e, ty, field))?;
    }
    out.push(b'}');
    Ok(())
}

/// The entries of the field with this index, from the front.
fn take<'e, 'a>(rest: &mut &'e [Entry<'a>], index: usize) -> &'e [Entry<'a>] {
    let count = rest.iter().take_while(|e| usize::from(e.index) == index).count();
    let (own, after) = rest.split_at(count);
    *rest = after;
    own
}

fn put_field(
    out: &mut Vec<u8>,
    field: &Field,
    own: &[Entry<'_>],
    first: &mut bool,
    depth: usize,
) -> Result<()> {
    if message::is_absent(field, own)? {
        put_absent(out, field, first);
        return Ok(());
    }
    // An empty list in a message of its own, or empty bytes.
    let start = out.len();
    let was_first = *first;
    comma(out, first);
    write::name(out, &field.json);
    let value = out.len();
    put_value(out, field, own, depth)?;
    let written = out.get(value..).unwrap_or_default();
    if field.drops_empty()
        && matches!(field.ty, Type::List(_) | Type::Bytes)
        && (written == b"[]" || written == b"\"\"")
    {
        out.truncate(start);
        *first = was_first;
    }
    Ok(())
}

fn put_value(out: &mut Vec<u8>, field: &Field, own: &[Entry<'_>], depth: usize) -> Result<()> {
    match &field.ty {
        Type::Struct(inner) => structure(out, inner, None, &message::joined(own)?, depth + 1),
        Type::List(item) => {
            let payloads = own.iter().map(|e| e.payload);
            list(out, item, field.items_message, payloads, depth)
        }
        Type::Map(item) => map(out, item, &message::map_entries(own)?, depth),
        ty => match own.last() {
            Some(last) => single(out, ty, last.payload, depth),
            None => Ok(()),
        },
    }
}

fn list<'a>(
    out: &mut Vec<u8>,
    item: &Type,
    wrapped: bool,
    payloads: impl Iterator<Item = Payload<'a>>,
    depth: usize,
) -> Result<()> {
    out.push(b'[');
    let mut first = true;
    for payload in message::list_items(item, wrapped, payloads)? {
        comma(out, &mut first);
        single(out, item, payload, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn map(
    out: &mut Vec<u8>,
    item: &Type,
    entries: &[(Cow<'_, str>, Option<Payload<'_>>)],
    depth: usize,
) -> Result<()> {
    out.push(b'{');
    let mut first = true;
    for (key, value) in entries {
        comma(out, &mut first);
        write::string(out, key);
        out.push(b':');
        match (item, value) {
            (Type::List(inner), value) => list(out, inner, true, value.iter().copied(), depth)?,
            (Type::Bytes, None) => out.extend_from_slice(b"\"\""),
            (item, Some(value)) => single(out, item, *value, depth)?,
            (item, None) => zero(out, item),
        }
    }
    out.push(b'}');
    Ok(())
}

fn single(out: &mut Vec<u8>, ty: &Type, payload: Payload<'_>, depth: usize) -> Result<()> {
    match ty {
        Type::Bool => {
            let text: &[u8] = if message::varint_of(payload)? != 0 { b"true" } else { b"false" };
            out.extend_from_slice(text);
        }
        Type::Int32 => write::int(out, (message::varint_of(payload)? as i32).into()),
        Type::Uint32 => write::int(out, (message::varint_of(payload)? as u32).into()),
        Type::Int64 => write::int(out, message::varint_of(payload)? as i64),
        Type::Uint64 => {
            out.extend_from_slice(message::varint_of(payload)?.to_string().as_bytes());
        }
        Type::Float64 => write::float(out, message::float_of(payload)?),
        ty => delimited(out, ty, message::bytes_of(payload)?, depth)?,
    }
    Ok(())
}

/// The types that are strings or messages on the wire.
fn delimited(out: &mut Vec<u8>, ty: &Type, bytes: &[u8], depth: usize) -> Result<()> {
    match ty {
        Type::String => write::string(out, &message::text(bytes)),
        Type::Bytes => write::base64(out, bytes),
        Type::Time | Type::MicroTime => put_time(out, ty, message::time(ty, bytes)?),
        Type::Duration => {
            write::string(out, &time::format_duration(message::duration(bytes)?));
        }
        Type::IntOrString => match message::int_or_string(bytes)? {
            IntOrString::Int(i) => write::int(out, i.into()),
            IntOrString::Str(s) => write::string(out, &s),
        },
        Type::Quantity => write::string(out, &message::quantity(bytes)?),
        Type::Raw | Type::FieldsV1 => match message::raw(bytes)? {
            Some(raw) if write::raw(out, raw) => {}
            _ => out.extend_from_slice(b"null"),
        },
        Type::Struct(inner) => structure(out, inner, None, bytes, depth + 1)?,
        _ => return Err(message::wrong_wire()),
    }
    Ok(())
}

/// The apiextensions types that are a schema or something else.
fn form(out: &mut Vec<u8>, ty: &Struct, entries: &[Entry<'_>], depth: usize) -> Result<()> {
    let of = |name: &str| -> (Option<&Field>, &[Entry<'_>]) {
        let Some((index, field)) = ty.field(name) else {
            return (None, &[]);
        };
        let start = entries.partition_point(|e| e.index < index);
        let end = entries.partition_point(|e| e.index <= index);
        (Some(field), entries.get(start..end).unwrap_or_default())
    };
    for name in ["jSONSchemas", "property", "schema"] {
        if let (Some(field), own @ [_, ..]) = of(name) {
            return put_value(out, field, own, depth);
        }
    }
    if ty.form != Form::SchemaOrBool {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match of("allows") {
        (Some(field), own @ [_, ..]) => put_value(out, field, own, depth),
        _ => {
            out.extend_from_slice(b"false");
            Ok(())
        }
    }
}
