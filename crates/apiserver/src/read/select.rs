//! Label and field selectors over cache entries.

use std::sync::Arc;

use schema::fields::FieldSelector;
use schema::labels::Selector;

use crate::cache::Entry;
use crate::pipeline::request::RequestInfo;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// Which objects of a resource a request is about.
#[derive(Clone)]
pub struct Selection {
    labels: Selector,
    fields: FieldSelector,
    resource: Arc<Resource>,
    namespace: String,
    name: Option<String>,
}

impl Selection {
    /// Reads the query.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read, or selects by a field that its kind does not offer.
    pub fn read(info: &RequestInfo, resource: &Arc<Resource>) -> Result<Self> {
        let labels = Selector::parse(info.param("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(info.param("fieldSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        for requirement in &fields.requirements {
            if !offers(resource, &requirement.field) {
                return Err(ApiError::bad_request(unknown(resource, &requirement.field)));
            }
        }
        let namespace = if resource.namespaced { info.namespace.clone() } else { String::new() };
        let name = Some(info.name.clone()).filter(|name| !name.is_empty());
        Ok(Self { labels, fields, resource: resource.clone(), namespace, name })
    }

    /// The namespace that is looked at; empty for all.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether every object of the namespace is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything() && self.name.is_none()
    }

    /// The only key that can be selected, where a name says so.
    pub fn key(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        match (self.resource.namespaced, self.namespace.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("{}/{name}", self.namespace)),
            (false, _) => Some(name.clone()),
        }
    }

    /// Whether an entry is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        if !self.namespace.is_empty() && entry.namespace() != self.namespace {
            return false;
        }
        if self.name.as_ref().is_some_and(|name| entry.name() != name) {
            return false;
        }
        if !self.labels.is_everything() && !self.labels.matches(|key| entry.label(key)) {
            return false;
        }
        self.fields.is_everything() || self.fields.matches(|field| self.field(entry, field))
    }

    fn field<'e>(&self, entry: &'e Entry, field: &str) -> Option<&'e str> {
        match field {
            "metadata.name" => Some(entry.name()),
            "metadata.namespace" => Some(entry.namespace()),
            _ => {
                let at = self.resource.rules.selectable.iter().position(|(name, _)| *name == field)?;
                entry.fields.get(at).map(|value| &**value)
            }
        }
    }
}

/// Whether the objects of a resource are selected by a field. Those without namespaces have none, and kinds that list
/// their fields do not list it then.
fn offers(resource: &Resource, field: &str) -> bool {
    match field {
        "" => false,
        "metadata.name" => true,
        "metadata.namespace" => resource.namespaced || resource.rules.selectable.is_empty(),
        _ => resource.rules.selectable.iter().any(|(name, _)| *name == field),
    }
}

/// What is said of a field that a kind does not offer.
fn unknown(resource: &Resource, field: &str) -> String {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("batch", "Job") => format!("field label {field:?} not supported for Job"),
        ("resource.k8s.io", "ResourceSlice") => {
            let (version, kind) = (resource.api_version(), &resource.kind);
            format!("field label not supported for {version}, Kind={kind}: {field}")
        }
        _ if resource.is_builtin() && resource.rules.selectable.is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}
