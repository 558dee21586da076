//! SPDY/3.1 frames: parsing and writing. No connection, no streams.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::StreamError;

/// The dictionary of the SPDY/3 specification, section 2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// The longest frame that is accepted; upstream's peers send a few kilobytes.
const MAX_FRAME: usize = 1 << 20;
/// The longest header block after decompression.
const MAX_HEADERS: usize = 64 * 1024;

const FLAG_FIN: u8 = 1;

/// Names and values, as they came.
pub type Headers = Vec<(String, String)>;

/// What one end tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    Rst {
        id: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last: u32,
        status: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// SETTINGS, WINDOW_UPDATE and what is unknown: nothing that Kubernetes' peers rely on.
    Ignored,
}

/// Reads frames. Header blocks of one direction share a compression context, so each is read once,
/// in order.
pub struct Decoder {
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes the next whole frame out of `buf`; `None` when more bytes are needed.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, StreamError> {
        let Some((head, _)) = buf.split_first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if length > MAX_FRAME {
            return Err(StreamError::Protocol(format!("a SPDY frame of {length} bytes")));
        }
        if buf.len() < 8 + length {
            return Ok(None);
        }
        buf.advance(8);
        let body = buf.split_to(length).freeze();
        let fin = flags & FLAG_FIN != 0;
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data { id: first, fin, bytes: body }));
        }
        self.control(first as u16, fin, body).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, StreamError> {
        let needed = match kind {
            1 => 10,
            2 | 6 | 8 => 4,
            3 | 7 => 8,
            _ => return Ok(Frame::Ignored),
        };
        if body.len() < needed {
            return Err(StreamError::Protocol(format!("a SPDY control frame of type {kind} is too short")));
        }
        let id = body.get_u32() & 0x7fff_ffff;
        Ok(match kind {
            1 => {
                // The associated stream, priority and slot.
                body.advance(6);
                Frame::SynStream { id, fin, headers: self.headers(&body)? }
            }
            2 => Frame::SynReply { id, fin, headers: self.headers(&body)? },
            3 => Frame::Rst { id, status: body.get_u32() },
            6 => Frame::Ping { id },
            7 => Frame::GoAway { last: id, status: body.get_u32() },
            _ => Frame::Headers { id, fin, headers: self.headers(&body)? },
        })
    }

    fn headers(&mut self, compressed: &[u8]) -> Result<Headers, StreamError> {
        let mut plain = BytesMut::from(self.inflate(compressed)?.as_slice());
        let count = number(&mut plain)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let name = text(&mut plain)?;
            // Several values of one name are separated by NULs.
            for value in text(&mut plain)?.split('\0') {
                headers.push((name.clone(), value.to_owned()));
            }
        }
        Ok(headers)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, StreamError> {
        let broken = |_| StreamError::Protocol("a SPDY header block does not decompress".into());
        let (mut out, mut rest) = (Vec::with_capacity(4096), compressed);
        loop {
            if out.len() == out.capacity() {
                if out.len() >= MAX_HEADERS {
                    return Err(StreamError::Protocol("a SPDY header block is too long".into()));
                }
                out.reserve(out.len());
            }
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let consumed = (self.inflate.total_in() - read) as usize;
            rest = rest.get(consumed..).unwrap_or_default();
            match result {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(DICTIONARY).map_err(broken)?;
                    continue;
                }
                // Nothing left to do is an error to the library, and the end to us.
                Err(error) if !rest.is_empty() => return Err(broken(error)),
                Err(_) => return Ok(out),
            }
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if consumed == 0 && self.inflate.total_out() == written && out.len() < out.capacity() {
                return Err(StreamError::Protocol("a SPDY header block ends in the middle".into()));
            }
        }
    }
}

fn number(buf: &mut BytesMut) -> Result<u32, StreamError> {
    if buf.len() < 4 {
        return Err(StreamError::Protocol("a SPDY header block is cut short".into()));
    }
    Ok(buf.get_u32())
}

fn text(buf: &mut BytesMut) -> Result<String, StreamError> {
    let len = number(buf)? as usize;
    if buf.len() < len {
        return Err(StreamError::Protocol("a SPDY header block is cut short".into()));
    }
    Ok(String::from_utf8_lossy(&buf.split_to(len)).into_owned())
}

