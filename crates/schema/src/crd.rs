//! Types from CustomResourceDefinitions.

/// What a schema demands of a value.
#[derive(Debug, Default)]
pub struct Validation {}
