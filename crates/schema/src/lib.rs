//! Kubernetes types as data, and everything that follows from the data alone.
//!
//! One catalogue of types, generated from the published Go modules, drives the `Object` tree, the
//! codecs (JSON, YAML, protobuf), the transcoder, patches, selectors, managed fields and OpenAPI.
//! A CustomResourceDefinition becomes the same [`types::Struct`] at run time, so built-in and
//! custom kinds run the same code.
//!
//! This crate is pure: no I/O, no clock, no HTTP. It does not know what a kind means, what its
//! defaults in code are, or who may write it.
//!
//! Invariants: a tree is canonical (equal trees are equal Go values); encoders are byte-equal with
//! upstream's; what cannot be decoded is an error, never an empty value.

pub mod catalogue;
pub mod crd;
pub mod error;
pub mod fields;
pub mod json;
pub mod labels;
pub mod managed;
pub mod map;
mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod serde;
pub mod table;
pub mod time;
pub mod transcode;
pub mod types;
pub mod value;
pub mod yaml;

pub use catalogue::{Catalogue, builtin};
pub use error::DecodeError;
pub use map::Map;
pub use object::Object;
pub use types::{Field, Kind, ListType, Struct, StructRef, Type};
pub use value::Value;
