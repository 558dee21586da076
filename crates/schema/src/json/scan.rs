//! A scanner over JSON text, with Go's error messages.

use std::borrow::Cow;

use crate::DecodeError;

type Result<T> = std::result::Result<T, DecodeError>;

/// How deep values may be nested where they become trees: as deep as a debug build can go on a
/// stack of two megabytes.
pub(crate) const MAX_DEPTH: usize = 160;

#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    pub data: &'a [u8],
    pub pos: usize,
}

#[inline]
fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// A byte as Go shows it in an error.
fn quote_char(c: u8) -> String {
    match c {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        0x07 => r"'\a'".into(),
        0x08 => r"'\b'".into(),
        0x0b => r"'\v'".into(),
        0x0c => r"'\f'".into(),
        b'\n' => r"'\n'".into(),
        b'\r' => r"'\r'".into(),
        b'\t' => r"'\t'".into(),
        0x20..0x7f => format!("'{}'", char::from(c)),
        0x00..0x20 | 0x7f => format!(r"'\x{c:02x}'"),
        0x80..0xa1 | 0xad => format!(r"'\u{:04x}'", u32::from(c)),
        _ => format!("'{}'", char::from(c)),
    }
}

impl<'a> Scanner<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, pos: 0 }
    }

    /// [`Scanner::invalid`] within a word or a number: Go takes the end of the text for a space there.
    #[cold]
    fn cut(&self, context: &str) -> DecodeError {
        if self.pos < self.data.len() {
            return self.invalid(context);
        }
        DecodeError::Syntax { message: format!("invalid character ' ' {context}"), offset: self.data.len() }
    }

    /// The error for the byte at the position.
    #[cold]
    pub fn invalid(&self, context: &str) -> DecodeError {
        match self.data.get(self.pos) {
            Some(c) => DecodeError::Syntax {
                message: format!("invalid character {} {context}", quote_char(*c)),
                offset: self.pos + 1,
            },
            None => DecodeError::Syntax {
                message: "unexpected end of JSON input".into(),
                offset: self.data.len(),
            },
        }
    }

    #[cold]
    pub fn too_deep(&self) -> DecodeError {
        DecodeError::Syntax { message: "exceeded max depth".into(), offset: self.pos }
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let b = *self.data.get(self.pos)?;
            if !is_space(b) {
                return Some(b);
            }
            self.pos += 1;
        }
    }

    /// The next byte of a value.
    #[inline]
    pub fn peek_value(&mut self) -> Result<u8> {
        match self.peek() {
            Some(b) => Ok(b),
            None => Err(self.invalid("")),
        }
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.invalid("after top-level value")),
        }
    }

    /// Enters an object or array whose bracket is next; true when it is empty and was left again.
    pub fn open(&mut self, close: u8) -> bool {
        self.pos += 1;
        if self.peek() == Some(close) {
            self.pos += 1;
            return true;
        }
        false
    }

    /// After a value: true when another follows, false when the bracket was closed.
    #[inline]
    pub fn more(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.pos += 1;
                Ok(true)
            }
            Some(b) if b == close => {
                self.pos += 1;
                Ok(false)
            }
            _ if close == b'}' => Err(self.invalid("after object key:value pair")),
            _ => Err(self.invalid("after array element")),
        }
    }

    /// An object's key and its colon.
    #[inline]
    pub fn key(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.invalid("after object key"));
        }
        self.pos += 1;
        Ok(key)
    }

    /// A string whose opening quote is next.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.pos += 1;
        let start = self.pos;
        let mut ascii = true;
        loop {
            match self.data.get(self.pos) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(b) if *b >= 0x20 => {
                    ascii &= *b < 0x80;
                    self.pos += 1;
                }
                _ => return Err(self.invalid("in string literal")),
            }
        }
        let text = self.data.get(start..self.pos).unwrap_or_default();
        self.pos += 1;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => {
                debug_assert!(!ascii);
                let mut out = String::new();
                push_lossy(&mut out, text);
                Ok(Cow::Owned(out))
            }
        }
    }

    /// The rest of a string that has escapes.
    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut out = String::with_capacity(self.pos - start + 16);
        let mut run = start;
        loop {
            match self.data.get(self.pos) {
                Some(b'"') => {
                    push_lossy(&mut out, self.data.get(run..self.pos).unwrap_or_default());
                    self.pos += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    push_lossy(&mut out, self.data.get(run..self.pos).unwrap_or_default());
                    self.pos += 1;
                    out.push(self.escape()?);
                    run = self.pos;
                }
                Some(b) if *b >= 0x20 => self.pos += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char> {
        let c = match self.data.get(self.pos) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.invalid("in string escape code")),
        };
        self.pos += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        self.pos += 1;
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or('\u{fffd}'));
        }
        // A surrogate counts only with its other half.
        if first < 0xdc00 && self.data.get(self.pos..self.pos + 2) == Some(b"\\u") {
            let mut ahead = self.clone();
            ahead.pos += 2;
            let second = ahead.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                self.pos = ahead.pos;
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
        }
        Ok('\u{fffd}')
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.data.get(self.pos).and_then(|b| char::from(*b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.invalid("in \\u hexadecimal character escape"));
            };
            value = value * 16 + digit;
            self.pos += 1;
        }
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let start = self.pos;
        while self.data.get(self.pos).is_some_and(u8::is_ascii_digit) {
            self.pos += 1;
        }
        self.pos - start
    }

    /// A number's text.
    pub fn number(&mut self) -> Result<&'a str> {
        let start = self.pos;
        if self.data.get(self.pos) == Some(&b'-') {
            self.pos += 1;
        }
        if self.data.get(self.pos) == Some(&b'0') {
            self.pos += 1;
        } else if self.digits() == 0 {
            return Err(self.cut("in numeric literal"));
        }
        if self.data.get(self.pos) == Some(&b'.') {
            self.pos += 1;
            if self.digits() == 0 {
                return Err(self.cut("after decimal point in numeric literal"));
            }
        }
        if matches!(self.data.get(self.pos), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.data.get(self.pos), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            if self.digits() == 0 {
                return Err(self.cut("in exponent of numeric literal"));
            }
        }
        let text = self.data.get(start..self.pos).unwrap_or_default();
        Ok(std::str::from_utf8(text).unwrap_or_default())
    }

    /// `true`, `false` or `null`, whose first letter is next.
    pub fn literal(&mut self, word: &str) -> Result<()> {
        for (at, expected) in word.bytes().enumerate() {
            if self.data.get(self.pos) != Some(&expected) {
                let expected = quote_char(expected);
                if at == 0 {
                    return Err(self.invalid("looking for beginning of value"));
                }
                return Err(self.cut(&format!("in literal {word} (expecting {expected})")));
            }
            self.pos += 1;
        }
        Ok(())
    }

    /// Passes over a scalar whose first byte is next.
    pub fn skip_scalar(&mut self) -> Result<()> {
        match self.data.get(self.pos) {
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    /// Passes over any value, checking it; does not recurse. Returns its text.
    pub fn skip(&mut self) -> Result<&'a [u8]> {
        self.peek_value()?;
        let start = self.pos;
        let mut stack: Vec<u8> = Vec::new();
        loop {
            let opened = match self.peek_value()? {
                b'{' => Some(b'}'),
                b'[' => Some(b']'),
                _ => {
                    self.skip_scalar()?;
                    None
                }
            };
            if let Some(close) = opened
                && !self.open(close)
            {
                if stack.len() >= 10_000 {
                    return Err(self.too_deep());
                }
                stack.push(close);
                if close == b'}' {
                    self.key()?;
                }
                continue;
            }
            // A value has ended: leave what it closes, until another one follows.
            loop {
                let Some(close) = stack.last() else {
                    return Ok(self.data.get(start..self.pos).unwrap_or_default());
                };
                if self.more(*close)? {
                    if *close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                stack.pop();
            }
        }
    }
}

/// Go replaces each byte that is not UTF-8.
fn push_lossy(out: &mut String, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        out.push_str(chunk.valid());
        for _ in chunk.invalid() {
            out.push('\u{fffd}');
        }
    }
}
