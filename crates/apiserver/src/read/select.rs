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
            let known = matches!(requirement.field.as_str(), "metadata.name" | "metadata.namespace")
                || resource.rules.selectable.iter().any(|(name, _)| *name == requirement.field);
            if !known {
                let message = match resource.is_builtin() {
                    true => format!(
                        "{:?} is not a known field selector: only {}",
                        requirement.field,
                        known_fields(resource)
                    ),
                    false => format!("field label not supported: {}", requirement.field),
                };
                return Err(ApiError::bad_request(message));
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

fn known_fields(resource: &Resource) -> String {
    let mut names = vec!["\"metadata.name\"".to_owned(), "\"metadata.namespace\"".to_owned()];
    names.extend(resource.rules.selectable.iter().map(|(name, _)| format!("{name:?}")));
    names.join(", ")
}
