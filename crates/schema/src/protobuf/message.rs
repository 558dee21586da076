//! Reading a message field by field, for the tree, for the transcoder and for serde.

use std::borrow::Cow;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::wire::{Payload, Reader, Result};
use crate::DecodeError;
use crate::quantity::Quantity;
use crate::types::{Field, ProtoKind, ProtoNode, Struct, Type};

/// The node with this tag. `hint` is where to look first, as fields mostly come in order.
#[inline]
pub(crate) fn find<'n>(nodes: &'n [ProtoNode], tag: u32, hint: &mut usize) -> Option<&'n ProtoNode> {
    for at in [*hint, *hint + 1] {
        if let Some(node) = nodes.get(at)
            && node.tag == tag
        {
            *hint = at;
            return Some(node);
        }
    }
    let at = nodes.binary_search_by_key(&tag, |n| n.tag).ok()?;
    *hint = at;
    nodes.get(at)
}

#[cold]
pub(crate) fn wrong_wire() -> DecodeError {
    DecodeError::Protobuf { message: "wrong wireType".into(), offset: 0 }
}

/// Adds the field to an error that does not name one yet.
#[cold]
pub(crate) fn at_field(error: DecodeError, ty: &Struct, field: &Field) -> DecodeError {
    match error {
        DecodeError::Protobuf { message, offset } if !message.contains(" for field ") => {
            let owner = ty.name.rsplit('.').next().unwrap_or("");
            DecodeError::Protobuf { message: format!("{message} for field {owner}.{}", field.json), offset }
        }
        other => other,
    }
}

#[inline]
pub(crate) fn varint_of(payload: Payload<'_>) -> Result<u64> {
    match payload {
        Payload::Varint(v) => Ok(v),
        _ => Err(wrong_wire()),
    }
}

#[inline]
pub(crate) fn bytes_of(payload: Payload<'_>) -> Result<&[u8]> {
    match payload {
        Payload::Bytes(b) => Ok(b),
        _ => Err(wrong_wire()),
    }
}

pub(crate) fn float_of(payload: Payload<'_>) -> Result<f64> {
    match payload {
        Payload::Fixed64(bits) => Ok(f64::from_bits(bits)),
        Payload::Fixed32(bits) => Ok(f64::from(f32::from_bits(bits))),
        _ => Err(wrong_wire()),
    }
}

pub(crate) fn is_varint(ty: &Type) -> bool {
    matches!(ty, Type::Bool | Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64)
}

/// Text; what is not UTF-8 is replaced, as Go replaces it when it writes JSON.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A map entry's key, and its value where it has one.
pub(crate) fn map_entry(bytes: &[u8]) -> Result<(&[u8], Option<Payload<'_>>)> {
    let mut reader = Reader::new(bytes);
    let mut key: &[u8] = b"";
    let mut value = None;
    while let Some((tag, payload)) = reader.field()? {
        match tag {
            1 => key = bytes_of(payload)?,
            2 => value = Some(payload),
            _ => {}
        }
    }
    Ok((key, value))
}

/// metav1.Time and MicroTime.
pub(crate) fn time(ty: &Type, bytes: &[u8]) -> Result<Timestamp> {
    if bytes.is_empty() {
        return Ok(crate::time::GO_ZERO);
    }
    let mut reader = Reader::new(bytes);
    let (mut seconds, mut nanos) = (0i64, 0i32);
    while let Some((tag, payload)) = reader.field()? {
        match tag {
            1 => seconds = varint_of(payload)? as i64,
            2 => nanos = varint_of(payload)? as i32,
            _ => {}
        }
    }
    let nanos = match ty {
        Type::MicroTime => nanos / 1_000 * 1_000,
        _ => 0,
    };
    Timestamp::new(seconds, nanos).map_err(|_| reader.error("time out of range"))
}

/// metav1.Duration, in nanoseconds.
pub(crate) fn duration(bytes: &[u8]) -> Result<i64> {
    let mut reader = Reader::new(bytes);
    let mut nanos = 0;
    while let Some((tag, payload)) = reader.field()? {
        if tag == 1 {
            nanos = varint_of(payload)? as i64;
        }
    }
    Ok(nanos)
}

pub(crate) enum IntOrString<'a> {
    Int(i32),
    Str(Cow<'a, str>),
}

pub(crate) fn int_or_string(bytes: &[u8]) -> Result<IntOrString<'_>> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut int, mut string) = (0, 0, &b""[..]);
    while let Some((tag, payload)) = reader.field()? {
        match tag {
            1 => kind = varint_of(payload)?,
            2 => int = varint_of(payload)? as i32,
            3 => string = bytes_of(payload)?,
            _ => {}
        }
    }
    Ok(match kind {
        0 => IntOrString::Int(int),
        _ => IntOrString::Str(text(string)),
    })
}

/// The first string of a message that holds one.
fn string_of(bytes: &[u8]) -> Result<Option<&[u8]>> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((tag, payload)) = reader.field()? {
        if tag == 1 {
            found = Some(bytes_of(payload)?);
        }
    }
    Ok(found)
}

