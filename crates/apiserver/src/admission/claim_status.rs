//! Who may write which part of a claim's status: who binds claims, what was allocated and for whom; a driver, what it says
//! of its own devices (KEP-4817). Upstream has it among the rules of claims (`pkg/registry/resource`).

use std::collections::{BTreeMap, BTreeSet};

use auth::authorizer::Decision;
use kinds::Part;
use kinds::field::{Errors, Path};
use schema::{Object, Value};

use super::Attempt;
use crate::pipeline::authorize::{attributes, refused};
use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// Asks for the permission that each part needs which is changed.
///
/// # Errors
/// 422.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let resource = attempt.resource;
    let is_status = matches!(attempt.operation, Operation::Update(Part::Status));
    if resource.group != "resource.k8s.io" || resource.plural != "resourceclaims" || !is_status {
        return Ok(());
    }
    let Some(old) = attempt.old else { return Ok(()) };
    let mut errors = Errors::new();
    binding(attempt, object, old, &mut errors);
    // What was said of the devices of a claim that has none goes with them.
    if object.at(&["status", "allocation"]).is_some() {
        devices(attempt, object, old, &mut errors);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&resource.group, &resource.kind, object.name(), &errors))
}

fn binding(attempt: &Attempt<'_>, new: &Object, old: &Object, errors: &mut Errors) {
    let same = |field: &str| new.at(&["status", field]) == old.at(&["status", field]);
    if same("allocation") && same("reservedFor") {
        return;
    }
    let verb = attempt.authorized.info().verb;
    if let Err(why) = ask(attempt, verb, "binding", "", "") {
        errors.forbidden(
            &Path::new("status").child("allocation"),
            format!(
                "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
            ),
        );
    }
}

fn devices(attempt: &Attempt<'_>, new: &Object, old: &Object, errors: &mut Errors) {
    let [associated, arbitrary] = match attempt.authorized.info().verb {
        "patch" => ["associated-node:patch", "arbitrary-node:patch"],
        _ => ["associated-node:update", "arbitrary-node:update"],
    };
    let is_there = node_of(new).is_some_and(|node| runs_on(attempt, node));
    let verbs = if is_there { vec![associated, arbitrary] } else { vec![arbitrary] };
    for driver in changed_drivers(new, old) {
        let namespace = attempt.namespace();
        let mut asked = verbs.iter().map(|verb| ask(attempt, verb, "driver", namespace, driver));
        let Some(Err(why)) = asked.next() else { continue };
        if asked.any(|answer| answer.is_ok()) {
            continue;
        }
        errors.forbidden(
            &Path::new("status").child("devices"),
            format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
                verbs.join(" ")
            ),
        );
    }
}

/// Whether somebody may do this with a part of claims; else why not.
fn ask(
    attempt: &Attempt<'_>,
    verb: &'static str,
    part: &str,
    namespace: &str,
    name: &str,
) -> std::result::Result<(), String> {
    let info = RequestInfo {
        verb,
        subresource: part.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..attempt.authorized.info().clone()
    };
    let user = attempt.authorized.user();
    match attempt.core.authorizer.authorize(&attributes(user, &info)) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(why) | Decision::NoOpinion(why) => Err(refused(user, &info, &why).message),
    }
}

/// The one node that has what was allocated.
fn node_of(claim: &Object) -> Option<&str> {
    let terms = claim.list_at(&["status", "allocation", "nodeSelector", "nodeSelectorTerms"])?;
    let [term] = terms else { return None };
    let term = term.as_struct()?;
    let [field] = term.list_at(&["matchFields"])? else { return None };
    let field = field.as_struct()?;
    let is_name =
        field.str_at(&["key"]) == Some("metadata.name") && field.str_at(&["operator"]) == Some("In");
    let is_alone = term.list_at(&["matchExpressions"]).is_none_or(<[Value]>::is_empty);
    match field.list_at(&["values"])? {
        [node] if is_name && is_alone => node.as_str(),
        _ => None,
    }
}

/// Whether the user is a service account of a pod on a node.
fn runs_on(attempt: &Attempt<'_>, node: &str) -> bool {
    let user = attempt.authorized.user();
    let nodes = user.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
    user.name.starts_with("system:serviceaccount:") && nodes == Some(&[node.to_owned()])
}

/// The drivers of all devices of which something else is said than before.
fn changed_drivers<'o>(new: &'o Object, old: &'o Object) -> BTreeSet<&'o str> {
    fn said(claim: &Object) -> BTreeMap<[&str; 4], &Object> {
        let all = claim.list_at(&["status", "devices"]).unwrap_or_default();
        all.iter()
            .filter_map(Value::as_struct)
            .map(|device| {
                let text = |field: &str| device.str_at(&[field]).unwrap_or_default();
                ([text("driver"), text("pool"), text("device"), text("shareID")], device)
            })
            .collect()
    }
    let (new, old) = (said(new), said(old));
    let differs = |key: &&[&'o str; 4]| new.get(*key) != old.get(*key);
    new.keys().chain(old.keys()).filter(differs).map(|[driver, ..]| *driver).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(status: &str) -> Object {
        let ty = &schema::builtin().kind("resource.k8s.io", "v1", "ResourceClaim").unwrap().ty;
        schema::json::decode(ty, format!("{{\"status\":{status}}}").as_bytes()).unwrap().object
    }

    #[test]
    fn drivers_of_devices_that_are_new_other_or_gone() {
        let old = claim(
            r#"{"devices":[{"driver":"same","pool":"p","device":"d"},{"driver":"gone","pool":"p","device":"d"},
                {"driver":"other","pool":"p","device":"d"}]}"#,
        );
        let new = claim(
            r#"{"devices":[{"driver":"same","pool":"p","device":"d"},{"driver":"new","pool":"p","device":"d"},
                {"driver":"other","pool":"p","device":"d","data":{"a":1}}]}"#,
        );
        assert_eq!(changed_drivers(&new, &old), BTreeSet::from(["gone", "new", "other"]));
    }

    #[test]
    fn a_claim_is_on_a_node_that_alone_has_what_was_allocated() {
        let on = |term: &str| {
            claim(&format!(r#"{{"allocation":{{"nodeSelector":{{"nodeSelectorTerms":[{term}]}}}}}}"#))
        };
        let name = r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]}]}"#;
        assert_eq!(node_of(&on(name)), Some("a"));
        assert_eq!(node_of(&on(&format!("{name},{name}"))), None);
        assert_eq!(
            node_of(&on(r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["a","b"]}]}"#)),
            None
        );
        assert_eq!(node_of(&claim(r#"{"allocation":{}}"#)), None);
    }
}
