//! What a pod can be told of itself: `fieldRef` and `resourceFieldRef`. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use schema::quantity::Quantity;

use super::resources;
use super::spec::PodExt;

/// What is known when a container starts.
pub struct Surroundings<'a> {
    pub pod: &'a Pod,
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// The node's millicores and bytes of memory: the limits of whoever has none.
    pub capacity: (u64, u64),
}

/// What cannot be told.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("the divisor {0:?} is not a positive quantity")]
    Divisor(String),
}

impl Surroundings<'_> {
    /// The value of a field, such as `metadata.name`.
    pub fn field(&self, path: &str) -> Result<String, FieldError> {
        let meta = &self.pod.metadata;
        let spec = |text: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<&String>| {
            self.pod.spec().and_then(text).cloned().unwrap_or_default()
        };
        Ok(match path {
            "metadata.name" => self.pod.name().to_owned(),
            "metadata.namespace" => self.pod.namespace().to_owned(),
            "metadata.uid" => self.pod.uid().to_owned(),
            "metadata.labels" => lines(meta.labels.as_ref()),
            "metadata.annotations" => lines(meta.annotations.as_ref()),
            "spec.nodeName" => spec(|spec| spec.node_name.as_ref()),
            "spec.serviceAccountName" => spec(|spec| spec.service_account_name.as_ref()),
            "spec.hostname" => spec(|spec| spec.hostname.as_ref()),
            "status.hostIP" => self.host_ips.first().cloned().unwrap_or_default(),
            "status.hostIPs" => self.host_ips.join(","),
            "status.podIP" => self.pod_ips.first().cloned().unwrap_or_default(),
            "status.podIPs" => self.pod_ips.join(","),
            _ => return self.subscript(path),
        })
    }

    fn subscript(&self, path: &str) -> Result<String, FieldError> {
        let parts = path.split_once("['").and_then(|(map, rest)| Some((map, rest.strip_suffix("']")?)));
        let map = match parts {
            Some(("metadata.labels", _)) => self.pod.metadata.labels.as_ref(),
            Some(("metadata.annotations", _)) => self.pod.metadata.annotations.as_ref(),
            _ => return Err(FieldError::Path(path.to_owned())),
        };
        let key = parts.map(|(_, key)| key).unwrap_or_default();
        Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
    }

    /// The value of a container's request or limit in units of the divisor, rounded up.
    pub fn resource(
        &self,
        own: Option<&Container>,
        selector: &ResourceFieldSelector,
    ) -> Result<String, FieldError> {
        let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => self.pod.container(name).ok_or_else(|| FieldError::Container(name.to_owned()))?,
            None => Cow::Borrowed(own.ok_or_else(|| FieldError::Container(String::new()))?),
        };
        let resources = container.resources.as_ref();
        let (cpu, memory) = self.capacity;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let thousandths = match selector.resource.as_str() {
            "limits.cpu" => resources::limit(resources, "cpu").unwrap_or(number(cpu)),
            "limits.memory" => {
                resources::limit(resources, "memory").unwrap_or(number(memory)).saturating_mul(1000)
            }
            "requests.cpu" => resources::request(resources, "cpu").unwrap_or(0),
            "requests.memory" => resources::request(resources, "memory").unwrap_or(0).saturating_mul(1000),
            "limits.ephemeral-storage" => {
                resources::limit(resources, "ephemeral-storage").unwrap_or(0).saturating_mul(1000)
            }
            "requests.ephemeral-storage" => {
                resources::request(resources, "ephemeral-storage").unwrap_or(0).saturating_mul(1000)
            }
            other => return Err(FieldError::Resource(other.to_owned())),
        };
        let divisor = match selector.divisor.as_ref().map(|divisor| divisor.0.as_str()) {
            None | Some("" | "0") => 1000,
            Some(text) => text.parse::<Quantity>().map(|divisor| divisor.milli()).unwrap_or(0),
        };
        if divisor <= 0 {
            return Err(FieldError::Divisor(selector.divisor.clone().unwrap_or_default().0));
        }
        let rounded_up = (i128::from(thousandths) + i128::from(divisor) - 1) / i128::from(divisor);
        Ok(rounded_up.to_string())
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}
