//! Errors of a field, with upstream's texts (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

/// Where a field is: `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The place of a field that is only spelt out when something is wrong with it: looking at a whole pod walks
/// hundreds of fields, and builds no text for those that are right.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
    Path(&'a Path),
}

impl<'a> At<'a> {
    /// A top-level field; several, when the name has dots.
    pub fn new(name: &'a str) -> Self {
        Self { parent: None, step: Step::Field(name) }
    }

    /// What a path says.
    pub fn from_path(path: &'a Path) -> Self {
        Self { parent: None, step: Step::Path(path) }
    }

    /// A field of this one; several, one in the other, when the name has dots.
    pub fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of this list.
    pub fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of this map.
    pub fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Field(name) => {
                if !out.is_empty() && !name.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Key(key) => out.push_str(&format!("[{key}]")),
            Step::Path(path) => out.push_str(&path.0),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_path().0)
    }
}

/// Something that says where a field is.
pub trait ToPath {
    /// The path in full.
    fn to_path(&self) -> Path;
}

impl ToPath for Path {
    fn to_path(&self) -> Path {
        self.clone()
    }
}

impl ToPath for At<'_> {
    fn to_path(&self) -> Path {
        let mut text = String::new();
        self.write(&mut text);
        Path(text)
    }
}

/// What is wrong with a field, in the words of `metav1.CauseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// A value that must be unique stands twice.
    Duplicate,
    /// A value that must exist elsewhere does not.
    NotFound,
    /// A value is missing.
    Required,
    /// A value is not one of the few allowed ones.
    NotSupported,
    /// A value is malformed.
    Invalid,
    /// A value may not be set here.
    Forbidden,
    /// A text or list is too long.
    TooLong,
    /// A list has too many items.
    TooMany,
    /// A value has the wrong type.
    TypeInvalid,
    /// Something failed on our side.
    Internal,
}

impl ErrorType {
    /// The cause's reason on the wire.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub path: Path,
    /// What.
    pub kind: ErrorType,
    /// The bad value as upstream prints it (a string in quotes, a number bare); `None` where the message has none.
    pub value: Option<String>,
    /// What would be right.
    pub detail: String,
}

impl Error {
    /// The message without the path: what a Status cause carries.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Everything that is wrong with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(
        &mut self,
        path: &impl ToPath,
        kind: ErrorType,
        value: Option<String>,
        detail: impl Into<String>,
    ) {
        self.0.push(Error { path: path.to_path(), kind, value, detail: detail.into() });
    }

    /// The field must have a value.
    pub fn required(&mut self, path: &impl ToPath, detail: impl Into<String>) {
        self.push(path, ErrorType::Required, None, detail);
    }

    /// The value is malformed.
    pub fn invalid(&mut self, path: &impl ToPath, value: impl Shown, detail: impl Into<String>) {
        self.push(path, ErrorType::Invalid, Some(value.shown()), detail);
    }

    /// What stands there makes no sense as a whole.
    pub fn invalid_whole(&mut self, path: &impl ToPath, detail: impl Into<String>) {
        self.push(path, ErrorType::Invalid, None, detail);
    }

    /// The value stands twice.
    pub fn duplicate(&mut self, path: &impl ToPath, value: impl Shown) {
        self.push(path, ErrorType::Duplicate, Some(value.shown()), "");
    }

    /// The value stands twice, and why it may not.
    pub fn duplicate_because(&mut self, path: &impl ToPath, value: impl Shown, detail: impl Into<String>) {
        self.push(path, ErrorType::Duplicate, Some(value.shown()), detail);
    }

    /// Everything that is wrong with a value, one error each.
    pub fn each(
        &mut self,
        path: &impl ToPath,
        value: &str,
        problems: impl IntoIterator<Item = impl Into<String>>,
    ) {
        for problem in problems {
            self.push(path, ErrorType::Invalid, Some(value.shown()), problem);
        }
    }

    /// What the value names does not exist, and what would.
    pub fn not_found_among(&mut self, path: &impl ToPath, value: impl Shown, detail: impl Into<String>) {
        self.push(path, ErrorType::NotFound, Some(value.shown()), detail);
    }

    /// What the value names does not exist.
    pub fn not_found(&mut self, path: &impl ToPath, value: impl Shown) {
        self.push(path, ErrorType::NotFound, Some(value.shown()), "");
    }

    /// The value may not be set.
    pub fn forbidden(&mut self, path: &impl ToPath, detail: impl Into<String>) {
        self.push(path, ErrorType::Forbidden, None, detail);
    }

    /// It could not be found out whether the value is right.
    pub fn internal(&mut self, path: &impl ToPath, detail: impl Into<String>) {
        self.push(path, ErrorType::Internal, None, detail);
    }

    /// The value is none of `allowed`.
    pub fn not_supported(&mut self, path: &impl ToPath, value: impl Shown, allowed: &[&str]) {
        let mut sorted: Vec<_> = allowed.iter().map(|value| format!("{value:?}")).collect();
        sorted.sort();
        let detail = if sorted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", sorted.join(", "))
        };
        self.push(path, ErrorType::NotSupported, Some(value.shown()), detail);
    }

    /// The value is none of `allowed`, which are told in their own order.
    pub fn not_supported_in_order(&mut self, path: &impl ToPath, value: impl Shown, allowed: &[&str]) {
        let quoted: Vec<_> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.push(path, ErrorType::NotSupported, Some(value.shown()), detail);
    }

    /// The text has more than `max` bytes.
    pub fn too_long(&mut self, path: &impl ToPath, max: usize) {
        self.push(path, ErrorType::TooLong, None, format!("may not be more than {max} bytes"));
    }

    /// The list has more than `max` items.
    pub fn too_many(&mut self, path: &impl ToPath, actual: usize, max: usize) {
        self.push(
            path,
            ErrorType::TooMany,
            Some(actual.to_string()),
            format!("must have at most {max} items"),
        );
    }
}

/// A value as upstream prints it in an error.
pub trait Shown {
    /// Strings in quotes, numbers and booleans bare, anything else as JSON.
    fn shown(&self) -> String;
}

impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for &String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Shown for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

/// JSON text, shown as it is.
pub struct Json(pub String);

impl Shown for Json {
    fn shown(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstreams() {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("containers").index(0);
        errors.required(&path.child("name"), "");
        errors.not_supported(&path.child("imagePullPolicy"), "Sometimes", &["Never", "Always"]);
        errors.invalid(&Path::new("metadata").child("labels").key("a b"), "x", "no spaces");
        let texts: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.containers[0].name: Required value",
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\"",
                "metadata.labels[a b]: Invalid value: \"x\": no spaces",
            ]
        );
    }
}
