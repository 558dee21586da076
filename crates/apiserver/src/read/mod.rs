//! Reads: everything is served from the watch cache, at a revision that is new enough for what was asked.

pub mod get;
pub mod list;
pub mod options;
pub mod select;
pub mod watch;
