//! The question that every authorizer answers (`apiserver/pkg/authorization/authorizer`).

use crate::user::User;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// Such as `get` or `impersonate`.
    pub verb: &'a str,
    /// The API group; empty for the core group.
    pub api_group: &'a str,
    /// The version.
    pub api_version: &'a str,
    /// Such as `pods`.
    pub resource: &'a str,
    /// Such as `log`.
    pub subresource: &'a str,
    /// The object; empty for a collection.
    pub name: &'a str,
    /// The namespace; empty for all, or for what lives in none.
    pub namespace: &'a str,
    /// The path, where it is no resource.
    pub path: &'a str,
    /// Whether it is a resource.
    pub is_resource: bool,
}

/// An answer, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow(String),
    /// No, whatever others say.
    Deny(String),
    /// Somebody else may say yes.
    NoOpinion(String),
}

/// A rule, as `SelfSubjectRulesReview` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, with subresources after a slash.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Decides what may be done.
pub trait Authorizer: Send + Sync {
    /// Whether this may be done.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// Everything that the user may do in a namespace, as far as rules can tell.
    fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule>;
}

/// Asks several authorizers in turn; the first that has an opinion decides.
pub struct Union(pub Vec<std::sync::Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.0.iter().flat_map(|authorizer| authorizer.rules_for(user, namespace)).collect()
    }
}
