//! The resources that are served now: the built-in rows, and one for each custom resource definition.
//!
//! A custom resource is a [`Resource`] like any other; what differs is the schema and that it is stored as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::{Row, Rules};
use schema::types::StructRef;

use crate::cache::Cache;
use crate::custom::CustomRules;

/// How objects are written to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAs {
    /// Protobuf in upstream's envelope.
    Protobuf,
    /// JSON with sorted keys.
    Json,
}

/// The version in which a resource is stored.
#[derive(Debug, Clone)]
pub struct Storage {
    /// `apps/v1`
    pub api_version: String,
    /// Its type.
    pub ty: StructRef,
    /// Its encoding.
    pub stored_as: StoredAs,
    /// Keys are this, `/`, the namespace where there is one, `/`, and the name.
    pub prefix: String,
    /// Whether values are encrypted.
    pub encrypted: bool,
}

/// What lies below an object.
#[derive(Debug, Clone)]
pub struct Sub {
    /// Such as `status`.
    pub name: String,
    /// Group, version and kind of the body.
    pub gvk: (String, String, String),
    /// What can be done with it.
    pub verbs: Vec<String>,
}

/// A resource in one served version.
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The kind of its list.
    pub list_kind: String,
    /// The name in paths.
    pub plural: String,
    /// The name of one.
    pub singular: String,
    /// Abbreviations.
    pub short_names: Vec<String>,
    /// Such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
    /// The type in this version.
    pub ty: StructRef,
    /// Defaults, validation, columns.
    pub rules: Rules,
    /// The rest of the rules, for a custom resource.
    pub custom: Option<Arc<CustomRules>>,
    /// What lies below its objects.
    pub subresources: Vec<Sub>,
    /// `None` for what is answered and forgotten (reviews).
    pub stored: Option<(Storage, Arc<Cache>)>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}/{} {})", self.group, self.version, self.plural)
    }
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Where an object is stored, below the cluster's prefix.
    pub fn key(storage: &Storage, namespace: &str, name: &str) -> String {
        if namespace.is_empty() {
            format!("{}/{name}", storage.prefix)
        } else {
            format!("{}/{namespace}/{name}", storage.prefix)
        }
    }

    /// Whether strategic merge patches apply: to built-in types only.
    pub fn is_builtin(&self) -> bool {
        self.custom.is_none()
    }

    /// Whether an update may leave out which version it replaces (upstream's `AllowUnconditionalUpdate`).
    pub fn may_be_replaced_blindly(&self) -> bool {
        let guarded = match self.group.as_str() {
            "certificates.k8s.io" => {
                matches!(self.plural.as_str(), "podcertificaterequests" | "clustertrustbundles")
            }
            "storage.k8s.io" => matches!(
                self.plural.as_str(),
                "csidrivers" | "csistoragecapacities" | "volumeattachments" | "csinodes"
            ),
            "policy" => self.plural == "poddisruptionbudgets",
            "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "coordination.k8s.io"
            | "internal.apiserver.k8s.io"
            | "node.k8s.io"
            | "storagemigration.k8s.io" => true,
            _ => false,
        };
        self.custom.is_none() && !guarded
    }

    /// The subresource of this name.
    pub fn sub(&self, name: &str) -> Option<&Sub> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether it has this verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Everything that is served, at one moment.
#[derive(Clone, Default)]
pub struct Registry {
    by_path: BTreeMap<(String, String, String), Arc<Resource>>,
    groups: Vec<(String, Vec<String>)>,
    /// Raised with every change of what is served, for ETags.
    pub generation: u64,
}

