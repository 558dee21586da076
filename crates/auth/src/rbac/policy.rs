//! The roles and bindings that every cluster begins with, from `bootstrap.yaml`.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;

const DATA: &str = include_str!("bootstrap.yaml");
const GROUP: &str = "rbac.authorization.k8s.io";

/// On `"false"` an object is left as it is.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What every cluster begins with.
#[derive(Debug, Clone, Default)]
pub struct BootstrapPolicy {
    /// For all namespaces, controllers' included. Aggregated ones have no rules yet.
    pub cluster_roles: Vec<ClusterRole>,
    /// For all namespaces.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// In kube-system and kube-public.
    pub roles: Vec<Role>,
    /// In kube-system and kube-public.
    pub role_bindings: Vec<RoleBinding>,
}

/// The built-in data cannot be read: a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("the built-in bootstrap policy is damaged: {0}")]
pub struct PolicyError(#[from] serde_yaml_ng::Error);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    cluster_roles: Vec<RoleData>,
    cluster_role_bindings: Vec<BindingData>,
    roles: Vec<RoleData>,
    role_bindings: Vec<BindingData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleData {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    aggregate_to: Vec<String>,
    #[serde(default)]
    aggregates: Vec<String>,
    #[serde(default)]
    rules: Vec<RuleData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleData {
    verbs: Vec<String>,
    groups: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    names: Option<Vec<String>>,
    paths: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingData {
    name: String,
    namespace: Option<String>,
    role: Option<String>,
    cluster_role: Option<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    service_accounts: Vec<String>,
}

/// What every cluster begins with.
///
/// # Errors
/// Only if this program was built wrongly.
pub fn bootstrap_policy() -> Result<BootstrapPolicy, PolicyError> {
    let data: Data = serde_yaml_ng::from_str(DATA)?;
    Ok(BootstrapPolicy {
        cluster_roles: data.cluster_roles.into_iter().map(cluster_role).collect(),
        cluster_role_bindings: data.cluster_role_bindings.into_iter().map(cluster_role_binding).collect(),
        roles: data.roles.into_iter().map(role).collect(),
        role_bindings: data.role_bindings.into_iter().map(role_binding).collect(),
    })
}

fn metadata(name: String, namespace: Option<String>, aggregate_to: &[String]) -> ObjectMeta {
    let mut labels = BTreeMap::from([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned())]);
    labels.extend(aggregate_to.iter().map(|to| (aggregation_label(to), "true".to_owned())));
    ObjectMeta {
        name: Some(name),
        namespace,
        labels: Some(labels),
        annotations: Some(BTreeMap::from([(AUTOUPDATE.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    }
}

fn aggregation_label(to: &str) -> String {
    format!("{GROUP}/aggregate-to-{to}")
}

fn rules(rules: Vec<RuleData>) -> Option<Vec<PolicyRule>> {
    let rules: Vec<_> = rules
        .into_iter()
        .map(|rule| PolicyRule {
            verbs: rule.verbs,
            api_groups: rule.groups,
            resources: rule.resources,
            resource_names: rule.names,
            non_resource_urls: rule.paths,
        })
        .collect();
    (!rules.is_empty()).then_some(rules)
}

fn cluster_role(data: RoleData) -> ClusterRole {
    let selectors = data.aggregates.iter().map(|to| LabelSelector {
        match_labels: Some(BTreeMap::from([(aggregation_label(to), "true".to_owned())])),
        ..LabelSelector::default()
    });
    let selectors: Vec<_> = selectors.collect();
    ClusterRole {
        metadata: metadata(data.name, None, &data.aggregate_to),
        aggregation_rule: (!selectors.is_empty())
            .then_some(AggregationRule { cluster_role_selectors: Some(selectors) }),
        rules: rules(data.rules),
    }
}

fn role(data: RoleData) -> Role {
    Role { metadata: metadata(data.name, data.namespace, &data.aggregate_to), rules: rules(data.rules) }
}

fn role_ref(role: Option<String>, cluster_role: Option<String>) -> RoleRef {
    let (kind, name) = match (role, cluster_role) {
        (Some(role), _) => ("Role", role),
        (None, name) => ("ClusterRole", name.unwrap_or_default()),
    };
    RoleRef { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name }
}

fn subjects(users: Vec<String>, groups: Vec<String>, accounts: &[String]) -> Option<Vec<Subject>> {
    let of = |kind: &'static str| {
        move |name| Subject {
            api_group: Some(GROUP.to_owned()),
            kind: kind.to_owned(),
            name,
            namespace: None,
        }
    };
    let mut subjects: Vec<Subject> = users.into_iter().map(of("User")).collect();
    subjects.extend(groups.into_iter().map(of("Group")));
    subjects.extend(accounts.iter().filter_map(|account| account.split_once('/')).map(
        |(namespace, name)| Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
        },
    ));
    (!subjects.is_empty()).then_some(subjects)
}

fn cluster_role_binding(data: BindingData) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(data.name, None, &[]),
        role_ref: role_ref(data.role, data.cluster_role),
        subjects: subjects(data.users, data.groups, &data.service_accounts),
    }
}

fn role_binding(data: BindingData) -> RoleBinding {
    RoleBinding {
        metadata: metadata(data.name, data.namespace, &[]),
        role_ref: role_ref(data.role, data.cluster_role),
        subjects: subjects(data.users, data.groups, &data.service_accounts),
    }
}
