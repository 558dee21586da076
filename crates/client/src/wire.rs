//! The frames of a protobuf watch, and the lists that a watch begins with.

use schema::DecodeError;

/// One event of a watch.
pub(crate) struct Frame<'b> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub(crate) kind: &'b str,
    /// The object in its envelope.
    pub(crate) object: &'b [u8],
}

/// Fields of a message that have a length: number and bytes. Others are skipped.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), DecodeError>> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let step = (|| {
                let tag = varint(&mut bytes)?;
                match tag & 7 {
                    0 => varint(&mut bytes).map(|_| None),
                    1 => take(&mut bytes, 8).map(|_| None),
                    2 => {
                        let length = varint(&mut bytes)?;
                        let length = usize::try_from(length).ok()?;
                        take(&mut bytes, length).map(|value| Some((tag >> 3, value)))
                    }
                    5 => take(&mut bytes, 4).map(|_| None),
                    _ => None,
                }
            })();
            match step {
                Some(Some(field)) => return Some(Ok(field)),
                Some(None) => {}
                None => {
                    bytes = &[];
                    return Some(Err(broken("a field is cut off")));
                }
            }
        }
        None
    })
}

fn broken(message: &str) -> DecodeError {
    DecodeError::Protobuf { message: message.to_owned(), offset: 0 }
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes the next whole frame off the front of a buffer; `None` while it is incomplete.
pub(crate) fn split(buffer: &mut bytes::BytesMut) -> Option<bytes::BytesMut> {
    let head: [u8; 4] = buffer.get(..4)?.try_into().ok()?;
    let length = u32::from_be_bytes(head) as usize;
    if buffer.len() < 4 + length {
        return None;
    }
    let mut frame = buffer.split_to(4 + length);
    Some(frame.split_off(4))
}

/// Reads a frame: a `WatchEvent`, whose object is a `RawExtension`.
pub(crate) fn frame(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    let (mut kind, mut object) = ("", &[][..]);
    for field in fields(bytes) {
        match field? {
            (1, text) => {
                kind = std::str::from_utf8(text).map_err(|_| broken("an event's type is not UTF-8"))?
            }
            (2, extension) => {
                for field in fields(extension) {
                    if let (1, raw) = field? {
                        object = raw;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Frame { kind, object })
}

/// The bare message of an object in its envelope.
pub(crate) fn bare(object: &[u8]) -> Result<&[u8], DecodeError> {
    let unknown = schema::protobuf::unwrap(object)?;
    object.get(unknown.raw).ok_or_else(|| broken("the envelope is cut off"))
}

/// A list: metadata and items.
pub(crate) fn list(raw: &[u8]) -> Result<(ListMeta, Vec<&[u8]>), DecodeError> {
    let mut meta = ListMeta::default();
    let mut items = Vec::new();
    for field in fields(raw) {
        match field? {
            (1, bytes) => {
                for field in fields(bytes) {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    match field? {
                        (2, bytes) => meta.resource_version = text(bytes),
                        (3, bytes) => meta.continue_token = text(bytes),
                        _ => {}
                    }
                }
            }
            (2, item) => items.push(item),
            _ => {}
        }
    }
    Ok((meta, items))
}

/// `metav1.ListMeta`, as far as it is needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListMeta {
    pub(crate) resource_version: String,
    pub(crate) continue_token: String,
}

/// What a `Status` in any of the encodings says, or whatever else there is.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Status {
        message: String,
    }
    let of_protobuf = || {
        let kind = schema::builtin().kind("", "v1", "Status")?;
        schema::serde::from_protobuf::<Status>(&kind.ty, bare(body).ok()?).ok()
    };
    let status = of_protobuf().or_else(|| serde_json::from_slice(body).ok());
    status.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |status| status.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_once_it_is_whole() {
        let event = [&[0x0a, 5][..], b"ADDED", &[0x12, 4, 0x0a, 2, 7, 8]].concat();
        let mut buffer = bytes::BytesMut::new();
        buffer.extend_from_slice(&(event.len() as u32).to_be_bytes());
        assert!(split(&mut buffer).is_none());
        buffer.extend_from_slice(&event);
        let whole = split(&mut buffer).unwrap();
        let read = frame(&whole).unwrap();
        assert_eq!((read.kind, read.object), ("ADDED", &[7, 8][..]));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_field_that_is_cut_off_is_an_error() {
        assert!(frame(&[0x0a, 9, 1]).is_err());
    }
}
