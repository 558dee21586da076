//! Which pods are alike, by services and owners (`helper.DefaultSelector`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kinds::selector;

/// Which pods are alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alike {
    /// What their services select together.
    pub labels: BTreeMap<String, String>,
    /// What their owner selects.
    pub selector: Option<LabelSelector>,
}

impl Alike {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
            && self.selector.as_ref().is_none_or(|selector| *selector == Default::default())
    }

    /// Whether a pod with these labels is one of them.
    pub fn includes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.selector.as_ref().is_none_or(|selected| selector::matches(Some(selected), labels))
    }
}
