//! The envelope around stored and transported objects: four magic bytes and runtime.Unknown.

use std::ops::Range;

use super::message::{bytes_of, text};
use super::wire::{Reader, Result, put_bytes, put_message};
use crate::DecodeError;

/// What protobuf objects begin with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The envelope around a stored or transported object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknown {
    pub api_version: String,
    pub kind: String,
    /// Where the bare message stands in the bytes that were unwrapped.
    pub raw: Range<usize>,
    pub content_encoding: String,
    pub content_type: String,
}

/// Wraps a bare message, magic bytes included.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 24);
    out.extend_from_slice(&MAGIC);
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
    });
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// Opens an envelope. The bare message is `bytes[unknown.raw]`.
pub fn unwrap(bytes: &[u8]) -> Result<Unknown> {
    let Some(body) = bytes.strip_prefix(&MAGIC) else {
        return Err(DecodeError::Protobuf {
            message: "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
                .into(),
            offset: 0,
        });
    };
    let mut unknown = Unknown::default();
    let mut reader = Reader::new(body);
    while let Some((tag, payload)) = reader.field()? {
        let inner = bytes_of(payload)?;
        match tag {
            1 => type_meta(inner, &mut unknown)?,
            2 => {
                let end = reader.pos + MAGIC.len();
                unknown.raw = end - inner.len()..end;
            }
            3 => unknown.content_encoding = text(inner).into_owned(),
            4 => unknown.content_type = text(inner).into_owned(),
            _ => {}
        }
    }
    Ok(unknown)
}

fn type_meta(bytes: &[u8], unknown: &mut Unknown) -> Result<()> {
    let mut reader = Reader::new(bytes);
    while let Some((tag, payload)) = reader.field()? {
        match tag {
            1 => unknown.api_version = text(bytes_of(payload)?).into_owned(),
            2 => unknown.kind = text(bytes_of(payload)?).into_owned(),
            _ => {}
        }
    }
    Ok(())
}
