//! Messages put together from encoded parts, without trees.

use super::wire::{Payload, Reader, put_bytes, put_int, put_key, put_message, put_varint};

/// A bare List message around bare item messages.
pub fn encode_list<'a>(
    resource_version: &str,
    continue_token: &str,
    remaining: Option<i64>,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, b"");
        put_bytes(out, 2, resource_version.as_bytes());
        put_bytes(out, 3, continue_token.as_bytes());
        if let Some(remaining) = remaining {
            put_int(out, 4, remaining as u64);
        }
    });
    for item in items {
        put_bytes(&mut out, 2, item);
    }
    out
}

/// A bare WatchEvent message around an object in its envelope.
pub fn encode_watch_event(event: &str, enveloped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(enveloped.len() + event.len() + 16);
    put_bytes(&mut out, 1, event.as_bytes());
    put_message(&mut out, 2, |out| put_bytes(out, 1, enveloped));
    out
}

/// Copies a bare message of a kind whose field 1 is ObjectMeta, with another resource version.
/// What cannot be read as a message is copied as it is.
pub fn splice_resource_version(raw: &[u8], rv: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + rv.len() + 4);
    let mut reader = Reader::new(raw);
    let mut done = false;
    loop {
        let start = reader.pos;
        match reader.field() {
            Ok(Some((1, Payload::Bytes(metadata)))) if !done => {
                put_message(&mut out, 1, |out| splice_metadata(metadata, rv, out));
                done = true;
            }
            Ok(Some(_)) => out.extend_from_slice(raw.get(start..reader.pos).unwrap_or_default()),
            Ok(None) | Err(_) => {
                out.extend_from_slice(raw.get(start..).unwrap_or_default());
                break;
            }
        }
    }
    if !done {
        put_message(&mut out, 1, |out| put_bytes(out, RESOURCE_VERSION, rv.as_bytes()));
    }
    out
}

/// The field number in ObjectMeta.
const RESOURCE_VERSION: u32 = 6;

fn splice_metadata(metadata: &[u8], rv: &str, out: &mut Vec<u8>) {
    let mut reader = Reader::new(metadata);
    let mut done = false;
    loop {
        let start = reader.pos;
        let field = reader.field();
        if !done && !matches!(&field, Ok(Some((tag, _))) if *tag < RESOURCE_VERSION) {
            put_key(out, RESOURCE_VERSION, 2);
            put_varint(out, rv.len() as u64);
            out.extend_from_slice(rv.as_bytes());
            done = true;
        }
        match field {
            Ok(Some((RESOURCE_VERSION, _))) => {}
            Ok(Some(_)) => {
                out.extend_from_slice(metadata.get(start..reader.pos).unwrap_or_default());
            }
            Ok(None) | Err(_) => {
                out.extend_from_slice(metadata.get(start..).unwrap_or_default());
                return;
            }
        }
    }
}