/// A quantity's canonical text.
pub(crate) fn quantity(bytes: &[u8]) -> Result<Cow<'_, str>> {
    let Some(written) = string_of(bytes)? else {
        return Ok("0".into());
    };
    let written = text(written);
    match written.parse::<Quantity>() {
        Ok(quantity) => {
            let canonical = quantity.to_string();
            Ok(if canonical == *written { written } else { canonical.into() })
        }
        Err(error) => Err(DecodeError::Type(error.to_string())),
    }
}

/// RawExtension, JSON and FieldsV1; None where nothing is inside.
pub(crate) fn raw(bytes: &[u8]) -> Result<Option<&[u8]>> {
    string_of(bytes)
}

/// One field of a message, by the field's index.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub index: u16,
    pub payload: Payload<'a>,
}

pub(crate) type Entries<'a> = SmallVec<[Entry<'a>; 24]>;

/// All known fields of a message, in JSON order; equal fields in the order in which they came.
pub(crate) fn collect<'a>(ty: &Struct, bytes: &'a [u8]) -> Result<Entries<'a>> {
    let mut entries = Entries::new();
    collect_nodes(&ty.proto, bytes, &mut entries)?;
    if !entries.is_sorted_by_key(|e| e.index) {
        entries.sort_by_key(|e| e.index);
    }
    Ok(entries)
}

fn collect_nodes<'a>(nodes: &[ProtoNode], bytes: &'a [u8], entries: &mut Entries<'a>) -> Result<()> {
    let mut reader = Reader::new(bytes);
    let mut hint = 0;
    while let Some((tag, payload)) = reader.field()? {
        match find(nodes, tag, &mut hint).map(|n| &n.kind) {
            Some(ProtoKind::Field(index)) => entries.push(Entry { index: *index, payload }),
            Some(ProtoKind::Embedded { nodes, .. }) => {
                collect_nodes(nodes, bytes_of(payload)?, entries)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// The bytes of a message field that may have come in pieces: put together they are one message.
pub(crate) fn joined<'a>(entries: &[Entry<'a>]) -> Result<Cow<'a, [u8]>> {
    match entries {
        [] => Ok(Cow::Borrowed(&[])),
        [only] => Ok(Cow::Borrowed(bytes_of(only.payload)?)),
        several => {
            let mut all = Vec::new();
            for entry in several {
                all.extend_from_slice(bytes_of(entry.payload)?);
            }
            Ok(Cow::Owned(all))
        }
    }
}

/// A map's entries by key; of equal keys the last counts.
pub(crate) type MapEntries<'a> = Vec<(Cow<'a, str>, Option<Payload<'a>>)>;

pub(crate) fn map_entries<'a>(entries: &[Entry<'a>]) -> Result<MapEntries<'a>> {
    let mut all: MapEntries<'a> = Vec::with_capacity(entries.len());
    for entry in entries {
        let (key, value) = map_entry(bytes_of(entry.payload)?)?;
        all.push((text(key), value));
    }
    if !all.is_sorted_by(|a, b| a.0 < b.0) {
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|b, a| a.0 == b.0);
    }
    Ok(all)
}

/// The items of a list field, packed or not, wrapped or not.
pub(crate) fn list_items<'a>(
    item: &Type,
    wrapped: bool,
    payloads: impl Iterator<Item = Payload<'a>>,
) -> Result<SmallVec<[Payload<'a>; 8]>> {
    let mut items = SmallVec::new();
    let mut push = |payload: Payload<'a>| -> Result<()> {
        match payload {
            Payload::Bytes(packed) if is_varint(item) => {
                let mut reader = Reader::new(packed);
                while reader.pos < packed.len() {
                    items.push(Payload::Varint(reader.varint()?));
                }
            }
            payload => items.push(payload),
        }
        Ok(())
    };
    for payload in payloads {
        if !wrapped {
            push(payload)?;
            continue;
        }
        let mut reader = Reader::new(bytes_of(payload)?);
        while let Some((tag, payload)) = reader.field()? {
            if tag == 1 {
                push(payload)?;
            }
        }
    }
    Ok(items)
}

/// Whether the field's value is one that a tree would not store.
pub(crate) fn is_absent(field: &Field, entries: &[Entry<'_>]) -> Result<bool> {
    let Some(last) = entries.last() else {
        return Ok(true);
    };
    if field.pointer {
        return Ok(false);
    }
    Ok(match (&field.ty, last.payload) {
        (Type::List(_) | Type::Map(_) | Type::Bytes, _) => false,
        (Type::Bool, Payload::Varint(v)) => v == 0,
        (Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64, Payload::Varint(v)) => v == 0,
        (Type::Float64, payload) => float_of(payload)? == 0.0,
        (Type::String | Type::Time | Type::MicroTime, Payload::Bytes(b)) => b.is_empty(),
        (Type::Raw | Type::FieldsV1, Payload::Bytes(b)) => raw(b)?.is_none(),
        (Type::Duration, Payload::Bytes(b)) => duration(b)? == 0,
        (Type::Quantity, Payload::Bytes(b)) => quantity(b)? == "0",
        (Type::IntOrString, Payload::Bytes(b)) => {
            matches!(int_or_string(b)?, IntOrString::Int(0))
        }
        // A zero struct is written as one; only omitzero would make a difference.
        (Type::Struct(_), _) => false,
        _ => return Err(wrong_wire()),
    })
}
