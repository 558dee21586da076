//! Who may have administrators' access to devices: those who may write in a namespace that says so (KEP-5018). Upstream
//! has it among the rules of claims (`pkg/registry/resource`).

use kinds::Part;
use kinds::field::{Errors, Path};
use schema::{Object, Value};

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Where an object asks for such access, or is newly given it.
fn wanted(attempt: &Attempt<'_>, object: &Object) -> Option<Path> {
    let resource = attempt.resource;
    if resource.group != "resource.k8s.io" {
        return None;
    }
    match (resource.plural.as_str(), attempt.operation) {
        ("resourceclaims", Operation::Create) => asked(object, &["spec", "devices", "requests"]),
        ("resourceclaimtemplates", Operation::Create) => {
            asked(object, &["spec", "spec", "devices", "requests"])
        }
        ("resourceclaims", Operation::Update(Part::Status)) => {
            given(object).filter(|_| attempt.old.is_none_or(|old| given(old).is_none()))
        }
        _ => None,
    }
}

/// Whether it depends on the namespace whether this may be.
pub fn asks(attempt: &Attempt<'_>, object: &Object) -> bool {
    wanted(attempt, object).is_some()
}

/// Refuses claims and templates that ask for such access, and claims that are given it, elsewhere.
///
/// # Errors
/// 422.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let resource = attempt.resource;
    let Some(path) = wanted(attempt, object) else { return Ok(()) };
    let namespace = attempt.read("", "namespaces", attempt.namespace())?;
    if namespace.is_some_and(|namespace| namespace.label(LABEL) == Some("true")) {
        return Ok(());
    }
    let mut errors = Errors::new();
    let why =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    errors.forbidden(&path, why);
    Err(ApiError::invalid(&resource.group, &resource.kind, object.name(), &errors))
}

fn is_admin(object: &Object) -> bool {
    object.bool_at(&["adminAccess"]) == Some(true)
}

fn first(object: &Object, list: &[&str], is: impl Fn(&Object) -> bool) -> Option<usize> {
    let all = object.list_at(list).unwrap_or_default().iter();
    all.map(Value::as_struct).position(|one| one.is_some_and(&is))
}

/// The first request for it; in older versions the request itself says so. Upstream names the same place in templates.
fn asked(object: &Object, requests: &[&str]) -> Option<Path> {
    let is = |request: &Object| is_admin(request.struct_at(&["exactly"]).unwrap_or(request));
    let path = Path::new("spec").child("devices").child("requests");
    first(object, requests, is).map(|at| path.index(at).child("adminAccess"))
}

/// The first device that a claim has so.
fn given(object: &Object) -> Option<Path> {
    let path = Path::new("status").child("allocation").child("devices").child("results");
    let found = first(object, &["status", "allocation", "devices", "results"], is_admin);
    found.map(|at| path.index(at).child("adminAccess"))
}
