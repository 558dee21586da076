//! What kubelets may do: what the pods on their own node need, and no more.
//!
//! Knows nothing of request bodies: that a node changes only its own objects is admission's part
//! (NodeRestriction). [`Attributes`] carry no field selectors, so a node may list and watch all pods, as in
//! upstream before `AuthorizeNodeWithSelectors`; single pods are refused unless they are its own.

mod graph;
mod volume;

use parking_lot::RwLock;

use self::graph::Kind;
pub use self::graph::{Graph, Key, PodRefs};
pub use self::volume::VolumeRefs;
use crate::authorizer::{Attributes, Authorizer, Decision, Rule};
use crate::rbac::{PolicyError, bootstrap_policy};
use crate::user::User;

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The node that a user is, if it is one.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|_| user.is_in(NODES))
}

/// Decides for kubelets; about others it has no opinion.
#[derive(Debug)]
pub struct NodeAuthorizer {
    graph: RwLock<Graph>,
    /// What every node may do; from the role `system:node`, which is bound to nobody.
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    /// An authorizer that knows of no pod yet.
    ///
    /// # Errors
    /// Only if this program was built wrongly.
    pub fn new() -> Result<Self, PolicyError> {
        let policy = bootstrap_policy()?;
        let role =
            policy.cluster_roles.iter().find(|role| role.metadata.name.as_deref() == Some("system:node"));
        let rules = role.into_iter().flat_map(|role| role.rules.iter().flatten()).map(Rule::from).collect();
        Ok(Self { graph: RwLock::default(), rules })
    }

    /// Changes what is known.
    pub fn update(&self, change: impl FnOnce(&mut Graph)) {
        change(&mut self.graph.write());
    }

    fn related(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        if asked.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.graph.read().reaches(node, kind, asked.namespace, asked.name) {
            return allow();
        }
        refuse(format!("no relationship found between node '{node}' and this object"))
    }

    fn get(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        match (asked.verb, asked.subresource) {
            ("get", "") => self.related(node, kind, asked),
            ("get", _) => refuse("cannot get subresource"),
            _ => refuse("can only get individual resources of this type"),
        }
    }

    fn read(&self, node: &str, kind: Kind, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return refuse("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(node, kind, asked)
    }

    fn claim(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.subresource != "status" {
            return self.get(node, Kind::Claim, asked);
        }
        if !matches!(asked.verb, "update" | "patch") {
            return refuse("can only get/update/patch this type");
        }
        self.related(node, Kind::Claim, asked)
    }

    fn service_account(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, asked)
    }

    fn resource_slice(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            "create" | "watch" | "list" | "deletecollection" => allow(),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::ResourceSlice, asked),
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get(node, Kind::Pod, asked),
            ("", "list" | "watch") if !asked.name.is_empty() => self.related(node, Kind::Pod, asked),
            ("", "list" | "watch" | "create" | "delete")
            | ("status", "update" | "patch")
            | ("eviction", "create") => allow(),
            _ => refuse(""),
        }
    }
}

fn allow() -> Decision {
    Decision::Allow(String::new())
}

fn refuse(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return refuse("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return refuse("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => allow(),
            "" => refuse(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => refuse(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => refuse(""),
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let Some(node) = node_of(asked.user) else { return refuse("") };
        if node.is_empty() {
            return refuse(format!("unknown node for user {:?}", asked.user.name));
        }
        if asked.is_resource {
            match (asked.api_group, asked.resource) {
                ("", "secrets") => return self.read(node, Kind::Secret, asked),
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, asked),
                ("", "persistentvolumeclaims") => return self.claim(node, asked),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, asked),
                ("resource.k8s.io", "resourceclaims") => return self.get(node, Kind::ResourceClaim, asked),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, asked),
                ("storage.k8s.io", "volumeattachments") => return self.get(node, Kind::Attachment, asked),
                ("storage.k8s.io", "csinodes") => return csi_node(node, asked),
                ("", "serviceaccounts") => return self.service_account(node, asked),
                ("coordination.k8s.io", "leases") => return lease(node, asked),
                ("", "nodes") => return own_node(node, asked),
                ("", "pods") => return self.pod(node, asked),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(asked)) { allow() } else { refuse("") }
    }

    /// Nothing: what a node may do cannot be told by rules.
    fn rules_for(&self, _: &User, _: &str) -> Vec<Rule> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
