//! What must be done so that a default role or binding is there: missing parts are added, what somebody
//! added stays, and an object with `autoupdate: "false"` is left alone. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::covers::rules_cover;
use super::policy::AUTOUPDATE;
use crate::authorizer::Rule;

/// What must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Reconcile<T> {
    /// It is as it should be, or wants to be left alone.
    Nothing,
    /// It is missing.
    Create(T),
    /// It lacks something.
    Update(T),
    /// It binds another role, which no update can change: delete it, then create this.
    Recreate(T),
}

fn merge_metadata(existing: &mut ObjectMeta, expected: &ObjectMeta) -> bool {
    let labels = merge(&mut existing.labels, expected.labels.as_ref());
    merge(&mut existing.annotations, expected.annotations.as_ref()) | labels
}

/// Adds what is missing; what is there wins.
fn merge(
    existing: &mut Option<BTreeMap<String, String>>,
    expected: Option<&BTreeMap<String, String>>,
) -> bool {
    let mut changed = false;
    for (key, value) in expected.into_iter().flatten() {
        let existing = existing.get_or_insert_default();
        if !existing.contains_key(key) {
            existing.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    changed
}

fn is_protected(metadata: &ObjectMeta) -> bool {
    metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(AUTOUPDATE))
        .is_some_and(|value| value == "false")
}

fn add_rules(existing: &mut Option<Vec<PolicyRule>>, expected: Option<&Vec<PolicyRule>>) -> bool {
    let rules =
        |rules: Option<&Vec<PolicyRule>>| rules.into_iter().flatten().map(Rule::from).collect::<Vec<_>>();
    let missing = rules_cover(&rules(existing.as_ref()), &rules(expected));
    if missing.is_empty() {
        return false;
    }
    existing.get_or_insert_default().extend(missing.into_iter().map(PolicyRule::from));
    true
}

fn add_aggregation(existing: &mut Option<AggregationRule>, expected: Option<&AggregationRule>) -> bool {
    let Some(expected) = expected else { return existing.take().is_some() };
    let selectors = existing.get_or_insert_default().cluster_role_selectors.get_or_insert_default();
    let mut changed = false;
    for selector in expected.cluster_role_selectors.iter().flatten() {
        if !selectors.contains(selector) {
            selectors.push(selector.clone());
            changed = true;
        }
    }
    changed
}

fn add_subjects(existing: &mut Option<Vec<Subject>>, expected: Option<&Vec<Subject>>) -> bool {
    // An absent API group means the one of the kind.
    let same = |a: &Subject, b: &Subject| a.kind == b.kind && a.name == b.name && a.namespace == b.namespace;
    let mut changed = false;
    for subject in expected.into_iter().flatten() {
        let existing = existing.get_or_insert_default();
        if !existing.iter().any(|known| same(known, subject)) {
            existing.push(subject.clone());
            changed = true;
        }
    }
    changed
}

fn outcome<T>(changed: bool, object: T) -> Reconcile<T> {
    if changed { Reconcile::Update(object) } else { Reconcile::Nothing }
}

/// A ClusterRole.
pub fn cluster_role(existing: Option<&ClusterRole>, expected: &ClusterRole) -> Reconcile<ClusterRole> {
    let Some(existing) = existing else { return Reconcile::Create(expected.clone()) };
    if is_protected(&existing.metadata) {
        return Reconcile::Nothing;
    }
    let mut role = existing.clone();
    let metadata = merge_metadata(&mut role.metadata, &expected.metadata);
    let rules = add_rules(&mut role.rules, expected.rules.as_ref());
    let aggregation = add_aggregation(&mut role.aggregation_rule, expected.aggregation_rule.as_ref());
    outcome(metadata | rules | aggregation, role)
}

/// A Role.
pub fn role(existing: Option<&Role>, expected: &Role) -> Reconcile<Role> {
    let Some(existing) = existing else { return Reconcile::Create(expected.clone()) };
    if is_protected(&existing.metadata) {
        return Reconcile::Nothing;
    }
    let mut role = existing.clone();
    let metadata = merge_metadata(&mut role.metadata, &expected.metadata);
    outcome(metadata | add_rules(&mut role.rules, expected.rules.as_ref()), role)
}

/// A ClusterRoleBinding.
pub fn cluster_role_binding(
    existing: Option<&ClusterRoleBinding>,
    expected: &ClusterRoleBinding,
) -> Reconcile<ClusterRoleBinding> {
    let Some(existing) = existing else { return Reconcile::Create(expected.clone()) };
    if is_protected(&existing.metadata) {
        return Reconcile::Nothing;
    }
    if existing.role_ref != expected.role_ref {
        return Reconcile::Recreate(expected.clone());
    }
    let mut binding = existing.clone();
    let metadata = merge_metadata(&mut binding.metadata, &expected.metadata);
    outcome(metadata | add_subjects(&mut binding.subjects, expected.subjects.as_ref()), binding)
}

/// A RoleBinding.
pub fn role_binding(existing: Option<&RoleBinding>, expected: &RoleBinding) -> Reconcile<RoleBinding> {
    let Some(existing) = existing else { return Reconcile::Create(expected.clone()) };
    if is_protected(&existing.metadata) {
        return Reconcile::Nothing;
    }
    if existing.role_ref != expected.role_ref {
        return Reconcile::Recreate(expected.clone());
    }
    let mut binding = existing.clone();
    let metadata = merge_metadata(&mut binding.metadata, &expected.metadata);
    outcome(metadata | add_subjects(&mut binding.subjects, expected.subjects.as_ref()), binding)
}
