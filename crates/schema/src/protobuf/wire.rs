//! The wire format: varints, tags and lengths.

use crate::DecodeError;

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

pub(crate) struct Reader<'a> {
    pub data: &'a [u8],
    pub pos: usize,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, pos: 0 }
    }

    #[cold]
    pub fn error(&self, message: &str) -> DecodeError {
        DecodeError::Protobuf { message: message.to_owned(), offset: self.pos }
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let Some(b) = self.data.get(self.pos) else {
                return Err(self.error("unexpected EOF"));
            };
            if shift >= 64 {
                return Err(self.error("integer overflow"));
            }
            self.pos += 1;
            value |= u64::from(b & 0x7f) << shift;
            if *b < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(length).ok().and_then(|l| self.pos.checked_add(l));
        match end.and_then(|end| self.data.get(self.pos..end)) {
            Some(bytes) => {
                self.pos += bytes.len();
                Ok(bytes)
            }
            None => Err(self.error("unexpected EOF")),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| self.error("unexpected EOF"))
    }

    /// The next field; None at the end. Groups are passed over.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>> {
        while self.pos < self.data.len() {
            let key = self.varint()?;
            let tag = match u32::try_from(key >> 3) {
                Ok(tag) if tag > 0 => tag,
                _ => return Err(self.error("illegal tag")),
            };
            let payload = match key & 7 {
                0 => Payload::Varint(self.varint()?),
                1 => Payload::Fixed64(u64::from_le_bytes(self.fixed()?)),
                2 => {
                    let length = self.varint()?;
                    Payload::Bytes(self.take(length)?)
                }
                3 => {
                    self.skip_group()?;
                    continue;
                }
                5 => Payload::Fixed32(u32::from_le_bytes(self.fixed()?)),
                4 => return Err(self.error("wiretype end group for non-group")),
                _ => return Err(self.error("illegal wireType")),
            };
            return Ok(Some((tag, payload)));
        }
        Ok(None)
    }

    fn skip_group(&mut self) -> Result<()> {
        let mut depth = 1usize;
        while depth > 0 {
            match self.varint()? & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.take(4)?),
                _ => return Err(self.error("illegal wireType")),
            }
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_key(out: &mut Vec<u8>, tag: u32, wire: u64) {
    put_varint(out, (u64::from(tag) << 3) | wire);
}

pub(crate) fn put_int(out: &mut Vec<u8>, tag: u32, value: u64) {
    put_key(out, tag, 0);
    put_varint(out, value);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_key(out, tag, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A length-delimited field whose content is written by `body`.
pub(crate) fn put_message(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) {
    put_key(out, tag, 2);
    let at = out.len();
    // Most messages are shorter than 128 bytes; longer ones are moved to make room.
    out.push(0);
    body(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        if let Some(slot) = out.get_mut(at) {
            *slot = length as u8;
        }
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}
