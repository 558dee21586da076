//! The roles and bindings of a cluster, indexed by whom they concern.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use crate::authorizer::Rule;
use crate::user::User;

/// Roles and bindings as they are now. Objects go in and out one by one.
#[derive(Debug, Clone, Default)]
pub struct RbacSnapshot {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    cluster: Bindings,
    namespaces: HashMap<String, Bindings>,
}

/// The bindings of a namespace, or those of the whole cluster.
#[derive(Debug, Clone, Default)]
struct Bindings {
    bindings: HashMap<String, Arc<Binding>>,
    /// User name (a service account's long name, too) → names of bindings.
    users: HashMap<String, Vec<String>>,
    /// Group → names of bindings.
    groups: HashMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Binding {
    name: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// A binding that concerns a user, and the rules that it gives.
pub(super) enum Grant<'a> {
    Rules {
        source: Source<'a>,
        rules: &'a [Rule],
    },
    /// The role that a binding names does not exist.
    Broken(String),
}

/// Where rules come from; told as the reason of a decision.
pub(super) struct Source<'a> {
    namespace: &'a str,
    binding: &'a Binding,
    subject: &'a Subject,
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, binding, subject } = self;
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {:?}", binding.name)?;
        } else {
            write!(f, "RoleBinding {:?}", format!("{}/{namespace}", binding.name))?;
        }
        write!(f, " of {} {:?} to {} ", binding.role.kind, binding.role.name, subject.kind)?;
        match subject.kind.as_str() {
            "ServiceAccount" => {
                write!(f, "{:?}", format!("{}/{}", subject.name, account_namespace(subject, namespace)))
            }
            _ => write!(f, "{:?}", subject.name),
        }
    }
}

fn account_namespace<'a>(subject: &'a Subject, namespace: &'a str) -> &'a str {
    subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace)
}

/// The user name that a subject stands for, if it is a user.
fn user_name(subject: &Subject, namespace: &str) -> Option<String> {
    match subject.kind.as_str() {
        "User" => Some(subject.name.clone()),
        "ServiceAccount" => {
            let namespace = account_namespace(subject, namespace);
            (!namespace.is_empty()).then(|| format!("system:serviceaccount:{namespace}:{}", subject.name))
        }
        _ => None,
    }
}

fn concerns(subject: &Subject, namespace: &str, user: &User) -> bool {
    match subject.kind.as_str() {
        "Group" => user.is_in(&subject.name),
        _ => user_name(subject, namespace).is_some_and(|name| name == user.name),
    }
}

impl Bindings {
    fn insert(&mut self, namespace: &str, binding: Binding) {
        self.remove(namespace, &binding.name);
        let name = binding.name.clone();
        for subject in &binding.subjects {
            let names = match (subject.kind.as_str(), user_name(subject, namespace)) {
                ("Group", _) => self.groups.entry(subject.name.clone()).or_default(),
                (_, Some(user)) => self.users.entry(user).or_default(),
                (_, None) => continue,
            };
            if !names.contains(&name) {
                names.push(name.clone());
            }
        }
        self.bindings.insert(name, Arc::new(binding));
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.remove(name) else { return };
        for subject in &binding.subjects {
            let (index, key) = match (subject.kind.as_str(), user_name(subject, namespace)) {
                ("Group", _) => (&mut self.groups, subject.name.clone()),
                (_, Some(user)) => (&mut self.users, user),
                (_, None) => continue,
            };
            if let Some(names) = index.get_mut(&key) {
                names.retain(|known| known != name);
                if names.is_empty() {
                    index.remove(&key);
                }
            }
        }
    }

    /// The bindings that concern a user, each once.
    fn of<'a>(&'a self, user: &User) -> impl Iterator<Item = &'a Binding> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        let names = self.users.get(&user.name).into_iter().chain(groups).flatten();
        let unique: BTreeMap<&str, &Binding> =
            names.filter_map(|name| Some((name.as_str(), &**self.bindings.get(name)?))).collect();
        unique.into_values()
    }
}

