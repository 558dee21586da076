//! Nobody grants what they do not hold, by a role or by a binding, unless they may `escalate` or `bind`
//! (`pkg/registry/rbac/*/policybased`).

use auth::authorizer::{Attributes, Decision, Rule};
use auth::rbac::{escalation_message, rules_cover};
use schema::{Object, Value};

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that grant more than the user holds.
///
/// # Errors
/// 403; 404 for a binding to a role that is not there, which nobody can compare.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let resource = attempt.resource;
    if resource.group != GROUP || attempt.operation == Operation::Delete {
        return Ok(());
    }
    let masters = attempt.authorized.user().groups.iter().any(|group| group == "system:masters");
    if masters || attempt.old.is_some_and(|old| bare(old) == bare(object)) {
        return Ok(());
    }
    match resource.plural.as_str() {
        "roles" | "clusterroles" => role(attempt, object),
        "rolebindings" | "clusterrolebindings" => binding(attempt, object),
        _ => Ok(()),
    }
}

/// An object without what the garbage collector changes, which grants nothing.
fn bare(object: &Object) -> Object {
    let mut bare = object.clone();
    for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
        bare.metadata_mut().remove(field);
    }
    bare
}

fn role(attempt: &Attempt<'_>, role: &Object) -> Result<()> {
    let (plural, name) = (attempt.resource.plural.as_str(), attempt.authorized.info().name.as_str());
    if may(attempt, "escalate", plural, name) {
        return Ok(());
    }
    confirm(attempt, role, &rules(role))?;
    if role.get("aggregationRule").is_none() {
        return Ok(());
    }
    let all = || vec!["*".to_owned()];
    let everything = [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ];
    confirm(attempt, role, &everything)
        .map_err(|_| refuse(attempt, role, "must have cluster-admin privileges to use the aggregationRule"))
}

fn binding(attempt: &Attempt<'_>, binding: &Object) -> Result<()> {
    let part = |field: &str| binding.str_at(&["roleRef", field]).unwrap_or_default();
    let (plural, key) = match part("kind") {
        "ClusterRole" => ("clusterroles", part("name").to_owned()),
        "Role" => ("roles", format!("{}/{}", attempt.namespace(), part("name"))),
        // What validation refuses with better words.
        _ => return Ok(()),
    };
    if may(attempt, "bind", plural, part("name")) {
        return Ok(());
    }
    let role = attempt.read(GROUP, plural, &key)?;
    let role = role.ok_or_else(|| ApiError::not_found(GROUP, plural, part("name")))?;
    confirm(attempt, binding, &rules(&role))
}

fn may(attempt: &Attempt<'_>, verb: &str, plural: &str, name: &str) -> bool {
    let decision = attempt.core.authorizer.authorize(&Attributes {
        user: attempt.authorized.user(),
        verb,
        api_group: GROUP,
        api_version: "*",
        resource: plural,
        subresource: "",
        name,
        namespace: attempt.namespace(),
        path: "",
        is_resource: true,
    });
    matches!(decision, Decision::Allow(_))
}

fn confirm(attempt: &Attempt<'_>, object: &Object, wanted: &[Rule]) -> Result<()> {
    let user = attempt.authorized.user();
    let held = attempt.core.authorizer.rules_for(user, attempt.namespace());
    let missing = rules_cover(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    Err(refuse(attempt, object, &escalation_message(user, &missing)))
}

fn refuse(attempt: &Attempt<'_>, object: &Object, why: &str) -> ApiError {
    ApiError::forbidden(GROUP, &attempt.resource.plural, object.name(), why)
}

fn rules(role: &Object) -> Vec<Rule> {
    let list = role.list_at(&["rules"]).unwrap_or_default();
    list.iter().filter_map(Value::as_struct).map(rule).collect()
}

fn rule(rule: &Object) -> Rule {
    let texts = |field: &str| -> Vec<String> {
        let list = rule.list_at(&[field]).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Rule {
        verbs: texts("verbs"),
        api_groups: texts("apiGroups"),
        resources: texts("resources"),
        resource_names: texts("resourceNames"),
        non_resource_urls: texts("nonResourceURLs"),
    }
}
