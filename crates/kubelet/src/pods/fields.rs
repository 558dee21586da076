//! What a pod can be told of itself: `fieldRef` and `resourceFieldRef`. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector, ResourceRequirements};
use schema::quantity::Quantity;

use super::resources;
use super::spec::PodExt;

/// What is known when a container starts.
pub struct Surroundings<'a> {
    pub pod: &'a Pod,
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    /// What pods can be given of the node, the processor in thousandths: the limits of whoever has none.
    pub allocatable: &'a BTreeMap<String, i64>,
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
        let is_known = |name: &str| OF_THE_NODE.contains(&name) || name.starts_with("hugepages-");
        let (name, amount) = match selector.resource.split_once('.').filter(|(_, name)| is_known(name)) {
            Some(("limits", name)) => (name, self.limit(resources, name)),
            Some(("requests", name)) => (name, resources::request(resources, name).unwrap_or(0)),
            _ => return Err(FieldError::Resource(selector.resource.clone())),
        };
        let thousandths = if name == "cpu" { amount } else { amount.saturating_mul(1000) };
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

/// What a container without a limit may use as much of as there is. Huge pages it has none of then.
const OF_THE_NODE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Surroundings<'_> {
    /// A container's own limit, or its pod's, or what there is.
    fn limit(&self, resources: Option<&ResourceRequirements>, name: &str) -> i64 {
        let positive = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
        let own = positive(resources::limit(resources, name));
        if !OF_THE_NODE.contains(&name) {
            return own.unwrap_or(0);
        }
        let of_pod = || positive(resources::limit(resources::of_pod(self.pod), name));
        own.or_else(of_pod).or_else(|| self.allocatable.get(name).copied()).unwrap_or(0)
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_has_no_limit_has_its_pods_or_the_nodes() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "resources": {"limits": {"cpu": "1250m", "hugepages-2Mi": "8Mi"}},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "huge", "resources": {"limits": {"hugepages-2Mi": "4Mi", "cpu": "0", "memory": "1Mi"}}}]}}))
        .unwrap();
        let of_node = [("cpu", 4000), ("memory", 1 << 30), ("ephemeral-storage", 5000), ("hugepages-2Mi", 9)];
        let allocatable = of_node.map(|(name, amount)| (name.to_owned(), amount)).into();
        let known = Surroundings { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &allocatable };
        let tell = |container: &str, resource: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some(container.to_owned()),
                resource: resource.to_owned(),
                divisor: None,
            };
            known.resource(None, &selector)
        };
        for (container, resource, value) in [
            ("c", "limits.cpu", "2"),
            ("huge", "limits.cpu", "2"),
            ("c", "limits.memory", "1073741824"),
            ("huge", "limits.memory", "1048576"),
            ("c", "limits.ephemeral-storage", "5000"),
            ("huge", "limits.hugepages-2Mi", "4194304"),
            ("huge", "requests.hugepages-2Mi", "4194304"),
            ("c", "limits.hugepages-2Mi", "0"),
            ("c", "requests.cpu", "1"),
            ("c", "requests.memory", "0"),
        ] {
            assert_eq!(tell(container, resource).as_deref(), Ok(value), "{container} {resource}");
        }
        for unknown in ["limits.pods", "cpu", "other.cpu"] {
            assert_eq!(tell("c", unknown), Err(FieldError::Resource(unknown.to_owned())));
        }
    }
}
