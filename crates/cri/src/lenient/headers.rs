//! The frames of a client (RFC 9113), and the authority in their header blocks (RFC 7541). Pure.

use http::uri::Authority;

/// `PRI * HTTP/2.0`, with which a client begins.
const PREFACE: usize = 24;
/// Bytes of a frame's header.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// The largest frame that a server takes which says nothing else of it.
const LARGEST: usize = 16_384;
/// Header blocks that are longer are let through as they are.
const LONGEST: usize = 64 * 1024;

/// Follows the frames of a connection.
pub struct Rewriter {
    /// Bytes that pass by.
    passing: usize,
    /// The beginning of a frame, or a frame of headers that is not whole yet.
    pending: Vec<u8>,
    block: Option<Block>,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { passing: PREFACE, pending: Vec::new(), block: None }
    }
}

/// A header block, which may come in several frames.
struct Block {
    /// The frames as they came.
    frames: Vec<u8>,
    /// What they hold: the fields.
    fields: Vec<u8>,
    /// The first frame's flags, its stream, and its priority, if it has one.
    flags: u8,
    stream: [u8; 4],
    priority: Vec<u8>,
}

/// A frame that is there whole.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: &'a [u8],
}

impl Rewriter {
    /// Takes what a client sent; `out` gets what the server is to read.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            let (passed, rest) = bytes.split_at(self.passing.min(bytes.len()));
            out.extend_from_slice(passed);
            self.passing -= passed.len();
            if rest.is_empty() {
                return;
            }
            // Of other frames only the head waits here.
            let wanted = self.wanted().saturating_sub(self.pending.len()).min(rest.len());
            let (taken, rest) = rest.split_at(wanted);
            self.pending.extend_from_slice(taken);
            bytes = rest;
            // With the head it is known how much more is wanted.
            if self.pending.len() == self.wanted() {
                self.frame(out);
            }
        }
    }

    /// How many bytes `pending` has to have before something can be said of it.
    fn wanted(&self) -> usize {
        match self.pending.first_chunk::<4>() {
            Some(&[a, b, c, HEADERS | CONTINUATION]) if self.pending.len() >= HEAD => {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if length > LONGEST { HEAD } else { HEAD + length }
            }
            _ => HEAD,
        }
    }

    /// Handles the frame, or the head of one, that is pending.
    fn frame(&mut self, out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        let Some((&[a, b, c, kind, flags, s0, s1, s2, s3], payload)) = pending.split_first_chunk::<HEAD>()
        else {
            return;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let frame = Frame { kind, flags, stream: [s0, s1, s2, s3], payload };
        let is_whole = matches!(kind, HEADERS | CONTINUATION) && payload.len() == length;
        match (is_whole.then(|| self.add(&pending, &frame)), self.block.take()) {
            (Some(true), Some(block)) if flags & END_HEADERS != 0 => block.finish(out),
            (Some(true), Some(block)) if block.frames.len() <= LONGEST => self.block = Some(block),
            (Some(true), Some(block)) => out.extend_from_slice(&block.frames),
            // Nothing that is to be understood: the server says what is wrong with it.
            (_, block) => {
                out.extend(block.into_iter().flat_map(|block| block.frames));
                out.extend_from_slice(&pending);
                self.passing = length - payload.len();
            }
        }
    }

    /// Adds a frame to the block that it begins or goes on with. False when it does neither.
    fn add(&mut self, whole: &[u8], frame: &Frame<'_>) -> bool {
        match (&mut self.block, frame.kind) {
            (None, HEADERS) => match Block::begin(whole, frame) {
                Some(block) => self.block = Some(block),
                None => return false,
            },
            (Some(block), CONTINUATION) if block.stream == frame.stream => {
                block.frames.extend_from_slice(whole);
                block.fields.extend_from_slice(frame.payload);
            }
            _ => return false,
        }
        true
    }
}

