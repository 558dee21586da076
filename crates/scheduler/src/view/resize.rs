//! What a node has given its pods.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{PodStatus, Resources};

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// What it has.
    pub resources: Option<Resources>,
    /// What the node has promised it.
    pub allocated_resources: BTreeMap<String, String>,
}

impl PodStatus {
    /// What is known of a container.
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        let mut all = self.container_statuses.iter().chain(&self.init_container_statuses);
        all.find(|status| status.name == name)
    }
}
