//! Protobuf, byte-equal with what upstream's generated code writes: every field that is not a
//! pointer is written, in the order of field numbers, maps by key. Fields that are not known are
//! dropped when read.

mod decode;
mod empty;
mod encode;
mod envelope;
mod list;
pub(crate) mod message;
pub(crate) mod wire;

pub use decode::decode;
pub use empty::forget_empty;
pub use encode::encode;
pub use envelope::{MAGIC, Unknown, unwrap, wrap};
pub use list::{encode_list, encode_watch_event, splice_resource_version};

#[cfg(test)]
mod tests;
