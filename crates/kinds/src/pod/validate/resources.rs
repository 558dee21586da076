//! Requests, limits and claims of containers and pods.

use std::collections::BTreeSet;

use schema::Object;
use schema::quantity::Quantity;

use super::super::resources;
use super::read::{amount, amounts, has, items, sub, text};
use crate::content;
use crate::field::{At, Errors};

/// Names without a domain that stand for a resource.
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// Those of them that are counted.
const COUNTED: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

pub(crate) fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a name is in the domain of Kubernetes itself.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a name is one that a device plugin or an operator gave a resource.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && content::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of the resource may be promised than there is.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

pub(crate) fn standard_or_qualified(name: &str, at: &At<'_>, errors: &mut Errors) -> bool {
    let problems = content::qualified_name(name);
    if !problems.is_empty() {
        errors.each(at, name, problems);
        return false;
    }
    let known = name.contains('/')
        || STANDARD.contains(&name)
        || is_huge(name)
        || name.starts_with("requests.hugepages-");
    if !known {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    known
}

pub(crate) fn container_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    standard_or_qualified(name, at, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge(name) {
            errors.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

fn pod_name(name: &str, at: &At<'_>, errors: &mut Errors) {
    if standard_or_qualified(name, at, errors) && !resources::pod_level(name) {
        errors.not_supported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// An amount that is not negative, and whole where the resource is counted.
pub(crate) fn quantity(name: &str, value: &Quantity, at: &At<'_>, errors: &mut Errors) {
    if value.sign() < 0 {
        errors.invalid(at, &value.to_string(), "must be greater than or equal to 0");
    }
    if (COUNTED.contains(&name) || is_extended(name)) && !value.is_whole() {
        errors.invalid(at, &value.to_string(), "must be an integer");
    }
}

fn huge_page(name: &str, value: &Quantity, at: &At<'_>, errors: &mut Errors) {
    let size = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
    let fits = size.is_some_and(|size| {
        size.sign() > 0 && size.milli() % 1000 == 0 && value.value().checked_rem(size.value()) == Some(0)
    });
    if !fits {
        let why = format!("{value} is not positive integer multiple of {name}");
        errors.invalid(at, &value.to_string(), why);
    }
}

/// Checks the resources of a container.
pub(super) fn of_container(container: &Object, claims: &BTreeSet<&str>, at: &At<'_>, errors: &mut Errors) {
    if let Some(resources) = sub(container, "resources") {
        requirements(resources, container_name, claims, at, errors);
    }
}

/// Checks `overhead` of a pod.
pub(super) fn overhead(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    overhead_of(spec, "overhead", at, errors);
}

/// Checks an overhead, as if it were the limits of a container.
pub(crate) fn overhead_of(object: &Object, field: &str, parent: &At<'_>, errors: &mut Errors) {
    let at = parent.child("limits");
    for (name, value) in amounts(object, field) {
        let at = at.key(name);
        container_name(name, &at, errors);
        quantity(name, &value, &at, errors);
        if is_huge(name) {
            huge_page(name, &value, &at, errors);
        }
    }
    let (huge, compute): (Vec<_>, Vec<_>) = amounts(object, field).partition(|(name, _)| is_huge(name));
    if !huge.is_empty() && !compute.iter().any(|(name, _)| matches!(*name, "cpu" | "memory")) {
        errors.forbidden(parent, "HugePages require cpu or memory");
    }
}

type NameRule = fn(&str, &At<'_>, &mut Errors);

fn requirements(
    resources: &Object,
    name_rule: NameRule,
    claims: &BTreeSet<&str>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let (limits_at, requests_at) = (at.child("limits"), at.child("requests"));
    let (mut compute, mut huge) = (false, false);
    let mut look = |name: &str, value: &Quantity, at: &At<'_>, errors: &mut Errors| {
        name_rule(name, at, errors);
        quantity(name, value, at, errors);
        huge |= is_huge(name);
        compute |= matches!(name, "cpu" | "memory");
    };
    for (name, value) in amounts(resources, "limits") {
        let at = limits_at.key(name);
        look(name, &value, &at, errors);
        if is_huge(name) {
            huge_page(name, &value, &at, errors);
        }
    }
    for (name, value) in amounts(resources, "requests") {
        let at = requests_at.key(name);
        look(name, &value, &at, errors);
        match amount(resources, "limits", name) {
            Some(limit) if value != limit && !may_overcommit(name) => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&requests_at, &value.to_string(), why);
            }
            Some(limit) if value > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&requests_at, &value.to_string(), why);
            }
            None if !may_overcommit(name) => {
                errors.required(&limits_at, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        if is_huge(name) {
            huge_page(name, &value, &at, errors);
        }
    }
    if huge && !compute {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(resources, claims, &at.child("claims"), errors);
}

/// Every claim that a container uses is one of its pod's, and used once.
fn claim_names(resources: &Object, claims: &BTreeSet<&str>, at: &At<'_>, errors: &mut Errors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in items(resources, "claims").enumerate() {
        let (at, name, request) = (at.index(index), text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.each(&at.child("request"), request, content::label(request));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.duplicate(&at, &key);
            } else if request.is_empty() {
                let parts = seen.iter().filter(|key| key.split_once('/').is_some_and(|(of, _)| of == name));
                for _ in parts {
                    errors.duplicate(&at, name);
                }
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let mut why = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if claims.is_empty() {
                why.push_str(" which is empty");
            } else {
                why.push_str(": ");
                why.push_str(&claims.iter().copied().collect::<Vec<_>>().join(", "));
            }
            errors.not_found_among(&at, name, why);
        }
    }
}

/// Checks the resources of the pod as a whole, and that its containers' fit within (KEP-2837).
pub(super) fn of_pod(spec: &Object, claims: &BTreeSet<&str>, at: &At<'_>, errors: &mut Errors) {
    let Some(pod) = sub(spec, "resources") else { return };
    let at = at.child("resources");
    if spec.str_at(&["os", "name"]) == Some("windows") {
        errors.forbidden(&at, "may not be set for a windows pod");
        return;
    }
    if has(pod, "claims") {
        errors.forbidden(&at.child("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements(pod, pod_name, claims, &at, errors);
    let requests_at = at.child("requests");
    for (name, sum) in resources::container_requests(spec) {
        if let Some(own) = amount(pod, "requests", &name).filter(|own| sum > *own) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&requests_at.key(&name), &own.to_string(), why);
        }
    }
    let limits_at = at.child("limits");
    for (name, sum) in resources::container_limits(spec) {
        if let Some(own) = amount(pod, "limits", &name).filter(|own| is_huge(&name) && sum > *own) {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&limits_at.key(&name), &own.to_string(), why);
        }
    }
    for (index, container) in items(spec, "containers").enumerate() {
        let Some(resources) = sub(container, "resources") else { continue };
        for (name, limit) in amounts(resources, "limits") {
            if let Some(own) = amount(pod, "limits", name).filter(|own| limit > *own) {
                let at = at.child("containers");
                let at = at.index(index);
                let why = format!("must be less than or equal to pod limits of {own}");
                errors.invalid(&at.key(name).child("limits"), &limit.to_string(), why);
            }
        }
    }
}
