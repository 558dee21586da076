//! What the author of a pod or a template should know although nothing is wrong (`pkg/api/pod/warnings.go`).

mod container;
mod overlaps;
mod ports;

use std::collections::BTreeSet;
use std::net::IpAddr;

use schema::{Object, Value};

use super::strategy::app_armor_profile;
use super::validate::annotations::{APP_ARMOR, SECCOMP, SECCOMP_POD};
use super::validate::read::{amount, containers, has, int, items, list, sub, text, texts};
use crate::content;
use crate::field::{At, Path};
use crate::rules::Part;

/// Warnings so far, and where their fields are.
struct Warnings {
    all: Vec<String>,
}

impl Warnings {
    fn push(&mut self, at: &At<'_>, what: impl std::fmt::Display) {
        self.all.push(format!("{at}: {what}"));
    }
}

/// Warnings about a new pod, or of a changed status; other changes are too frequent to be looked at.
pub(super) fn of_pod(pod: &Object, old: Option<&Object>, part: Part) -> Vec<String> {
    let mut warnings = Warnings { all: Vec::new() };
    if old.is_some() {
        if part == Part::Status {
            status_ips(pod, &mut warnings);
        }
        return warnings.all;
    }
    let name = content::label(pod.name());
    if !name.is_empty() {
        let list = name.join(" ");
        let why = format!(
            "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{list}]"
        );
        warnings.push(&At::new("metadata.name"), why);
    }
    let root = At::new("");
    app_armor_annotations(pod, None, &root, &mut warnings);
    spec_and_meta(pod, &root, false, &mut warnings);
    warnings.all
}

/// Warnings about a pod template.
pub fn of_template(template: &Object, path: &Path) -> Vec<String> {
    let mut warnings = Warnings { all: Vec::new() };
    spec_and_meta(template, &At::from_path(path), true, &mut warnings);
    warnings.all
}

fn status_ips(pod: &Object, warnings: &mut Warnings) {
    let Some(status) = sub(pod, "status") else { return };
    for field in ["podIPs", "hostIPs"] {
        let at = At::new("status");
        let at = at.child(field);
        for (index, ip) in items(status, field).enumerate() {
            let at = at.index(index);
            address(text(ip, "ip"), &at.child("ip"), warnings);
        }
    }
}

/// Addresses that are right and written otherwise than most would.
fn address(ip: &str, at: &At<'_>, warnings: &mut Warnings) {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                warnings.push(at, format!("non-standard IP address {ip:?} is invalid: use \"{v4}\""));
            }
            None if v6.to_string() != ip => {
                let why = format!("IPv6 address {ip:?} should be in RFC 5952 canonical format (\"{v6}\")");
                warnings.push(at, why);
            }
            None => {}
        },
        Ok(IpAddr::V4(_)) => {}
        Err(_) => {
            // Octets with zeros in front, which older clusters took.
            let octets: Vec<Option<u8>> = ip.split('.').map(|part| part.parse().ok()).collect();
            if let [Some(a), Some(b), Some(c), Some(d)] = octets.as_slice() {
                let why = format!("non-standard IP address {ip:?} is invalid: use \"{a}.{b}.{c}.{d}\"");
                warnings.push(at, why);
            }
        }
    }
}

fn spec_and_meta(subject: &Object, root: &At<'_>, is_template: bool, warnings: &mut Warnings) {
    let Some(spec) = sub(subject, "spec") else { return };
    let (at, annotations_at) = (root.child("spec"), root.child("metadata.annotations"));
    node_labels(spec, &at, warnings);
    spreading(spec, &at, warnings);
    annotations(subject, &annotations_at, warnings);
    volumes(spec, &at, warnings);
    overlaps::check(spec, warnings);
    duplicates(spec, &at, warnings);
    let overhead_at = at.child("overhead");
    for name in ["memory", "ephemeral-storage"] {
        fraction(spec, "overhead", name, &overhead_at, warnings);
    }
    if spec.at(&["securityContext", "seccompProfile"]).is_none() && subject.annotation(SECCOMP_POD).is_some()
    {
        let why = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        warnings.push(&annotations_at.key(SECCOMP_POD), why);
    }
    for (field, index, one) in containers(spec) {
        seccomp_annotation(subject, one, &annotations_at, warnings);
        if is_template {
            app_armor_annotations(subject, Some(one), root, warnings);
        }
        let at = at.child(field);
        container::check(one, &at.index(index), warnings);
    }
    ports::check(spec, &at, warnings);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        warnings.push(&at.child("terminationGracePeriodSeconds"), why);
    }
    affinity(spec, &at, warnings);
    if let Some(config) = sub(spec, "dnsConfig") {
        let at = at.child("dnsConfig.nameservers");
        for (index, server) in texts(config, "nameservers").enumerate() {
            address(server, &at.index(index), warnings);
        }
    }
    let aliases_at = at.child("hostAliases");
    for (index, alias) in items(spec, "hostAliases").enumerate() {
        address(text(alias, "ip"), &aliases_at.index(index).child("ip"), warnings);
    }
}

fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// Labels of nodes that are no longer, wherever a pod asks for them.
fn node_labels(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    for (key, _) in super::validate::read::entries(spec, "nodeSelector") {
        if let Some(why) = deprecated_label(key) {
            warnings.push(&at.child("nodeSelector").key(key), why);
        }
    }
    let Some(node) = spec.struct_at(&["affinity", "nodeAffinity"]) else { return };
    let at = at.child("affinity.nodeAffinity");
    if let Some(required) = sub(node, "requiredDuringSchedulingIgnoredDuringExecution") {
        let at = at.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        for (index, term) in items(required, "nodeSelectorTerms").enumerate() {
            node_term(term, false, &at.index(index), warnings);
        }
    }
    let field = "preferredDuringSchedulingIgnoredDuringExecution";
    let at = at.child(field);
    for (index, term) in items(node, field).enumerate() {
        if let Some(preference) = sub(term, "preference") {
            node_term(preference, true, &at.index(index).child("preference"), warnings);
        }
    }
}

fn node_term(term: &Object, values: bool, at: &At<'_>, warnings: &mut Warnings) {
    let at = at.child("matchExpressions");
    for (index, expression) in items(term, "matchExpressions").enumerate() {
        let (at, key) = (at.index(index), text(expression, "key"));
        if let Some(why) = deprecated_label(key) {
            warnings.push(&at.child("key"), format!("{key} is {why}"));
        }
        let values_at = at.child("values");
        for (index, value) in texts(expression, "values").enumerate().filter(|_| values) {
            for why in content::label_value(value) {
                warnings.push(&values_at.index(index), format!("{value} is invalid, {why}"));
            }
        }
    }
}

const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";

fn spreading(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    let at = at.child("topologySpreadConstraints");
    for (index, constraint) in items(spec, "topologySpreadConstraints").enumerate() {
        let (at, key) = (at.index(index), text(constraint, "topologyKey"));
        if let Some(why) = deprecated_label(key) {
            warnings.push(&at.child("topologyKey"), format!("{key} is {why}"));
        }
        if !has(constraint, "labelSelector") {
            warnings.push(&at.child("labelSelector"), NULL_SELECTOR);
        }
    }
}

fn affinity(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    let Some(affinity) = sub(spec, "affinity") else { return };
    let at = at.child("affinity");
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = sub(affinity, field) else { continue };
        let at = at.child(field);
        for (field, inner) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm"),
        ] {
            let at = at.child(field);
            for (index, term) in items(pods, field).enumerate() {
                let term = if inner.is_empty() { Some(term) } else { sub(term, inner) };
                if term.is_none_or(|term| !has(term, "labelSelector")) {
                    let at = at.index(index);
                    warnings.push(&at.child(inner).child("labelSelector"), NULL_SELECTOR);
                }
            }
        }
    }
}

fn annotations(subject: &Object, at: &At<'_>, warnings: &mut Warnings) {
    const SYSCTLS: &str = "non-functional in v1.11+; use the \"sysctls\" field instead";
    for (key, why) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        ("security.alpha.kubernetes.io/sysctls", SYSCTLS),
        ("security.alpha.kubernetes.io/unsafe-sysctls", SYSCTLS),
    ] {
        if subject.annotation(key).is_some() {
            warnings.push(&at.key(key), why);
        }
    }
}

fn seccomp_annotation(subject: &Object, container: &Object, at: &At<'_>, warnings: &mut Warnings) {
    if subject.annotations().is_none() || container.at(&["securityContext", "seccompProfile"]).is_some() {
        return;
    }
    let key = format!("{SECCOMP}{}", text(container, "name"));
    if subject.annotation(&key).is_some() {
        let why = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        warnings.push(&at.key(&key), why);
    }
}

