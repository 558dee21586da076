//! What a kubelet, a scheduler or a controller may say of a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schema::{Object, Value};

use super::transitions;
use crate::content;
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{has, int, items, list, maybe, sub, text};
use crate::pod::validate::shown;

/// Checks a changed status.
pub(super) fn check(new_pod: &Object, old_pod: &Object, errors: &mut Errors) {
    let made;
    let (new, old) = match (sub(new_pod, "status"), new_pod.item_type("status")) {
        (Some(new), _) => (new, sub(old_pod, "status")),
        (None, Some(ty)) => {
            made = Object::new(ty);
            (&made, sub(old_pod, "status"))
        }
        (None, None) => return,
    };
    let at = At::new("status");
    let empty = Object::new(new.ty().clone());
    let old = old.unwrap_or(&empty);
    let Some(spec) = sub(old_pod, "spec") else { return };
    conditions(new, &at.child("conditions"), errors);
    nominated_node(new, old, spec, &at, errors);
    if let Some(generation) = int(new, "observedGeneration").filter(|generation| *generation < 0) {
        errors.invalid(&at.child("observedGeneration"), generation, "must be a non-negative integer");
    }
    let class = text(new, "qosClass");
    if class != text(old, "qosClass") {
        errors.invalid(&at.child("qosClass"), class, "field is immutable");
    }
    transitions::check(new, old, spec, errors);
    claim_statuses(new, spec, &at, errors);
    extended_claim(new, spec, &at, errors);
    node_claims(new, spec, &at, errors);
    pod_ip(new, &at, errors);
    ips(new, old, "podIPs", errors);
    host_ip(new, &at, errors);
    ips(new, old, "hostIPs", errors);
    for field in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        users(new, spec, field, &at.child(field), errors);
    }
    health(new, spec, &at, errors);
    for field in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        images_of_volumes(new, field, &at.child(field), errors);
    }
}

fn conditions(status: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, condition) in items(status, "conditions").enumerate() {
        let (at, kind) = (at.index(index), text(condition, "type"));
        if let Some(generation) = int(condition, "observedGeneration").filter(|generation| *generation < 0) {
            errors.invalid(&at.child("observedGeneration"), generation, "must be a non-negative integer");
        }
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.each(&at.child("Type"), kind, content::qualified_name(kind));
        }
    }
}

fn nominated_node(new: &Object, old: &Object, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let node = text(new, "nominatedNodeName");
    if node.is_empty() || node == text(old, "nominatedNodeName") {
        return;
    }
    let at = at.child("nominatedNodeName");
    errors.each(&at, node, content::subdomain(node));
    if !text(spec, "nodeName").is_empty() {
        errors.forbidden(&at, "may not be set on pods that are already bound to a node");
    }
}

fn claim_statuses(status: &Object, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("resourceClaimStatuses");
    let mut seen = BTreeSet::new();
    for (index, claim) in items(status, "resourceClaimStatuses").enumerate() {
        let (at, name) = (at.index(index), text(claim, "name"));
        if !items(spec, "resourceClaims").any(|claim| text(claim, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&at.child("name"), name, why);
        }
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if let Some(name) = maybe(claim, "resourceClaimName") {
            errors.each(&at.child("resourceClaimName"), name, content::subdomain(name));
        }
    }
}

fn extended_claim(status: &Object, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(claim) = sub(status, "extendedResourceClaimStatus") else { return };
    let at = at.child("extendedResourceClaimStatus");
    let mappings_at = at.child("requestMappings");
    if items(claim, "requestMappings").next().is_none() {
        errors.required(&mappings_at, "at least one request mapping is required");
    }
    let mut seen = BTreeSet::new();
    for (index, mapping) in items(claim, "requestMappings").enumerate() {
        let here = mappings_at.index(index);
        let [container, resource, request] =
            ["containerName", "resourceName", "requestName"].map(|field| text(mapping, field));
        let found = ["initContainers", "containers"]
            .into_iter()
            .flat_map(|list| items(spec, list))
            .find(|found| text(found, "name") == container);
        match found {
            None => {
                let why =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.invalid(&here.child("containerName"), container, why);
            }
            Some(found) if found.at(&["resources", "requests", resource]).is_none() => {
                let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.invalid(&here.child("resourceName"), resource, why);
            }
            Some(_) => {}
        }
        errors.each(&at.child("requestName"), request, content::label(request));
        if !seen.insert((container, resource, request)) {
            errors.duplicate(&here.child("containerName"), container);
            errors.duplicate(&here.child("resourceName"), resource);
            errors.duplicate(&here.child("requestName"), request);
        }
    }
    match text(claim, "resourceClaimName") {
        "" => errors.required(&at.child("resourceClaimName"), ""),
        name => errors.each(&at.child("resourceClaimName"), name, content::subdomain(name)),
    }
}

