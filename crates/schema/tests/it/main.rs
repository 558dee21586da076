//! Tests against what upstream published: golden files and Go libraries.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail")]

mod generate;
mod golden;
mod oracle;
mod roundtrip;