/// Annotations that have become a field: of one container of a template, or of all of a pod (where the server has
/// set the field by now).
fn app_armor_annotations(subject: &Object, one: Option<&Object>, root: &At<'_>, warnings: &mut Warnings) {
    let Some(spec) = sub(subject, "spec").filter(|_| subject.annotations().is_some()) else { return };
    let pod_profile = spec.struct_at(&["securityContext", "appArmorProfile"]);
    let mut check = |container: &Object| {
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        let Some(annotation) = subject.annotation(&key) else { return };
        let own = container.struct_at(&["securityContext", "appArmorProfile"]);
        let ty =
            spec.item_type("securityContext").and_then(|ty| Object::new(ty).item_type("appArmorProfile"));
        let meant = ty.and_then(|ty| app_armor_profile(annotation, &ty));
        // Of a pod the field may have come from the annotation, which cannot be told any more: it is warned of
        // either way, unless the pod's own profile says the same.
        let warn = match one {
            Some(_) => own.is_none() && (pod_profile.is_none() || meant.as_ref() != pod_profile),
            None => meant.is_none() && own.is_none() || meant.is_some() && own == meant.as_ref(),
        };
        if warn {
            let at = root.child("metadata.annotations");
            let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warnings.push(&at.key(&key), why);
        }
    };
    match one {
        Some(container) => check(container),
        None => containers(spec).for_each(|(.., container)| check(container)),
    }
}

fn volumes(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    // The last name is the one that upstream tells, which differs for one of them.
    const GONE: [(&str, &str, &str); 9] = [
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+", "photonPersistentDisk"),
        ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+", "gitRepo"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+", "scaleIO"),
        ("flocker", "deprecated in v1.22, non-functional in v1.25+", "flocker"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+", "storageOS"),
        ("quobyte", "deprecated in v1.22, non-functional in v1.25+", "quobyte"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+", "glusterfs"),
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+", "cephfs"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+", "rbd"),
    ];
    let at = at.child("volumes");
    for (index, volume) in items(spec, "volumes").enumerate() {
        let at = at.index(index);
        for (field, why, shown) in GONE {
            if has(volume, field) {
                warnings.push(&at.child(shown), why);
            }
        }
        if let Some(claim) = volume.struct_at(&["ephemeral", "volumeClaimTemplate", "spec", "resources"]) {
            fractions(claim, &at.child("ephemeral.volumeClaimTemplate.spec.resources"), warnings);
        }
    }
}

fn fractions(resources: &Object, at: &At<'_>, warnings: &mut Warnings) {
    for field in ["requests", "limits"] {
        fraction(resources, field, "storage", &at.child(field), warnings);
    }
}

/// Warnings about the specification of a claim.
pub(crate) fn of_claim(spec: Option<&Object>) -> Vec<String> {
    let mut warnings = Warnings { all: Vec::new() };
    if let Some(resources) = spec.and_then(|spec| sub(spec, "resources")) {
        fractions(resources, &At::new("spec.resources"), &mut warnings);
    }
    warnings.all
}

/// Warnings about a node selector of anything else than a pod.
pub(crate) fn of_node_selector(selector: &Object, at: &str) -> Vec<String> {
    let mut warnings = Warnings { all: Vec::new() };
    let at = At::new(at);
    let at = at.child("nodeSelectorTerms");
    for (index, term) in items(selector, "nodeSelectorTerms").enumerate() {
        node_term(term, false, &at.index(index), &mut warnings);
    }
    warnings.all
}

/// A part of a byte, which nobody can have.
fn fraction(resources: &Object, field: &str, name: &str, at: &At<'_>, warnings: &mut Warnings) {
    if let Some(value) = amount(resources, field, name).filter(|value| !value.is_whole()) {
        let why = format!("fractional byte value \"{value}\" is invalid, must be an integer");
        warnings.push(&at.key(name), why);
    }
}

fn duplicates(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    for (field, key, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let at = at.child(field);
        let mut seen = BTreeSet::new();
        for (index, item) in items(spec, field).enumerate() {
            let value = text(item, key);
            if !seen.insert(value) {
                warnings.push(&at.index(index).child(key), format!("duplicate {what} {value:?}"));
            }
        }
    }
    let at = at.child("imagePullSecrets");
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if secret.child("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            warnings.push(&at.index(index).child("name"), "invalid empty name \"\"");
        }
    }
}
