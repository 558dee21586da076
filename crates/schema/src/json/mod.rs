//! JSON, as Kubernetes reads and writes it: names are case-sensitive, whole numbers stay whole in
//! untyped values, and errors are worded as Go words them.

mod decode;
pub(crate) mod encode;
mod meta;
pub(crate) mod scan;
pub(crate) mod write;

use crate::Object;

pub use decode::{decode, decode_value};
pub(crate) use decode::{decode_custom, decode_strict};
pub use encode::{encode, encode_into, encode_pretty, encode_value};
pub use meta::{TypeMeta, peek_type_meta};
pub use write::{compact, indent};

/// A decoded object, and what a strict reader would have refused.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub object: Object,
    /// Upstream's strict messages: `unknown field "spec.foo"`, `duplicate field "spec.x"`.
    pub strict: Vec<String>,
}

#[cfg(test)]
mod tests;
