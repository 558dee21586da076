//! Paths inside volumes.

use crate::field::{At, Errors};

/// No element of the path leads upwards.
pub(crate) fn no_backsteps(path: &str, at: &At<'_>, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid(at, path, "must not contain '..'");
    }
}

/// The path is relative and stays below where it starts.
pub(super) fn descending(path: &str, at: &At<'_>, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errors);
}

/// As [`descending`], and free of what volumes keep for themselves: names that begin with two dots.
pub(super) fn not_reserved(path: &str, at: &At<'_>, errors: &mut Errors) {
    descending(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}
