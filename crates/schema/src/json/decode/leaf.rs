//! Scalars, and types that read themselves.

use base64::Engine as _;
use bytes::Bytes;

use super::{Decoder, Frame, Got, Result};
use crate::DecodeError;
use crate::quantity::Quantity;
use crate::time;
use crate::types::Type;
use crate::value::Value;

impl Decoder<'_> {
    /// A value of a type that is no struct, list or map. Null has been dealt with.
    pub(super) fn leaf(&mut self, ty: &Type, first: u8, frame: &Frame<'_>) -> Result<Got> {
        match ty {
            Type::Bool => match first {
                b't' => {
                    self.scanner.literal("true")?;
                    Ok(Got::Value(Value::Bool(true)))
                }
                b'f' => {
                    self.scanner.literal("false")?;
                    Ok(Got::Value(Value::Bool(false)))
                }
                _ => self.mismatch(frame),
            },
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => self.integer(ty, first, frame),
            Type::Float64 => self.float(first, frame),
            Type::IntOrString if first != b'"' => match self.integer(&Type::Int32, first, frame)? {
                Got::Bad => Err(self.at_once()),
                got => Ok(got),
            },
            Type::Raw | Type::FieldsV1 => {
                let text = self.scanner.skip()?;
                Ok(Got::Value(Value::Raw(Bytes::copy_from_slice(text))))
            }
            // Upstream's Quantity takes a bare number, too.
            Type::Quantity if first != b'"' => {
                let text = self.scanner.skip()?;
                quantity(&String::from_utf8_lossy(text))
            }
            _ if first != b'"' => match (self.mismatch(frame)?, ty) {
                (_, Type::Time | Type::MicroTime | Type::Duration) => Err(self.at_once()),
                (got, _) => Ok(got),
            },
            _ => self.text(ty),
        }
    }

    fn text(&mut self, ty: &Type) -> Result<Got> {
        let text = self.scanner.string()?;
        let value = match ty {
            Type::Time => time::parse_rfc3339(&text)
                .map(|t| Value::Time(time::to_seconds(t)))
                .map_err(|e| DecodeError::Type(e.to_string()))?,
            Type::MicroTime => time::parse_rfc3339_micro(&text)
                .map(Value::Time)
                .map_err(|e| DecodeError::Type(e.to_string()))?,
            Type::Duration => {
                time::parse_duration(&text).map(Value::Int).map_err(|e| DecodeError::Type(e.to_string()))?
            }
            Type::Quantity => return quantity(&text),
            Type::Bytes => Value::Bytes(base64(&text)?),
            _ => Value::Str(text.into_owned()),
        };
        Ok(Got::Value(value))
    }

    fn integer(&mut self, ty: &Type, first: u8, frame: &Frame<'_>) -> Result<Got> {
        if !matches!(first, b'-' | b'0'..=b'9') {
            return self.mismatch(frame);
        }
        let start = self.scanner.pos;
        let text = self.scanner.number()?;
        let value = match ty {
            Type::Int32 => text.parse::<i32>().ok().map(i64::from),
            Type::Uint32 => text.parse::<u32>().ok().map(i64::from),
            // The tree holds the bits.
            Type::Uint64 => text.parse::<u64>().ok().map(|v| v as i64),
            _ => text.parse::<i64>().ok(),
        };
        match value {
            Some(value) => Ok(Got::Value(Value::Int(value))),
            None => {
                self.scanner.pos = start;
                self.mismatch(frame)
            }
        }
    }

    /// Bytes may be given as a list of numbers, too.
    pub(super) fn byte_list(&mut self, frame: &Frame<'_>) -> Result<Got> {
        let Got::Value(Value::List(items)) = self.list(&Type::Uint32, false, frame)? else {
            return Ok(Got::Bad);
        };
        let bytes: Option<Vec<u8>> =
            items.iter().map(|v| v.as_int().and_then(|i| u8::try_from(i).ok())).collect();
        match bytes {
            Some(bytes) => Ok(Got::Value(Value::Bytes(bytes.into()))),
            None => Err(DecodeError::Type(frame.type_error("number"))),
        }
    }

    fn float(&mut self, first: u8, frame: &Frame<'_>) -> Result<Got> {
        if !matches!(first, b'-' | b'0'..=b'9') {
            return self.mismatch(frame);
        }
        let start = self.scanner.pos;
        let text = self.scanner.number()?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Got::Value(Value::Float(value))),
            _ => {
                self.scanner.pos = start;
                self.mismatch(frame)
            }
        }
    }

    /// A scalar of no known type.
    pub(super) fn any_scalar(&mut self, first: u8) -> Result<Value> {
        match first {
            b'"' => Ok(Value::Str(self.scanner.string()?.into_owned())),
            b'-' | b'0'..=b'9' => {
                let text = self.scanner.number()?;
                if !text.contains('.')
                    && let Ok(value) = text.parse::<i64>()
                {
                    return Ok(Value::Int(value));
                }
                match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Value::Float(value)),
                    _ => Err(DecodeError::Type(format!(
                        "json: cannot unmarshal number {text} into Go value of type float64"
                    ))),
                }
            }
            _ => {
                self.scanner.skip_scalar()?;
                Ok(match first {
                    b't' => Value::Bool(true),
                    b'f' => Value::Bool(false),
                    _ => Value::Null,
                })
            }
        }
    }
}

