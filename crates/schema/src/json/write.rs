//! Writing JSON text as Go's encoder does.

use std::io::Write as _;

use super::scan::Scanner;

/// What each byte needs inside a string: 0 nothing, 1 an escape, 2 a look at what follows.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated when compiled, where an index out of bounds is an error"
)]
const ESCAPE: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = 1;
        i += 1;
    }
    table[b'"' as usize] = 1;
    table[b'\\' as usize] = 1;
    table[b'<' as usize] = 1;
    table[b'>' as usize] = 1;
    table[b'&' as usize] = 1;
    table[0xe2] = 2;
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_u00(out: &mut Vec<u8>, b: u8) {
    out.extend_from_slice(b"\\u00");
    for nibble in [b >> 4, b & 15] {
        out.push(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    }
}

fn push_escape(out: &mut Vec<u8>, b: u8) {
    let short = match b {
        b'"' | b'\\' => b,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => return push_u00(out, b),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// A string with its quotes, escaped for HTML as Go does.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut run = 0;
    for (at, b) in bytes.iter().enumerate() {
        let class = ESCAPE.get(usize::from(*b)).copied().unwrap_or(0);
        if class == 0 {
            continue;
        }
        if class == 2 {
            // U+2028 and U+2029 end lines in JavaScript.
            let [Some(0x80), Some(last @ (0xa8 | 0xa9))] =
                [bytes.get(at + 1), bytes.get(at + 2)].map(|b| b.copied())
            else {
                continue;
            };
            out.extend_from_slice(bytes.get(run..at).unwrap_or_default());
            out.extend_from_slice(if last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
            run = at + 3;
            continue;
        }
        out.extend_from_slice(bytes.get(run..at).unwrap_or_default());
        push_escape(out, *b);
        run = at + 1;
    }
    out.extend_from_slice(bytes.get(run..).unwrap_or_default());
    out.push(b'"');
}

/// A field's name and colon. Names of fields need no escape.
pub(crate) fn name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(crate) fn int(out: &mut Vec<u8>, value: i64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        if let Some(slot) = buffer.get_mut(at) {
            *slot = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(buffer.get(at..).unwrap_or_default());
}

/// Shortest form; with an exponent only for the very large and very small.
pub(crate) fn float(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        return out.extend_from_slice(b"null");
    }
    let magnitude = value.abs();
    // Writing to a Vec does not fail.
    let _ = if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                write!(out, "{digits}e+{exponent}")
            }
            _ => write!(out, "{text}"),
        }
    } else {
        write!(out, "{value}")
    };
}

pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::Engine as _;
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    if let Some(slot) = out.get_mut(start..) {
        // The slice is exactly as long as the encoding.
        let _ = base64::engine::general_purpose::STANDARD.encode_slice(bytes, slot);
    }
    out.push(b'"');
}

/// Whether nothing in a text could have to be left out or escaped: managed fields, mostly. Whole chunks are looked at,
/// which the compiler turns into vector instructions.
fn is_plain(text: &[u8]) -> bool {
    let special = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'<' | b'>' | b'&' | 0xe2);
    text.chunks(64).all(|chunk| !chunk.iter().fold(false, |found, &b| found | special(b)))
}

/// JSON text without white space, and escaped for HTML. False, with nothing written, when it is
/// not JSON.
pub(crate) fn raw(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let start = out.len();
    let mut scanner = Scanner::new(text);
    if scanner.skip().and_then(|_| scanner.end()).is_err() {
        return false;
    }
    if is_plain(text) {
        out.extend_from_slice(text);
        return true;
    }
    let mut in_string = false;
    let mut escaped = false;
    for (at, b) in text.iter().enumerate() {
        match b {
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            b'<' | b'>' | b'&' => push_u00(out, *b),
            0xe2 if in_string
                && text.get(at + 1) == Some(&0x80)
                && matches!(text.get(at + 2), Some(0xa8 | 0xa9)) =>
            {
                let mark: &[u8] = if text.get(at + 2) == Some(&0xa8) { b"\\u2028" } else { b"\\u2029" };
                out.extend_from_slice(mark);
            }
            0x80 | 0xa8 | 0xa9 if in_string && after_line_end(text, at) => {}
            b => out.push(*b),
        }
        if escaped {
            escaped = false;
        } else if *b == b'\\' {
            escaped = in_string;
        } else if *b == b'"' {
            in_string = !in_string;
        }
    }
    debug_assert!(out.len() > start);
    true
}

/// Whether the byte is the second or third of a line end that was already written as an escape.
fn after_line_end(text: &[u8], at: usize) -> bool {
    let is = |from: Option<usize>| {
        from.and_then(|f| text.get(f..f + 3))
            .is_some_and(|t| t == [0xe2, 0x80, 0xa8] || t == [0xe2, 0x80, 0xa9])
    };
    is(at.checked_sub(1)) || is(at.checked_sub(2))
}

/// JSON without white space. None when the text is not JSON.
pub fn compact(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    raw(&mut out, text).then_some(out)
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    for _ in 0..depth {
        out.extend_from_slice(b"  ");
    }
}

/// Compact JSON with a line for each member, indented by two spaces.
pub fn indent(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let (mut in_string, mut escaped, mut opened) = (false, false, false);
    for b in compact {
        if in_string {
            out.push(*b);
            in_string = escaped || *b != b'"';
            escaped = !escaped && *b == b'\\';
            continue;
        }
        let closes = matches!(b, b'}' | b']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if opened != closes {
            // Neither between empty brackets nor before a plain value.
            if opened || closes {
                new_line(&mut out, depth);
            }
        }
        opened = matches!(b, b'{' | b'[');
        match b {
            b'{' | b'[' => {
                out.push(*b);
                depth += 1;
            }
            b',' => {
                out.push(b',');
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b => out.push(*b),
        }
        in_string = *b == b'"';
    }
    out
}
