//! Messages of D-Bus as bytes (D-Bus Specification, "Message Protocol"): of the types, those that logind and systemd
//! use. Pure.

/// The largest message that is read. The bus allows 128 MiB; ours are of a hundred bytes.
const LARGEST: usize = 1 << 20;
/// Bytes that say how long a message is.
pub const HEAD: usize = 16;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends too early.
    #[error("a message of the bus ends too early")]
    Short,
    /// Its form is another one.
    #[error("a message of the bus has {0}")]
    Form(&'static str),
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    Int32(i32),
    Uint32(u32),
    Uint64(u64),
    Text(String),
    Path(String),
    Signature(String),
    /// The place of a file descriptor among those of its message.
    Fd(u32),
    Variant(Box<Value>),
}

impl Value {
    fn signature(&self) -> char {
        match self {
            Self::Byte(_) => 'y',
            Self::Bool(_) => 'b',
            Self::Int32(_) => 'i',
            Self::Uint32(_) => 'u',
            Self::Uint64(_) => 't',
            Self::Text(_) => 's',
            Self::Path(_) => 'o',
            Self::Signature(_) => 'g',
            Self::Fd(_) => 'h',
            Self::Variant(_) => 'v',
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub serial: u32,
    /// Of the call that this answers.
    pub reply_to: Option<u32>,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub destination: String,
    pub sender: String,
    /// How many file descriptors come with it.
    pub fds: u32,
    pub body: Vec<Value>,
}

impl Message {
    /// One that says nothing yet.
    pub fn new(kind: Kind, serial: u32) -> Self {
        let none = String::new;
        Self {
            kind,
            serial,
            reply_to: None,
            path: none(),
            interface: none(),
            member: none(),
            error: none(),
            destination: none(),
            sender: none(),
            fds: 0,
            body: Vec::new(),
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
    }

    fn uint(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.uint(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn short(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(byte) => self.0.push(*byte),
            Value::Bool(is) => self.uint(u32::from(*is)),
            Value::Int32(number) => self.uint(number.cast_unsigned()),
            Value::Uint32(number) | Value::Fd(number) => self.uint(*number),
            Value::Uint64(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.short(text),
            Value::Variant(inner) => {
                self.short(&inner.signature().to_string());
                self.value(inner);
            }
        }
    }
}

/// The bytes of a message, little end first.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut body = Writer(Vec::new());
    message.body.iter().for_each(|value| body.value(value));
    let signature: String = message.body.iter().map(Value::signature).collect();
    let text = |code: u8, text: &str, of: fn(String) -> Value| {
        (!text.is_empty()).then(|| (code, of(text.to_owned())))
    };
    let fields = [
        text(1, &message.path, Value::Path),
        text(2, &message.interface, Value::Text),
        text(3, &message.member, Value::Text),
        text(4, &message.error, Value::Text),
        message.reply_to.map(|serial| (5, Value::Uint32(serial))),
        text(6, &message.destination, Value::Text),
        text(7, &message.sender, Value::Text),
        text(8, &signature, Value::Signature),
        (message.fds > 0).then_some((9, Value::Uint32(message.fds))),
    ];
    let mut out = Writer(vec![b'l', message.kind as u8, 0, 1]);
    out.uint(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
    out.uint(message.serial);
    // The array's length is known afterwards; its elements are structs, which begin at multiples of 8.
    out.uint(0);
    let begin = out.0.len();
    for (code, value) in fields.into_iter().flatten() {
        out.align(8);
        out.0.push(code);
        out.value(&Value::Variant(Box::new(value)));
    }
    let length = u32::try_from(out.0.len() - begin).unwrap_or(u32::MAX);
    if let Some(place) = out.0.get_mut(12..16) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    out.align(8);
    out.0.extend(body.0);
    out.0
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count).ok_or(WireError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(WireError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        self.take(1)?.first().copied().ok_or(WireError::Short)
    }

    fn uint(&mut self) -> Result<u32, WireError> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| WireError::Short)?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn long(&mut self) -> Result<u64, WireError> {
        self.align(8);
        let bytes = self.take(8)?.try_into().map_err(|_| WireError::Short)?;
        Ok(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn words(&mut self, length: usize) -> Result<String, WireError> {
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| WireError::Form("text that is no UTF-8"))
    }

    fn text(&mut self) -> Result<String, WireError> {
        let length = usize::try_from(self.uint()?).map_err(|_| WireError::Short)?;
        self.words(length)
    }

    fn short(&mut self) -> Result<String, WireError> {
        let length = usize::from(self.byte()?);
        self.words(length)
    }

    fn value(&mut self, of: char, depth: u8) -> Result<Value, WireError> {
        Ok(match of {
            'y' => Value::Byte(self.byte()?),
            'b' => Value::Bool(self.uint()? != 0),
            'i' => Value::Int32(self.uint()?.cast_signed()),
            'u' => Value::Uint32(self.uint()?),
            'h' => Value::Fd(self.uint()?),
            't' => Value::Uint64(self.long()?),
            's' => Value::Text(self.text()?),
            'o' => Value::Path(self.text()?),
            'g' => Value::Signature(self.short()?),
            'v' if depth < 4 => {
                let signature = self.short()?;
                let mut types = signature.chars();
                let (Some(of), None) = (types.next(), types.next()) else {
                    return Err(WireError::Form("a variant of a type that is not known here"));
                };
                Value::Variant(Box::new(self.value(of, depth + 1)?))
            }
            _ => return Err(WireError::Form("a type that is not known here")),
        })
    }
}

/// How long the message is whose first [`HEAD`] bytes these are.
///
/// # Errors
/// [`WireError`].
pub fn length(head: &[u8]) -> Result<usize, WireError> {
    let mut reader = Reader { bytes: head, at: 0, big: head.first() == Some(&b'B') };
    reader.at = 4;
    let body = reader.uint()?;
    reader.uint()?;
    let fields = reader.uint()?;
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let total = (HEAD.saturating_add(size(fields)))
        .checked_next_multiple_of(8)
        .and_then(|begin| begin.checked_add(size(body)));
    total.filter(|total| *total <= LARGEST).ok_or(WireError::Form("more bytes than anybody reads"))
}

/// Reads a whole message. A body of types that are not known here is left out: it is nobody's whom we asked.
///
/// # Errors
/// [`WireError`].
pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    let mut reader = Reader { bytes, at: 0, big: bytes.first() == Some(&b'B') };
    reader.byte()?;
    let kind = match reader.byte()? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return Err(WireError::Form("a kind that is not known here")),
    };
    reader.take(2)?;
    reader.uint()?;
    let mut message = Message::new(kind, reader.uint()?);
    let end = usize::try_from(reader.uint()?).map_err(|_| WireError::Short)?.saturating_add(reader.at);
    let mut signature = String::new();
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        let Value::Variant(value) = reader.value('v', 0)? else { return Err(WireError::Short) };
        match (code, *value) {
            (1, Value::Path(text)) => message.path = text,
            (2, Value::Text(text)) => message.interface = text,
            (3, Value::Text(text)) => message.member = text,
            (4, Value::Text(text)) => message.error = text,
            (5, Value::Uint32(serial)) => message.reply_to = Some(serial),
            (6, Value::Text(text)) => message.destination = text,
            (7, Value::Text(text)) => message.sender = text,
            (8, Value::Signature(text)) => signature = text,
            (9, Value::Uint32(count)) => message.fds = count,
            _ => {}
        }
    }
    reader.align(8);
    let body: Result<Vec<Value>, WireError> = signature.chars().map(|of| reader.value(of, 0)).collect();
    match body {
        Ok(body) => message.body = body,
        Err(WireError::Form(_)) => {}
        Err(short) => return Err(short),
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inhibit() -> Message {
        Message {
            path: "/org/freedesktop/login1".to_owned(),
            interface: "org.freedesktop.login1.Manager".to_owned(),
            member: "Inhibit".to_owned(),
            destination: "org.freedesktop.login1".to_owned(),
            body: vec![
                Value::Text("shutdown".to_owned()),
                Value::Variant(Box::new(Value::Uint64(5))),
                Value::Bool(true),
                Value::Int32(-1),
            ],
            ..Message::new(Kind::Call, 7)
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&inhibit());
        assert_eq!(length(&bytes[..HEAD]), Ok(bytes.len()));
        assert_eq!(decode(&bytes), Ok(inhibit()));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_message_has_the_bytes_of_the_specification() {
        let hello = Message {
            path: "/a".to_owned(),
            member: "Hello".to_owned(),
            body: vec![Value::Text("hi".to_owned())],
            ..Message::new(Kind::Call, 1)
        };
        let mut wanted = b"l\x01\x00\x01\x07\x00\x00\x00\x01\x00\x00\x00\x27\x00\x00\x00".to_vec();
        wanted.extend(b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00");
        wanted.extend(b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00");
        wanted.extend(b"\x08\x01g\x00\x01s\x00\x00");
        wanted.extend(b"\x02\x00\x00\x00hi\x00");
        assert_eq!(encode(&hello), wanted);
    }

    #[test]
    fn a_body_of_other_types_is_left_out_and_a_huge_message_refused() {
        let mut bytes = encode(&Message { body: vec![Value::Byte(1)], ..Message::new(Kind::Signal, 1) });
        let place = bytes.windows(4).position(|part| part == b"\x01y\x00\x00").unwrap();
        bytes[place + 1] = b'a';
        assert_eq!(decode(&bytes).unwrap().body, []);
        assert!(length(b"l\x01\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff").is_err());
    }
}
