//! Tests against what upstream published: golden files and Go libraries.

mod golden;
