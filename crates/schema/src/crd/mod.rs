//! Types from CustomResourceDefinitions: a structural schema becomes a [`Struct`], which decodes
//! (and so prunes), and whose objects can be defaulted and validated.
//!
//! CEL rules are not looked at here.

mod defaults;
mod formats;
mod parse;
mod props;
mod validate;
mod verdict;

use std::sync::OnceLock;

use crate::types::{Field, Struct, StructRef, Type};
use crate::{builtin, json};

pub use defaults::apply_defaults;
pub use props::Validation;
pub use validate::validate;

/// What is wrong with a field, in the words of field.ErrorType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldErrorKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    TooLong,
    TooMany,
    TypeInvalid,
    Forbidden,
}

/// One thing that is wrong with a custom resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Such as `spec.items[0].name`; empty for the object as a whole.
    pub path: String,
    pub kind: FieldErrorKind,
    /// The value as upstream prints it: a string in quotes, a number bare. None where the message
    /// has none.
    pub value: Option<String>,
    pub detail: String,
}

/// Makes the type of a custom resource. `schema` is the JSON of `openAPIV3Schema`; errors are
/// messages with paths below it.
pub fn structural(schema: &[u8], group: &str, version: &str, kind: &str) -> Result<Struct, Vec<String>> {
    let tree = json::decode_value(&Type::Any, schema).map_err(|e| vec![e.to_string()])?;
    let mut errors = Vec::new();
    let props = props::Props::read(tree.as_ref(), "openAPIV3Schema", &mut errors);
    parse::check_root(&props, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(parse::root(&props, group, version, kind))
}

/// ObjectMeta with its fields by name, as custom resources are written.
pub fn object_meta() -> StructRef {
    static META: OnceLock<StructRef> = OnceLock::new();
    META.get_or_init(|| sorted_builtin("ObjectMeta")).clone()
}

/// ListMeta with its fields by name.
pub fn list_meta() -> StructRef {
    static META: OnceLock<StructRef> = OnceLock::new();
    META.get_or_init(|| sorted_builtin("ListMeta")).clone()
}

fn sorted_builtin(name: &str) -> StructRef {
    let full = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
    match builtin().type_named(&full) {
        Some(ty) => sorted(&ty),
        // The catalogue is part of the program.
        None => Struct::new(full, Vec::new()).into(),
    }
}

/// A type with the fields of all its structs by name. Not for recursive types.
fn sorted(ty: &StructRef) -> StructRef {
    let mut fields: Vec<Field> = ty.fields.clone();
    for field in &mut fields {
        field.ty = sorted_type(&field.ty);
    }
    fields.sort_by(|a, b| a.json.cmp(&b.json));
    let mut made = Struct::new(ty.name.clone(), fields);
    made.atomic = ty.atomic;
    made.form = ty.form;
    made.has_proto = ty.has_proto;
    made.into()
}

fn sorted_type(ty: &Type) -> Type {
    match ty {
        Type::Struct(inner) => Type::Struct(sorted(inner)),
        Type::List(item) => Type::List(Box::new(sorted_type(item))),
        Type::Map(item) => Type::Map(Box::new(sorted_type(item))),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
