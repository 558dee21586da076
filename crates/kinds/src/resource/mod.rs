//! Dynamic resources (KEP-4381): claims and their templates, classes of devices, what drivers publish, and rules that
//! taint devices.
//!
//! `parts` has the rules of what several of them are made of; upstream's are in `pkg/apis/resource/validation`.

mod claim;
mod class;
mod device;
mod parts;
mod policy;
mod slice;
mod status;
mod taint;

pub(crate) use claim::{CLAIM, TEMPLATE};
pub(crate) use class::CLASS;
pub(crate) use parts::driver as driver_name;
pub(crate) use slice::SLICE;
pub(crate) use status::conditions;
pub(crate) use taint::RULE;

#[cfg(test)]
mod tests;
