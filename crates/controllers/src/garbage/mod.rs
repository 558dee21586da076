//! Deletes what nobody owns any longer (`pkg/controller/garbagecollector`).
//!
//! Every kind that can be listed, watched and deleted is followed by its metadata, custom resources included. It
//! knows nothing of any particular kind.
//!
//! - Nothing is deleted before every informer of the first discovery is in.
//! - The graph alone never condemns an object: an owner counts as gone only when the API server says so.
//! - Every write names the UID and the version that it was decided on, so that a stale copy harms nobody.

pub mod discovery;
pub mod graph;
pub mod plan;
pub mod run;