fn rules(rules: Option<&Vec<PolicyRule>>) -> Arc<[Rule]> {
    rules.into_iter().flatten().map(Rule::from).collect()
}

impl RbacSnapshot {
    /// Takes a ClusterRole in, or its new state.
    pub fn upsert_cluster_role(&mut self, role: &ClusterRole) {
        let name = role.metadata.name.clone().unwrap_or_default();
        self.cluster_roles.insert(name, rules(role.rules.as_ref()));
    }

    /// Forgets a ClusterRole.
    pub fn remove_cluster_role(&mut self, name: &str) {
        self.cluster_roles.remove(name);
    }

    /// Takes a Role in, or its new state.
    pub fn upsert_role(&mut self, role: &Role) {
        let namespace = role.metadata.namespace.clone().unwrap_or_default();
        let name = role.metadata.name.clone().unwrap_or_default();
        self.roles.entry(namespace).or_default().insert(name, rules(role.rules.as_ref()));
    }

    /// Forgets a Role.
    pub fn remove_role(&mut self, namespace: &str, name: &str) {
        if let Some(roles) = self.roles.get_mut(namespace) {
            roles.remove(name);
            if roles.is_empty() {
                self.roles.remove(namespace);
            }
        }
    }

    /// Takes a ClusterRoleBinding in, or its new state.
    pub fn upsert_cluster_role_binding(&mut self, binding: &ClusterRoleBinding) {
        let binding = Binding {
            name: binding.metadata.name.clone().unwrap_or_default(),
            role: binding.role_ref.clone(),
            subjects: binding.subjects.clone().unwrap_or_default(),
        };
        self.cluster.insert("", binding);
    }

    /// Forgets a ClusterRoleBinding.
    pub fn remove_cluster_role_binding(&mut self, name: &str) {
        self.cluster.remove("", name);
    }

    /// Takes a RoleBinding in, or its new state.
    pub fn upsert_role_binding(&mut self, binding: &RoleBinding) {
        let namespace = binding.metadata.namespace.clone().unwrap_or_default();
        let binding = Binding {
            name: binding.metadata.name.clone().unwrap_or_default(),
            role: binding.role_ref.clone(),
            subjects: binding.subjects.clone().unwrap_or_default(),
        };
        self.namespaces.entry(namespace.clone()).or_default().insert(&namespace, binding);
    }

    /// Forgets a RoleBinding.
    pub fn remove_role_binding(&mut self, namespace: &str, name: &str) {
        if let Some(bindings) = self.namespaces.get_mut(namespace) {
            bindings.remove(namespace, name);
            if bindings.bindings.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    /// The rules that a binding in `namespace` (empty for the cluster) gives by naming a role.
    ///
    /// # Errors
    /// Why there are none, in upstream's words.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&[Rule], String> {
        let (found, resource) = match role.kind.as_str() {
            "ClusterRole" => (self.cluster_roles.get(&role.name), "clusterrole"),
            "Role" => (self.roles.get(namespace).and_then(|roles| roles.get(&role.name)), "role"),
            kind => return Err(format!("unsupported role reference kind: {kind:?}")),
        };
        found
            .map(|rules| &**rules)
            .ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {:?} not found", role.name))
    }

    /// What concerns a user: in the whole cluster, and in `namespace` unless it is empty.
    pub(super) fn grants<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = Grant<'a>> {
        let cluster = self.cluster.of(user).map(|binding| ("", binding));
        let local = self.namespaces.get(namespace).into_iter().flat_map(|bindings| bindings.of(user));
        cluster.chain(local.map(move |binding| (namespace, binding))).filter_map(
            move |(namespace, binding)| {
                let subject = binding.subjects.iter().find(|subject| concerns(subject, namespace, user))?;
                Some(match self.rules_of(&binding.role, namespace) {
                    Ok(rules) => Grant::Rules { source: Source { namespace, binding, subject }, rules },
                    Err(why) => Grant::Broken(why),
                })
            },
        )
    }
}