impl Block {
    fn begin(whole: &[u8], frame: &Frame<'_>) -> Option<Self> {
        let mut fields = frame.payload;
        if frame.flags & PADDED != 0 {
            let (padding, rest) = fields.split_first()?;
            fields = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
        }
        let before = if frame.flags & PRIORITY != 0 { 5 } else { 0 };
        let (priority, fields) = fields.split_at_checked(before)?;
        Some(Self {
            frames: whole.to_vec(),
            fields: fields.to_vec(),
            flags: frame.flags,
            stream: frame.stream,
            priority: priority.to_vec(),
        })
    }

    /// All frames of it have come.
    fn finish(self, out: &mut Vec<u8>) {
        let length = |fields: &[u8]| self.priority.len() + fields.len();
        match rewritten(&self.fields).filter(|fields| length(fields) <= LARGEST) {
            Some(fields) => {
                let [_, size @ ..] = (length(&fields) as u32).to_be_bytes();
                out.extend_from_slice(&size);
                out.extend_from_slice(&[HEADERS, (self.flags & !PADDED) | END_HEADERS]);
                out.extend_from_slice(&self.stream);
                out.extend_from_slice(&self.priority);
                out.extend_from_slice(&fields);
            }
            None => out.extend_from_slice(&self.frames),
        }
    }
}

/// The fields of a block with another authority, if it has one that is none. That one is as long, so that both ends
/// forget the same entries of their tables.
fn rewritten(fields: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(fields);
    let mut out = Vec::with_capacity(fields.len());
    let mut changed = false;
    while let Some(&first) = reader.0.first() {
        let before = reader.0;
        // What comes next: how many bits of its first byte belong to its index, and whether a text follows.
        let (bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40..=0x7f => (6, true),
            0x20..=0x3f => (5, false),
            _ => (4, true),
        };
        let index = reader.integer(bits)?;
        let mut is_authority = is_literal && index == 1;
        if is_literal && index == 0 {
            is_authority = reader.text()?.decoded().as_deref() == Some(b":authority");
        }
        let name = before.get(..before.len() - reader.0.len())?;
        let value = if is_literal { Some(reader.text()?) } else { None };
        match value.filter(|_| is_authority).and_then(|value| value.decoded()) {
            Some(host) if Authority::try_from(host.as_slice()).is_err() => {
                out.extend_from_slice(name);
                put_text(&mut out, host.len());
                changed = true;
            }
            _ => out.extend_from_slice(before.get(..before.len() - reader.0.len())?),
        }
    }
    changed.then_some(out)
}

/// A host's name of so many letters, as plain text.
fn put_text(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..127) => out.push(short),
        _ => {
            out.push(127);
            let mut rest = length.saturating_sub(127);
            while rest >= 128 {
                out.push(128 | (rest & 127) as u8);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend(std::iter::repeat_n(b'x', length));
}

/// What is left of a block.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// An integer of which the first byte has so many bits (RFC 7541, 5.1).
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let (&first, mut rest) = self.0.split_first()?;
        let most = (1_usize << bits) - 1;
        let mut value = usize::from(first) & most;
        if value == most {
            let mut shift = 0;
            loop {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                value = value.checked_add(usize::from(byte & 127).checked_shl(shift)?)?;
                shift += 7;
                if byte & 128 == 0 {
                    break;
                }
                if shift > 28 {
                    return None;
                }
            }
        }
        self.0 = rest;
        Some(value)
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let is_coded = self.0.first()? & 128 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Text { bytes, is_coded })
    }
}

/// A text, perhaps in Huffman's code.
struct Text<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

/// What has codes of 5 to 15 bits, in the order of these (RFC 7541, appendix B); what has longer ones is in no host.
const CODED: [&[u8]; 11] = [
    b"012aceiost",
    b" %-./3456789=A_bdfghlmnpru",
    b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    b"&*,;XZ",
    b"",
    b"!\"()?",
    b"'+|",
    b"#>",
    b"\0$@[]~",
    b"^}",
    b"<`{",
];

impl Text<'_> {
    /// `None` when it cannot be read.
    fn decoded(&self) -> Option<Vec<u8>> {
        if !self.is_coded {
            return Some(self.bytes.to_vec());
        }
        let mut out = Vec::new();
        let (mut code, mut length) = (0_usize, 0_usize);
        let bits =
            self.bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
        for bit in bits {
            (code, length) = (code << 1 | bit, length + 1);
            if let Some(symbol) = symbol(code, length) {
                out.push(symbol);
                (code, length) = (0, 0);
            } else if length > 15 {
                return None;
            }
        }
        // The last byte is filled up with ones.
        (length < 8 && code == (1 << length) - 1).then_some(out)
    }
}