fn quantity(text: &str) -> Result<Got> {
    match text.trim().parse::<Quantity>() {
        Ok(quantity) => Ok(Got::Value(Value::Str(quantity.to_string()))),
        Err(error) => Err(DecodeError::Type(error.to_string())),
    }
}

/// Go ignores line ends within base64.
fn base64(text: &str) -> Result<Bytes> {
    let engine = base64::engine::general_purpose::STANDARD;
    let decoded = if text.contains(['\n', '\r']) {
        engine.decode(text.replace(['\n', '\r'], ""))
    } else {
        engine.decode(text)
    };
    decoded.map(Bytes::from).map_err(|_| {
        DecodeError::Type(format!("illegal base64 data at input byte {}", wrong_base64(text.as_bytes())))
    })
}

/// Where Go stops reading base64: at the first letter that cannot stand there, or where the text's last four letters
/// begin if they are not four.
fn wrong_base64(text: &[u8]) -> usize {
    let ends = |byte: u8| matches!(byte, b'\n' | b'\r');
    let mut letters = text.iter().copied().enumerate().filter(|(_, byte)| !ends(*byte));
    loop {
        let mut read = 0;
        while let Some((at, byte)) = letters.next() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => read += 1,
                // Two or three letters are filled up, and nothing follows.
                b'=' if read == 3 => return letters.next().map_or(at, |(next, _)| next),
                b'=' if read == 2 => match letters.next() {
                    Some((_, b'=')) => return letters.next().map_or(at, |(next, _)| next),
                    Some(_) => return at,
                    None => return text.len(),
                },
                _ => return at,
            }
            if read == 4 {
                break;
            }
        }
        if read < 4 {
            return text.len().saturating_sub(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn broken_base64_is_told_where_go_tells_it() {
        let wrong = [
            ("x", 0),
            ("Never", 4),
            ("a", 0),
            ("aGk", 0),
            ("a b", 1),
            ("aGk!", 3),
            ("=", 0),
            ("aG=", 3),
            ("aG=x", 2),
            ("aGk=x", 4),
            ("aG\n", 1),
        ];
        for (text, at) in wrong {
            let error = base64(text).unwrap_err().to_string();
            assert_eq!(error, format!("illegal base64 data at input byte {at}"), "{text:?}");
        }
        for (text, read) in [("", ""), ("aGk=", "hi"), ("aG\nk=\n", "hi"), ("aA==", "h")] {
            assert_eq!(base64(text).unwrap(), read.as_bytes(), "{text:?}");
        }
    }
}
