use schema::{Object, Value};

use crate::edit::{self, each, flag, made, number, positive, present, text, within};

/// Fills in a pod template.
pub(crate) fn template_defaults(template: &mut Object) {
    made(template, "spec", spec_defaults);
}

/// Fills in a pod's specification (`pkg/apis/core/v1/defaults.go`).
pub(crate) fn spec_defaults(spec: &mut Object) {
    text(spec, "restartPolicy", "Always");
    text(spec, "dnsPolicy", "ClusterFirst");
    number(spec, "terminationGracePeriodSeconds", 30);
    text(spec, "schedulerName", "default-scheduler");
    flag(spec, "enableServiceLinks", true);
    present(spec, "securityContext");
    // The older name of the field stays in step, as upstream keeps it.
    let account = edit::get(spec, &["serviceAccountName"]).to_owned();
    let deprecated = edit::get(spec, &["serviceAccount"]).to_owned();
    match (account.is_empty(), deprecated.is_empty()) {
        (false, _) => {
            spec.set("serviceAccount", account);
        }
        (true, false) => {
            spec.set("serviceAccountName", deprecated);
        }
        (true, true) => {}
    }
    let host_network = spec.bool_at(&["hostNetwork"]).unwrap_or_default();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, |container| {
            container_defaults(container, host_network && list != "ephemeralContainers")
        });
    }
    each(spec, "volumes", volume_defaults);
    each(spec, "topologySpreadConstraints", |constraint| {
        text(constraint, "nodeAffinityPolicy", "Honor");
        text(constraint, "nodeTaintsPolicy", "Ignore");
    });
}

fn container_defaults(container: &mut Object, host_network: bool) {
    let image = edit::get(container, &["image"]).to_owned();
    text(container, "imagePullPolicy", if is_latest(&image) { "Always" } else { "IfNotPresent" });
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| {
        text(port, "protocol", "TCP");
        let inside = port.int_at(&["containerPort"]).unwrap_or_default();
        if host_network {
            positive(port, "hostPort", inside);
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, probe, probe_defaults);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, |hook| within(hook, "httpGet", http_get_defaults));
        }
    });
    each(container, "env", |env| {
        within(env, "valueFrom", |source| {
            within(source, "fieldRef", |field| text(field, "apiVersion", "v1"))
        });
    });
}

/// Fills in a pod itself: unlike in a template, a limit without a request is the request, too.
pub(crate) fn pod_defaults(spec: &mut Object) {
    spec_defaults(spec);
    for list in ["containers", "initContainers"] {
        each(spec, list, requests_from_limits);
    }
}

fn requests_from_limits(container: &mut Object) {
    let Some(limits) = container.map_at(&["resources", "limits"]).cloned() else { return };
    made(container, "resources", |resources| {
        if let Some(requests) = resources.map_mut("requests") {
            for (name, amount) in limits.strings() {
                if !requests.contains_key(name) {
                    requests.insert(name, amount);
                }
            }
        }
    });
}

/// Whether an image has no tag, or `latest` (`parsers.ParseImageName`).
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe_defaults(probe: &mut Object) {
    positive(probe, "timeoutSeconds", 1);
    positive(probe, "periodSeconds", 10);
    positive(probe, "successThreshold", 1);
    positive(probe, "failureThreshold", 3);
    within(probe, "httpGet", http_get_defaults);
    within(probe, "grpc", |grpc| {
        if grpc.get("service").is_none() {
            grpc.set("service", "");
        }
    });
}

fn http_get_defaults(get: &mut Object) {
    text(get, "path", "/");
    text(get, "scheme", "HTTP");
}

const FILE_MODE: i64 = 0o644;

fn volume_defaults(volume: &mut Object) {
    const SOURCES: [&str; 30] = [
        "hostPath",
        "emptyDir",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "secret",
        "nfs",
        "iscsi",
        "glusterfs",
        "persistentVolumeClaim",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "downwardAPI",
        "fc",
        "azureFile",
        "configMap",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "projected",
        "portworxVolume",
        "scaleIO",
        "storageos",
        "csi",
        "ephemeral",
        "image",
    ];
    if SOURCES.iter().all(|source| volume.get(source).is_none()) {
        present(volume, "emptyDir");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, source, |source| number(source, "defaultMode", FILE_MODE));
    }
    within(volume, "hostPath", |source| {
        if source.get("type").is_none() {
            source.set("type", Value::Str(String::new()));
        }
    });
    within(volume, "downwardAPI", |source| each(source, "items", item_defaults));
    within(volume, "projected", |source| {
        each(source, "sources", |projection| {
            within(projection, "downwardAPI", |source| each(source, "items", item_defaults));
            within(projection, "serviceAccountToken", |token| number(token, "expirationSeconds", 3600));
        });
    });
    within(volume, "ephemeral", |source| {
        within(source, "volumeClaimTemplate", |template| {
            within(template, "spec", |spec| text(spec, "volumeMode", "Filesystem"));
        });
    });
}

fn item_defaults(item: &mut Object) {
    within(item, "fieldRef", |field| text(field, "apiVersion", "v1"));
}

#[cfg(test)]
mod tests {
    use super::is_latest;

    #[test]
    fn images_whose_tag_moves() {
        for image in ["nginx", "nginx:latest", "localhost:5000/nginx", "a/b/c"] {
            assert!(is_latest(image), "{image}");
        }
        for image in ["nginx:1.22", "localhost:5000/nginx:1", "nginx@sha256:00"] {
            assert!(!is_latest(image), "{image}");
        }
    }
}
