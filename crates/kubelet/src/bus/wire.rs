//! Messages of D-Bus as bytes (D-Bus Specification, "Message Protocol"): of the types, those that logind and systemd
//! use. Pure.

/// The largest message that is read. The bus allows 128 MiB; ours are of a hundred bytes.
const LARGEST: usize = 1 << 20;
/// Bytes that say how long a message is.
pub const HEAD: usize = 16;

/// The type of [`Value::Properties`].
const PROPERTIES: &str = "a(sv)";
/// The type of [`Value::NoUnits`].
const UNITS: &str = "a(sa(sv))";

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
    /// Names and values: `a(sv)`.
    Properties(Vec<(String, Value)>),
    /// No further units beside one that is started: `a(sa(sv))`.
    NoUnits,
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::Int32(_) => "i",
            Self::Uint32(_) => "u",
            Self::Uint64(_) => "t",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Fd(_) => "h",
            Self::Variant(_) => "v",
            Self::Properties(_) => PROPERTIES,
            Self::NoUnits => UNITS,
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

    /// An array of structs, which begin at multiples of 8: its length is known afterwards, and does not count what is
    /// left empty before the first.
    fn structs(&mut self, write: impl FnOnce(&mut Self)) {
        self.uint(0);
        let length_at = self.0.len() - 4;
        self.align(8);
        let begin = self.0.len();
        write(self);
        let length = u32::try_from(self.0.len() - begin).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
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
                self.short(inner.signature());
                self.value(inner);
            }
            Value::Properties(all) => self.structs(|writer| {
                for (name, value) in all {
                    writer.align(8);
                    writer.text(name);
                    writer.value(&Value::Variant(Box::new(value.clone())));
                }
            }),
            Value::NoUnits => self.structs(|_| {}),
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
    out.structs(|out| {
        for (code, value) in fields.into_iter().flatten() {
            out.align(8);
            out.0.push(code);
            out.value(&Value::Variant(Box::new(value)));
        }
    });
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

    /// Values of the types that a signature names.
    fn body(&mut self, signature: &str) -> Result<Vec<Value>, WireError> {
        let (mut rest, mut values) = (signature, Vec::new());
        while let Some(of) = rest.chars().next() {
            let (value, taken) = if rest.starts_with(PROPERTIES) {
                (self.properties()?, PROPERTIES.len())
            } else if rest.starts_with(UNITS) {
                let length = self.array()?;
                self.take(length)?;
                (Value::NoUnits, UNITS.len())
            } else {
                (self.value(of, 0)?, of.len_utf8())
            };
            values.push(value);
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(values)
    }

    /// How many bytes an array of structs has, which begins then.
    fn array(&mut self) -> Result<usize, WireError> {
        let length = usize::try_from(self.uint()?).map_err(|_| WireError::Short)?;
        self.align(8);
        Ok(length)
    }

    fn properties(&mut self) -> Result<Value, WireError> {
        let end = self.array()?.saturating_add(self.at);
        let mut all = Vec::new();
        while self.at < end {
            self.align(8);
            let name = self.text()?;
            let Value::Variant(value) = self.value('v', 0)? else { return Err(WireError::Short) };
            all.push((name, *value));
        }
        Ok(Value::Properties(all))
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
    let body = reader.body(&signature);
    match body {
        Ok(body) => message.body = body,
        Err(WireError::Form(_)) => {}
        Err(short) => return Err(short),
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