/// What a code of so many bits stands for. Codes of one length follow one another, and those of the next length them.
fn symbol(code: usize, length: usize) -> Option<u8> {
    let mut first = 0;
    for (symbols, bits) in CODED.iter().zip(5..) {
        if bits == length {
            return symbols.get(code.checked_sub(first)?).copied();
        }
        first = (first + symbols.len()) << 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, size @ ..] = (payload.len() as u32).to_be_bytes();
        [&size[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn through(parts: &[&[u8]]) -> Vec<u8> {
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        rewriter.push(&[b'p'; PREFACE], &mut out);
        parts.iter().for_each(|part| rewriter.push(part, &mut out));
        out.split_off(PREFACE)
    }

    #[test]
    fn texts_are_read_as_the_specification_shows() {
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            let text = text.as_bytes().to_vec();
            assert_eq!(Text { bytes: &hex(coded), is_coded: true }.decoded(), Some(text));
        }
        assert_eq!(Text { bytes: &[0], is_coded: true }.decoded(), None, "not filled up with ones");
    }

    #[test]
    fn a_path_is_no_authority_and_gets_the_length_of_one() {
        // :method POST, :authority, a literal that is not kept, an index.
        let block =
            |host: &[u8]| [&[0x83, 0x41, host.len() as u8], host, &[0x00, 1, b'a', 1, b'b', 0xbe]].concat();
        let path = b"%2Fvar%2Flib%2Fkubelet.sock";
        let given = [frame(HEADERS, END_HEADERS, &block(path)), frame(0, 1, b"data")].concat();
        let wanted = [frame(HEADERS, END_HEADERS, &block(&[b'x'; 27])), frame(0, 1, b"data")].concat();
        assert_eq!(through(&[&given]), wanted);
        let bytes: Vec<&[u8]> = given.chunks(1).collect();
        assert_eq!(through(&bytes), wanted, "byte by byte");
        let fine =
            [frame(HEADERS, END_HEADERS, &block(b"localhost")), frame(4, 0, &[]), frame(8, 0, &[0; 4])]
                .concat();
        assert_eq!(through(&[&fine]), fine);
    }

    #[test]
    fn a_block_of_several_frames_becomes_one() {
        let host = b"%2Fa";
        let fields = [&[0x41, 4][..], host, &[0x83]].concat();
        let (first, second) = fields.split_at(3);
        let padded = [&[2][..], &[9; 5], first, &[0; 2]].concat();
        let given =
            [frame(HEADERS, PADDED | PRIORITY | 1, &padded), frame(CONTINUATION, END_HEADERS, second)]
                .concat();
        let wanted =
            frame(HEADERS, PRIORITY | END_HEADERS | 1, &[&[9; 5][..], &[0x41, 4], b"xxxx", &[0x83]].concat());
        assert_eq!(through(&[&given]), wanted);
    }

    #[test]
    fn what_makes_no_sense_is_the_servers_to_refuse() {
        for broken in [
            frame(HEADERS, END_HEADERS, &[0x41, 200]),
            frame(HEADERS, END_HEADERS | PADDED, &[9, 1]),
            frame(CONTINUATION, END_HEADERS, &[0x83]),
            [frame(HEADERS, 0, &[0x83]), frame(0, 0, b"x")].concat(),
        ] {
            assert_eq!(
                through(&[&broken, &frame(6, 0, &[0; 8])]),
                [broken.clone(), frame(6, 0, &[0; 8])].concat()
            );
        }
    }

    #[test]
    fn long_names_have_long_lengths() {
        let mut out = Vec::new();
        put_text(&mut out, 300);
        let mut reader = Reader(&out);
        let text = reader.text().unwrap();
        assert_eq!((text.bytes.len(), reader.0.len()), (300, 0));
    }
}
