//! Where the decoder is, for its messages. Frames live on the stack and cost nothing until a
//! message is made.

use super::go_struct_name;
use crate::types::{Field, Struct, Type};

/// What is expected, and what Go calls it.
pub(super) struct Target<'a> {
    ty: Expected<'a>,
    /// Go's name where it is not the one that follows from the type.
    go: &'a str,
}

#[derive(Clone, Copy)]
enum Expected<'a> {
    Type(&'a Type),
    Struct(&'a Struct),
}

impl<'a> Target<'a> {
    pub fn of_struct(ty: &'a Struct) -> Self {
        Self { ty: Expected::Struct(ty), go: "" }
    }

    pub fn of_type(ty: &'a Type) -> Self {
        Self { ty: Expected::Type(ty), go: "" }
    }

    pub fn of_field(field: &'a Field) -> Self {
        Self { ty: Expected::Type(&field.ty), go: &field.go_type }
    }

    /// The target of a list's item or a map's value.
    pub fn item<'b>(&'b self, ty: &'b Type) -> Target<'b> {
        let go = self.go.strip_prefix("[]").or_else(|| self.go.strip_prefix("map[string]")).unwrap_or("");
        Target { ty: Expected::Type(ty), go }
    }

    fn go_name(&self) -> String {
        if !self.go.is_empty() {
            return self.go.to_owned();
        }
        match self.ty {
            Expected::Type(ty) => go_type(ty),
            Expected::Struct(ty) => go_struct_name(&ty.name),
        }
    }
}

fn go_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Uint32 => "uint32".into(),
        Type::Uint64 => "uint64".into(),
        Type::Float64 => "float64".into(),
        Type::String | Type::Time | Type::MicroTime | Type::Duration | Type::Quantity => "string".into(),
        Type::IntOrString => "int32".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Raw => "runtime.RawExtension".into(),
        Type::FieldsV1 => "v1.FieldsV1".into(),
        Type::Any => "interface {}".into(),
        Type::Struct(ty) => go_struct_name(&ty.name),
        Type::List(item) => format!("[]{}", go_item(item)),
        Type::Map(item) => format!("map[string]{}", go_item(item)),
    }
}

/// What reads its own text has its own name among others.
fn go_item(ty: &Type) -> String {
    match ty {
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::Duration => "v1.Duration".into(),
        Type::Quantity => "resource.Quantity".into(),
        ty => go_type(ty),
    }
}

enum Part<'a> {
    Root,
    Field(&'a Struct, &'a Field),
    Key(&'a str),
    Index(usize),
    Same,
}

fn push(path: &mut String, text: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(text);
}

pub(super) struct Frame<'a> {
    parent: Option<&'a Frame<'a>>,
    part: Part<'a>,
    pub target: &'a Target<'a>,
}

impl<'a> Frame<'a> {
    pub fn root(target: &'a Target<'a>) -> Self {
        Self { parent: None, part: Part::Root, target }
    }

    fn child<'b>(&'b self, part: Part<'b>, target: &'b Target<'b>) -> Frame<'b> {
        Frame { parent: Some(self), part, target }
    }

    pub fn field<'b>(&'b self, ty: &'b Struct, field: &'b Field, target: &'b Target<'b>) -> Frame<'b> {
        self.child(Part::Field(ty, field), target)
    }

    pub fn key<'b>(&'b self, key: &'b str, target: &'b Target<'b>) -> Frame<'b> {
        self.child(Part::Key(key), target)
    }

    pub fn index<'b>(&'b self, index: usize, target: &'b Target<'b>) -> Frame<'b> {
        self.child(Part::Index(index), target)
    }

    /// The same place, seen as another type.
    pub fn as_target<'b>(&'b self, target: &'b Target<'b>) -> Frame<'b> {
        self.child(Part::Same, target)
    }

    fn frames(&self) -> Vec<&Frame<'_>> {
        let mut frames = Vec::new();
        let mut at = Some(self);
        while let Some(frame) = at {
            frames.push(frame);
            at = frame.parent;
        }
        frames.reverse();
        frames
    }

    /// `spec.containers[0].name`, for strict messages.
    pub fn path_to(&self, name: &str) -> String {
        let mut path = String::new();
        for frame in self.frames() {
            match frame.part {
                Part::Root | Part::Same => {}
                Part::Field(_, field) => push(&mut path, &field.json),
                Part::Key(key) => push(&mut path, key),
                Part::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        push(&mut path, name);
        path
    }

    pub fn wants_number(&self) -> bool {
        matches!(
            self.target.ty,
            Expected::Type(
                Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Float64 | Type::IntOrString
            )
        )
    }

    /// Go's words for a value of the wrong type.
    pub fn type_error(&self, what: &str) -> String {
        let mut owner = None;
        let mut path: Vec<&str> = Vec::new();
        let frames = self.frames();
        for frame in &frames {
            if let Part::Field(ty, field) = frame.part {
                owner = Some(ty);
                if !field.go_embedded.is_empty() {
                    path.push(&field.go_embedded);
                }
                path.push(&field.json);
            }
        }
        let go = self.target.go_name();
        match owner {
            Some(ty) => {
                let owner = ty.name.rsplit('.').next().unwrap_or(&ty.name);
                let path = path.join(".");
                format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {go}")
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
        }
    }
}