/// Writes frames.
pub struct Encoder {
    deflate: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        if deflate.set_dictionary(DICTIONARY).is_err() {
            // Without it blocks are longer and no less valid.
            deflate = Compress::new(Compression::fast(), true);
        }
        Self { deflate }
    }
}

impl Encoder {
    /// The frame's bytes.
    pub fn encode(&mut self, frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        match frame {
            Frame::Data { id, fin, bytes } => {
                out.put_u32(*id & 0x7fff_ffff);
                out.put_u32(u32::from(u8::from(*fin) * FLAG_FIN) << 24 | bytes.len() as u32 & 0xff_ffff);
                out.extend_from_slice(bytes);
            }
            Frame::SynStream { id, fin, headers } => {
                let mut body = BytesMut::new();
                body.put_u32(*id);
                body.put_u32(0);
                body.put_u16(0);
                body.extend_from_slice(&self.headers(headers));
                control(&mut out, 1, *fin, &body);
            }
            Frame::SynReply { id, fin, headers } => self.with_headers(&mut out, 2, *id, *fin, headers),
            Frame::Headers { id, fin, headers } => self.with_headers(&mut out, 8, *id, *fin, headers),
            Frame::Rst { id, status } => control(&mut out, 3, false, &two(*id, *status)),
            Frame::Ping { id } => control(&mut out, 6, false, &id.to_be_bytes()),
            Frame::GoAway { last, status } => control(&mut out, 7, false, &two(*last, *status)),
            Frame::Ignored => {}
        }
        out
    }

    fn with_headers(&mut self, out: &mut BytesMut, kind: u16, id: u32, fin: bool, headers: &Headers) {
        let mut body = BytesMut::new();
        body.put_u32(id);
        body.extend_from_slice(&self.headers(headers));
        control(out, kind, fin, &body);
    }

    fn headers(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            plain.put_u32(name.len() as u32);
            plain.extend_from_slice(name.to_ascii_lowercase().as_bytes());
            plain.put_u32(value.len() as u32);
            plain.extend_from_slice(value.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.deflate.total_in();
        loop {
            let done = (self.deflate.total_in() - start) as usize;
            let rest = plain.get(done..).unwrap_or_default();
            let result = self.deflate.compress_vec(rest, &mut out, FlushCompress::Sync);
            let all = (self.deflate.total_in() - start) as usize == plain.len();
            if result.is_err() || (all && out.len() < out.capacity()) {
                return out;
            }
            out.reserve(256);
        }
    }
}

fn two(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) << 32 | u64::from(b)).to_be_bytes()
}

fn control(out: &mut BytesMut, kind: u16, fin: bool, body: &[u8]) {
    out.put_u32(0x8003_0000 | u32::from(kind));
    out.put_u32(u32::from(u8::from(fin) * FLAG_FIN) << 24 | body.len() as u32 & 0xff_ffff);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_reads_back_and_blocks_share_their_context() {
        let headers = |n: usize| -> Headers {
            vec![
                ("streamtype".into(), "error".into()),
                ("port".into(), n.to_string()),
                ("long".into(), "x".repeat(n)),
            ]
        };
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers(3) },
            Frame::SynStream { id: 3, fin: true, headers: headers(9000) },
            Frame::SynReply { id: 1, fin: false, headers: Headers::new() },
            Frame::Headers { id: 1, fin: false, headers: headers(1) },
            Frame::Data { id: 1, fin: true, bytes: Bytes::from_static(b"hello") },
            Frame::Rst { id: 3, status: 5 },
            Frame::Ping { id: 2 },
            Frame::GoAway { last: 3, status: 0 },
        ];
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut wire = BytesMut::new();
        for frame in &frames {
            wire.extend_from_slice(&encoder.encode(frame));
        }
        // Byte by byte, as a slow network would deliver it.
        let mut buf = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            buf.put_u8(byte);
            while let Some(frame) = decoder.decode(&mut buf).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, frames);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        let mut buf = BytesMut::from(&[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9][..]);
        assert!(Decoder::default().decode(&mut buf).is_err());
        let mut buf = BytesMut::from(&[0x80, 3, 0, 3, 0, 0, 0, 2, 0, 0][..]);
        assert!(Decoder::default().decode(&mut buf).is_err());
    }
}
