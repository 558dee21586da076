//! A checker of concurrent histories: is there an order of all operations on an object, each between its call and its
//! return, in which one server alone, doing one thing at a time, would have given the same answers?
//!
//! `model` says what one server would answer; `search` looks for the order (Wing and Gong, with Lowe's memory of
//! what was tried). Both are pure. Objects are independent of each other, so each has a history of its own.

mod model;
mod search;

pub use model::{Answer, Ask, State};
pub use search::{Operation, check};
