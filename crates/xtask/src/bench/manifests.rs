//! The objects of the load, as JSON.

use bytes::Bytes;
use serde_json::json;

/// A ConfigMap that is 1 KiB long.
pub(super) fn config_map(name: &str) -> Bytes {
    let body = |text: &str| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"settings": text}});
        object.to_string()
    };
    let missing = 1024_usize.saturating_sub(body("").len());
    Bytes::from(body(&"0123456789abcdef".repeat(64).chars().take(missing).collect::<String>()))
}

/// A small ConfigMap.
pub(super) fn small_config_map(name: &str) -> Bytes {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}});
    Bytes::from(object.to_string())
}

/// A change to a ConfigMap that differs with `number`.
pub(super) fn config_map_patch(number: usize) -> Bytes {
    Bytes::from(json!({"data": {"changed": format!("{number:08}")}}).to_string())
}

/// A Pod as a Deployment makes them: labels, environment, resources, probes, a volume. `scheduler` is whose it
/// is to bind it.
pub(super) fn pod(name: &str, scheduler: &str) -> Bytes {
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 2});
    let environment: Vec<_> = (0..2)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": format!("the value of setting {number}")}))
        .collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "web", "tier": "front", "pod-template-hash": "5d69f94c4b", "release": "stable"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "schedulerName": scheduler,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "web",
                "image": "registry.example.com/shop/web:v1.4.2",
                "args": ["--listen=:8080", "--log-format=json"],
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": environment,
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": probe,
                "readinessProbe": probe,
                "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}],
        },
    });
    Bytes::from(object.to_string())
}

/// A Pod that runs and does nothing, and needs all of its grace period, in seconds.
pub(super) fn sleeper(name: &str, grace: u32) -> Bytes {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": grace,
            "containers": [{"name": "main", "image": super::image::NAME,
                "command": ["/bin/busybox", "sleep", "86400"]}],
        },
    });
    Bytes::from(object.to_string())
}

/// A Node that is ready, at this time, and that nobody stands behind.
pub(super) fn node(name: &str, now: &str) -> Bytes {
    let capacity = json!({"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "500Gi"});
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Bench", "message": "", "lastHeartbeatTime": now,
            "lastTransitionTime": now})
    };
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64"}},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [condition("MemoryPressure", "False"), condition("DiskPressure", "False"),
                condition("PIDPressure", "False"), condition("Ready", "True")],
        },
    });
    Bytes::from(object.to_string())
}

/// The lease of a node, renewed at this time, with microseconds. Without a version it is a new one.
pub(super) fn lease(name: &str, now: &str, version: Option<&str>) -> Bytes {
    let mut metadata = json!({"name": name, "namespace": "kube-node-lease"});
    if let (Some(version), Some(map)) = (version, metadata.as_object_mut()) {
        map.insert("resourceVersion".to_owned(), version.into());
    }
    let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}});
    Bytes::from(object.to_string())
}

/// The `resourceVersion` of an object in JSON, without reading the rest.
pub(super) fn version(object: &[u8]) -> Option<&str> {
    let head: &[u8] = br#""resourceVersion":""#;
    let at = memchr::memmem::find(object, head)? + head.len();
    let rest = object.get(at..)?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_is_a_kibibyte() {
        assert_eq!(config_map("a-name").len(), 1024);
        assert_eq!(config_map("a-longer-name-0001").len(), 1024);
    }

    #[test]
    fn a_version_is_found() {
        let lease = lease("n", "2026-01-01T00:00:00.000000Z", Some("12"));
        assert_eq!(version(&lease), Some("12"));
        assert_eq!(version(b"{}"), None);
        assert_eq!(version(br#"{"resourceVersion":"1"#), None);
    }
}
