//! Empties a namespace that is being deleted, and then lets it go.

pub mod run;