fn node_claims(status: &Object, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("nodeAllocatableResourceClaimStatuses");
    for (index, claim) in items(status, "nodeAllocatableResourceClaimStatuses").enumerate() {
        let (at, name) = (at.index(index), text(claim, "resourceClaimName"));
        if name.is_empty() {
            continue;
        }
        let known = items(spec, "resourceClaims")
            .chain(items(status, "resourceClaimStatuses"))
            .any(|claim| maybe(claim, "resourceClaimName") == Some(name));
        if !known {
            errors.invalid(&at.child("resourceClaimName"), name, "no mapping found in pod reference");
        }
    }
}

/// The address of a pod is the first of its addresses.
fn pod_ip(status: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("podIPs");
    let (ip, first) = (text(status, "podIP"), items(status, "podIPs").next());
    match first.map(|first| text(first, "ip")) {
        Some(first) if !ip.is_empty() && first != ip => {
            errors.invalid(&at.index(0).child("ip"), first, "must be equal to `podIP`");
        }
        first if first.is_some() == ip.is_empty() => {
            let shown: Vec<String> = items(status, "podIPs").map(shown::internal).collect();
            let value = if shown.is_empty() { "null".to_owned() } else { format!("[{}]", shown.join(",")) };
            let why = "podIP and podIPs must either both be set or both be unset";
            errors.invalid(&at, Json(value), why);
        }
        _ => {}
    }
}

fn host_ip(status: &Object, at: &At<'_>, errors: &mut Errors) {
    if let Some(first) = items(status, "hostIPs").next() {
        let ip = text(first, "ip");
        if text(status, "hostIP") != ip {
            errors.invalid(&at.child("hostIPs[0].ip"), ip, "must be equal to `hostIP`");
        }
    }
}

/// New addresses are well formed, and at most one of each family.
fn ips(new: &Object, old: &Object, field: &str, errors: &mut Errors) {
    let at = At::new("status");
    let at = at.child(field);
    let all: Vec<&str> = items(new, field).map(|ip| text(ip, "ip")).collect();
    let had = |ip: &str| items(old, field).any(|old| text(old, "ip") == ip);
    for (index, ip) in all.iter().enumerate().filter(|(_, ip)| !had(ip)) {
        errors.each(&at.index(index), ip, content::ip(ip));
    }
    if all.len() < 2 {
        return;
    }
    if let Some((index, ip)) = all.iter().enumerate().find(|(_, ip)| ip.parse::<IpAddr>().is_err()) {
        let why = format!("failed to check for dual stack with error:invalid IP[{index}]: {ip}");
        errors.internal(&at, why);
    }
    let families: BTreeSet<bool> =
        all.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.is_ipv4()).collect();
    if families.len() != 2 || all.len() > 2 {
        let shown: Vec<String> = items(new, field).map(shown::internal).collect();
        let why = "may specify no more than one IP for each IP family";
        errors.invalid(&at, Json(format!("[{}]", shown.join(","))), why);
    }
}

fn users(status: &Object, spec: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    let windows = spec.str_at(&["os", "name"]) == Some("windows");
    for (index, container) in items(status, field).enumerate() {
        let Some(user) = container.struct_at(&["user", "linux"]) else { continue };
        let at = at.index(index);
        let at = at.child("user.linux");
        if windows {
            errors.forbidden(&at, "cannot be set for a windows pod");
            continue;
        }
        for field in ["uid", "gid"] {
            let id = int(user, field).unwrap_or_default();
            for problem in content::id(id) {
                errors.invalid(&at.child(field), id, problem);
            }
        }
        let groups_at = at.child("supplementalGroups");
        for (index, group) in list(user, "supplementalGroups").iter().filter_map(Value::as_int).enumerate() {
            for problem in content::id(group) {
                errors.invalid(&groups_at.index(index), group, problem);
            }
        }
    }
}

