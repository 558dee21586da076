//! The apiextensions types that are not what they look like in JSON.

use super::{Decoder, Frame, Got, Result};
use crate::DecodeError;
use crate::object::Object;
use crate::types::{Form, StructRef};
use crate::value::Value;

impl Decoder<'_> {
    /// The apiextensions types that are a schema or something else.
    pub(super) fn form(&mut self, ty: &StructRef, first: u8, frame: &Frame<'_>) -> Result<Got> {
        let mut object = Object::new(ty.clone());
        match (ty.form, first) {
            (Form::SchemaOrBool, b't') => {
                self.scanner.literal("true")?;
                object.set("allows", true);
            }
            (Form::SchemaOrBool, b'f') => self.scanner.literal("false")?,
            (Form::SchemaOrBool, b'n') => {
                self.scanner.literal("null")?;
                return Ok(Got::Null);
            }
            (_, b'{') => {
                let Some((index, field)) = ty.field("schema") else {
                    return self.mismatch(frame);
                };
                object.set("allows", true);
                self.field(ty, field, index, &mut object, frame)?;
            }
            (Form::SchemaOrArray | Form::SchemaOrStrings, b'[') => {
                let name = if ty.form == Form::SchemaOrArray { "jSONSchemas" } else { "property" };
                let Some((index, field)) = ty.field(name) else {
                    return self.mismatch(frame);
                };
                self.field(ty, field, index, &mut object, frame)?;
            }
            (Form::SchemaOrBool, _) => {
                return Err(DecodeError::Type("boolean or JSON schema expected".into()));
            }
            (_, b'n') => {
                self.scanner.literal("null")?;
                return Ok(Got::Null);
            }
            _ => drop(self.scanner.skip()?),
        }
        Ok(Got::Value(Value::Struct(object)))
    }
}