impl Registry {
    /// What is served under this group, version and plural name.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // Three short copies a request are cheaper than a borrowed-key map is to read.
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The resource of a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.all()
            .find(|resource| resource.group == group && resource.version == version && resource.kind == kind)
    }

    /// The resource with this plural name in the group's preferred version that has it.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let (_, versions) = self.groups.iter().find(|(name, _)| name == group)?;
        versions.iter().find_map(|version| self.get(group, version, plural))
    }

    /// Everything in one version of a group, by plural name.
    pub fn in_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> + 'a {
        let first = (group.to_owned(), version.to_owned(), String::new());
        self.by_path
            .range(first..)
            .take_while(move |((g, v, _), _)| g == group && v == version)
            .map(|(_, resource)| resource)
    }

    /// Every resource.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path.values()
    }

    /// The groups with their versions, both in order of preference; the core group is first.
    pub fn groups(&self) -> &[(String, Vec<String>)] {
        &self.groups
    }

    /// Adds or replaces a resource.
    pub fn insert(&mut self, resource: Resource) {
        let versions = match self.groups.iter_mut().find(|(name, _)| *name == resource.group) {
            Some((_, versions)) => versions,
            None => {
                self.groups.push((resource.group.clone(), Vec::new()));
                match self.groups.last_mut() {
                    Some((_, versions)) => versions,
                    None => return,
                }
            }
        };
        if !versions.contains(&resource.version) {
            versions.push(resource.version.clone());
            versions.sort_by_key(|version| version_priority(version));
        }
        let path = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
        self.by_path.insert(path, Arc::new(resource));
        self.generation += 1;
    }

    /// Removes every version of a resource.
    pub fn remove(&mut self, group: &str, plural: &str) {
        self.by_path.retain(|(g, _, p), _| !(g == group && p == plural));
        let by_path = &self.by_path;
        self.groups.retain_mut(|(name, versions)| {
            versions.retain(|version| by_path.keys().any(|(g, v, _)| g == name && v == version));
            !versions.is_empty()
        });
        self.generation += 1;
    }
}

/// Sorts versions as upstream does: stable ones before beta before alpha, higher numbers first, anything else last.
/// (`apimachinery/pkg/version.CompareKubeAwareVersionStrings`.)
pub fn version_priority(version: &str) -> (u8, i64, i64, String) {
    let parsed = (|| {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at_checked(digits)?;
        let major: i64 = major.parse().ok()?;
        let (class, minor) = match rest {
            "" => (0, 0),
            rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor.parse().ok()?),
                (_, Some(minor)) => (2, minor.parse().ok()?),
                _ => return None,
            },
        };
        Some((class, -major, -minor, String::new()))
    })();
    parsed.unwrap_or((3, 0, 0, version.to_owned()))
}

/// The built-in resource of a row. `cache` is shared by all rows that are stored in the same place.
pub fn from_row(row: &Row, cache: Option<Arc<Cache>>) -> Option<Resource> {
    let catalogue = schema::catalogue::builtin();
    let ty = catalogue.kind(row.group, row.version, row.kind)?.ty.clone();
    let stored = match (row.storage_prefix, cache) {
        (Some(prefix), Some(cache)) => {
            let (group, version) = row.storage;
            let storage_ty = catalogue.kind(group, version, row.kind)?.ty.clone();
            // Custom resource definitions and API services are stored as JSON upstream too.
            let stored_as = match row.group {
                "apiextensions.k8s.io" | "apiregistration.k8s.io" => StoredAs::Json,
                _ => StoredAs::Protobuf,
            };
            let storage = Storage {
                api_version: api_version(group, version),
                ty: storage_ty,
                stored_as,
                prefix: prefix.to_owned(),
                encrypted: row.group.is_empty() && row.plural == "secrets",
            };
            Some((storage, cache))
        }
        _ => None,
    };
    let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Some(Resource {
        group: row.group.to_owned(),
        version: row.version.to_owned(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        plural: row.plural.to_owned(),
        singular: row.singular.to_owned(),
        short_names: strings(&row.short_names),
        categories: strings(&row.categories),
        namespaced: row.namespaced,
        verbs: strings(&row.verbs),
        ty,
        rules: kinds::rules(row.group, row.kind),
        custom: None,
        subresources: row
            .subresources
            .iter()
            .map(|sub| Sub {
                name: sub.name.to_owned(),
                gvk: (sub.gvk.0.to_owned(), sub.gvk.1.to_owned(), sub.gvk.2.to_owned()),
                verbs: strings(&sub.verbs),
            })
            .collect(),
        stored,
    })
}

#[cfg(test)]
mod tests {
    use super::version_priority;

    #[test]
    fn versions_sort_as_upstream_says() {
        let mut versions = ["foo1", "v1alpha1", "v2", "v1beta2", "v10", "v1", "v1beta10", "foo10"];
        versions.sort_by_key(|version| version_priority(version));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta2", "v1alpha1", "foo1", "foo10"]);
    }
}