/// The most bytes of the name of an image that a volume is.
const IMAGE_BYTES: usize = 256;

/// Which images volumes are (KEP-5365). The path has upstream's name for the field, which is not that of the API.
fn images_of_volumes(status: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    for (index, container) in items(status, field).enumerate() {
        let at = at.index(index);
        let at = at.child("volumeMounts");
        for (index, mount) in items(container, "volumeMounts").enumerate() {
            let Some(image) = mount.struct_at(&["volumeStatus", "image"]) else { continue };
            let (at, image) = (at.index(index), text(image, "imageRef"));
            let at = at.child("volumeStatus.imageVolumeStatus.imageRef");
            if image.is_empty() {
                errors.required(&at, "imageRef must not be empty");
            }
            if image.len() > IMAGE_BYTES {
                errors.too_long(&at, IMAGE_BYTES);
            }
        }
    }
}

/// The health of devices is told of resources that the container has (KEP-4680).
fn health(status: &Object, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for (field, containers) in
        [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
    {
        let at = at.child(field);
        for (index, container) in items(status, field).enumerate() {
            let at = at.index(index);
            let at = at.child("allocatedResourcesStatus");
            let name = text(container, "name");
            let found = items(spec, containers).find(|found| text(found, "name") == name);
            for (index, resource) in items(container, "allocatedResourcesStatus").enumerate() {
                let at = at.index(index);
                if let Some(found) = found {
                    known_resource(text(resource, "name"), found, status, &at, errors);
                }
                healths(resource, &at.child("resources"), errors);
            }
        }
    }
    let at = at.child("ephemeralContainerStatuses");
    for (index, container) in items(status, "ephemeralContainerStatuses").enumerate() {
        if !list(container, "allocatedResourcesStatus").is_empty() {
            let why = "must not be specified in container status";
            errors.forbidden(&at.index(index).child("allocatedResourcesStatus"), why);
        }
    }
}

/// Whether a claim was made for an extended resource that the container asks for (KEP-5004).
fn extended(claim: &str, container: &Object, status: &Object) -> bool {
    let Some((claim, request)) = claim.split_once('/') else { return false };
    let Some(made) = sub(status, "extendedResourceClaimStatus") else { return false };
    text(made, "resourceClaimName") == claim
        && items(made, "requestMappings").any(|mapping| {
            let resource = text(mapping, "resourceName");
            text(mapping, "containerName") == text(container, "name")
                && text(mapping, "requestName") == request
                && container.str_at(&["resources", "requests", resource]).is_some_and(|amount| amount != "0")
        })
}

fn known_resource(name: &str, container: &Object, status: &Object, at: &At<'_>, errors: &mut Errors) {
    let resources = sub(container, "resources");
    let (known, why) = match name.strip_prefix("claim:") {
        Some(claim) => {
            let mut claims = resources.into_iter().flat_map(|resources| items(resources, "claims"));
            let known = claims.any(|own| match text(own, "request") {
                "" => text(own, "name") == claim,
                request => claim.split_once('/') == Some((text(own, "name"), request)),
            });
            (
                known || extended(claim, container, status),
                "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty",
            )
        }
        None => {
            let known = container.at(&["resources", "requests", name]).is_some();
            (known, "must match one of the container's resource requests")
        }
    };
    if !known {
        errors.invalid(&at.child("name"), name, why);
    }
}

fn healths(resource: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, device) in items(resource, "resources").enumerate() {
        let (at, health) = (at.index(index), text(device, "health"));
        const HEALTHS: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
        if !HEALTHS.contains(&health) {
            errors.not_supported(&at.child("health"), health, &HEALTHS);
        }
        match maybe(device, "message") {
            Some("") => errors.required(&at.child("message"), "must be non-empty if specified"),
            Some(message) if message.len() > 1024 => errors.too_long(&at.child("message"), 1024),
            _ => {}
        }
        if has(device, "resourceID") && !seen.insert(text(device, "resourceID")) {
            errors.duplicate(&at.child("resourceID"), text(device, "resourceID"));
        }
    }
}
