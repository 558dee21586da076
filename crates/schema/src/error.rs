//! Why bytes could not be read.

/// Bytes that are not what their content type and kind promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not JSON at all, as Go words it.
    #[error("{message}")]
    Syntax { message: String, offset: usize },
    /// JSON of another shape than the type's, as Go words it.
    #[error("{0}")]
    Type(String),
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
    /// Broken protobuf.
    #[error("proto: {message} (at byte {offset})")]
    Protobuf { message: String, offset: usize },
    /// A type that has no protobuf form.
    #[error(
        "object {0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NoProtobuf(String),
    /// What a serde type said about the value.
    #[error("{0}")]
    Serde(String),
}

impl ::serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Serde(message.to_string())
    }
}

impl ::serde::ser::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Serde(message.to_string())
    }
}
