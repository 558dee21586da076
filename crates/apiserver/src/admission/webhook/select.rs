//! Which webhooks want to be asked, by their rules and selectors.

use std::sync::Arc;
use std::time::Duration;

use schema::labels::Selector;
use schema::{Object, Value};

use super::{Attempt, OWN_GROUP};
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// A webhook that is to be asked.
pub(super) struct Hook {
    pub name: String,
    pub fail_open: bool,
    pub timeout: Duration,
    pub ca_bundle: Vec<u8>,
    pub target: Target,
    /// Whether it does more than look, even in a dry run.
    pub has_side_effects: bool,
    /// The first version of AdmissionReview that it reads and we write.
    pub review_version: Option<&'static str>,
    /// The resource that its rules are about: the request's, or another version of it.
    pub resource: Arc<Resource>,
}

pub(super) enum Target {
    Url(String),
    Service { namespace: String, name: String, path: String, port: i64 },
}

/// The webhooks that match, in the order of their configurations' names.
pub(super) fn matching(attempt: &Attempt<'_>, object: Option<&Object>) -> Result<Vec<Hook>> {
    let registry = attempt.core.registry();
    let Some(resource) = registry.preferred(OWN_GROUP, "validatingwebhookconfigurations") else {
        return Ok(Vec::new());
    };
    let (codec, cache) = attempt.core.codec(resource)?;
    let mut hooks = Vec::new();
    for entry in cache.list("").1 {
        let configuration = codec.object(&entry).map_err(ApiError::internal)?;
        let webhooks = configuration.list_at(&["webhooks"]).unwrap_or_default();
        for hook in webhooks.iter().filter_map(Value::as_struct) {
            let Some(resource) = matched_as(attempt, hook) else { continue };
            if labels_match(attempt, hook, object)? && namespace_matches(attempt, hook, object)? {
                hooks.push(read(hook, resource));
            }
        }
    }
    Ok(hooks)
}

/// The resource that one of the hook's rules names: the request's own or, unless only exact matches count, the same
/// objects in another group or version.
fn matched_as(attempt: &Attempt<'_>, hook: &Object) -> Option<Arc<Resource>> {
    let rules = hook.list_at(&["rules"]).unwrap_or_default();
    let any_rule = |resource: &Resource| {
        rules.iter().filter_map(Value::as_struct).any(|rule| rule_matches(attempt, rule, resource))
    };
    if any_rule(attempt.resource) {
        return Some(attempt.resource.clone());
    }
    if hook.str_at(&["matchPolicy"]) == Some("Exact") {
        return None;
    }
    let place = |resource: &Resource| resource.stored.as_ref().map(|(storage, _)| storage.prefix.clone());
    let own = place(attempt.resource)?;
    let sub = &attempt.authorized.info().subresource;
    let registry = attempt.core.registry();
    let mut others = registry.all().filter(|other| place(other).as_ref() == Some(&own));
    others.find(|other| (sub.is_empty() || other.sub(sub).is_some()) && any_rule(other)).cloned()
}

fn strings<'o>(object: &'o Object, field: &str) -> Vec<&'o str> {
    object.list_at(&[field]).unwrap_or_default().iter().filter_map(Value::as_str).collect()
}

fn rule_matches(attempt: &Attempt<'_>, rule: &Object, resource: &Resource) -> bool {
    let any =
        |field: &str, value: &str| strings(rule, field).iter().any(|&known| known == "*" || known == value);
    let info = attempt.authorized.info();
    let resource_matches = strings(rule, "resources").iter().any(|&known| {
        let (name, sub) = known.split_once('/').unwrap_or((known, ""));
        (name == "*" || name == resource.plural) && (sub == "*" || sub == info.subresource)
    });
    let scope = match rule.str_at(&["scope"]).unwrap_or("*") {
        "Cluster" => !resource.namespaced,
        "Namespaced" => resource.namespaced,
        _ => true,
    };
    scope
        && resource_matches
        && any("operations", attempt.operation.name())
        && any("apiGroups", &resource.group)
        && any("apiVersions", &resource.version)
}

fn selector(hook: &Object, field: &str) -> Result<Selector> {
    // An empty one and none at all select everything.
    match hook.struct_at(&[field]) {
        None => Ok(Selector::default()),
        some => Selector::from_label_selector(some).map_err(ApiError::internal),
    }
}

fn labels_match(attempt: &Attempt<'_>, hook: &Object, object: Option<&Object>) -> Result<bool> {
    let selector = selector(hook, "objectSelector")?;
    let selects =
        |object: Option<&Object>| object.is_some_and(|object| selector.matches(|key| object.label(key)));
    Ok(selector.is_everything() || selects(object) || selects(attempt.old))
}

fn namespace_matches(attempt: &Attempt<'_>, hook: &Object, object: Option<&Object>) -> Result<bool> {
    let selector = selector(hook, "namespaceSelector")?;
    if selector.is_everything() {
        return Ok(true);
    }
    // A Namespace that is written is selected by the labels that it is to have.
    if attempt.is_core("namespaces") && !attempt.is_sub() && attempt.operation != Operation::Delete {
        return Ok(object.is_some_and(|object| selector.matches(|key| object.label(key))));
    }
    let namespace = attempt.namespace();
    if namespace.is_empty() {
        return Ok(true);
    }
    let found = attempt.find("", "namespaces", namespace);
    let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
    Ok(selector.matches(|key| found.label(key)))
}

fn read(hook: &Object, resource: Arc<Resource>) -> Hook {
    let text = |path: &[&str]| hook.str_at(path).unwrap_or_default().to_owned();
    let target = match hook.str_at(&["clientConfig", "url"]) {
        Some(url) => Target::Url(url.to_owned()),
        None => Target::Service {
            namespace: text(&["clientConfig", "service", "namespace"]),
            name: text(&["clientConfig", "service", "name"]),
            path: text(&["clientConfig", "service", "path"]),
            port: hook.int_at(&["clientConfig", "service", "port"]).unwrap_or(443),
        },
    };
    let ca_bundle = hook.at(&["clientConfig", "caBundle"]).and_then(Value::as_bytes);
    let seconds = hook.int_at(&["timeoutSeconds"]).filter(|&seconds| seconds > 0).unwrap_or(10);
    let review_version = strings(hook, "admissionReviewVersions").iter().find_map(|&known| match known {
        "v1" => Some("admission.k8s.io/v1"),
        "v1beta1" => Some("admission.k8s.io/v1beta1"),
        _ => None,
    });
    Hook {
        name: text(&["name"]),
        fail_open: hook.str_at(&["failurePolicy"]) == Some("Ignore"),
        timeout: Duration::from_secs(seconds.unsigned_abs()),
        ca_bundle: ca_bundle.map(|bytes| bytes.to_vec()).unwrap_or_default(),
        target,
        has_side_effects: !matches!(hook.str_at(&["sideEffects"]), Some("None" | "NoneOnDryRun")),
        review_version,
        resource,
    }
}
