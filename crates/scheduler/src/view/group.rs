//! What says of pods that they belong together.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Deserializer};

use super::Meta;

/// Who looks after an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    controller: bool,
}

/// Of all owners the one that looks after the object.
pub(super) fn controller<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Owner>, D::Error> {
    let all: Vec<Owner> = Deserialize::deserialize(deserializer)?;
    Ok(all.into_iter().find(|owner| owner.controller))
}

/// A namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceView {
    /// Metadata.
    pub metadata: Meta,
}

/// A service, or a replication controller: something with a simple selector.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    /// Metadata.
    pub metadata: Meta,
    /// Its specification.
    pub spec: ServiceSpec,
}

/// What a service is to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Its pods.
    pub selector: BTreeMap<String, String>,
}

/// A replica set or a stateful set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SetView {
    /// Metadata.
    pub metadata: Meta,
    /// Its specification.
    pub spec: SetSpec,
}

/// What a set of pods is to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SetSpec {
    /// Its pods.
    pub selector: Option<LabelSelector>,
}
