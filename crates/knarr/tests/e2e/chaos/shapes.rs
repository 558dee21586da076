//! Pods of several shapes, which write down what ran of them, and how it is judged afterwards.
//!
//! Each container writes a line into a file of its own when it begins, and holds a lock for as long as it lives: a second
//! one of its kind beside it finds the lock taken, and says so. The kernel lets go of the lock of whoever is dead.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::{Value, json};

/// How many there are.
pub const SHAPES: u64 = 12;
/// The label of all of them.
pub const LABEL: &str = "crowd";
/// The shape whose containers have users of their own.
const OWN_USERS: u64 = 6;
/// The shape whose container fails at first.
const FAILS: u64 = 8;
/// What a sidecar is called.
const SIDECAR: &str = "s";
/// Where host ports begin.
const PORT: u64 = 20_000;

/// What the pods need of the cluster, whose node keeps a volume in the folder of the witness.
pub fn needs(witness: &Path) -> String {
    let volume = witness.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: chaos}}
data: {{a: "1", b: "2"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: chaos}}
stringData: {{password: hidden}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: chaos}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: chaos}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: chaos
  local: {{path: {}}}
  nodeAffinity:
    required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: Exists}}]}}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: chaos}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: chaos
  resources: {{requests: {{storage: 1Gi}}}}
"#,
        volume.display()
    )
}

/// How a container begins: it says so, and whether it is alone.
fn begin(name: &str) -> String {
    format!(
        "exec 9>>/witness/{name}.lock; /usr/bin/flock -n 9 || echo {name} >> /witness/twice; echo begun >> /witness/{name}"
    )
}

fn container(pod: &str, name: &str, then: &str) -> Value {
    json!({
        "name": name, "image": "docker.io/library/busybox:test", "imagePullPolicy": "Never",
        "command": ["sh", "-c", format!("{}; {then}", begin(&format!("{pod}.{name}")))],
        "volumeMounts": [{"name": "witness", "mountPath": "/witness"}, {"name": "m", "mountPath": "/m"},
                         {"name": "d", "mountPath": "/s", "subPath": "a/b"}],
    })
}

fn with(mut object: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

/// A pod that runs until it is deleted, or one that ends.
pub fn pod(number: u64, witness: &Path, own_users: bool) -> Pod {
    let name = format!("p{number}");
    let shape = match number % SHAPES {
        OWN_USERS if !own_users => 0,
        shape => shape,
    };
    let short = format!("sleep 0.{}", number % 7);
    let run = |container_name: &str, then: &str| container(&name, container_name, then);
    let ever = "exec sleep 1000";
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let mut spec = json!({"restartPolicy": "Never", "containers": [run("c", &short)]});
    match shape {
        0 => {}
        1 => spec["initContainers"] = json!([run("i", "true"), run("j", &short)]),
        2 => {
            let sidecar = with(
                run(SIDECAR, "trap 'exit 0' TERM; while true; do sleep 0.05; done"),
                &json!({"restartPolicy": "Always"}),
            );
            spec["initContainers"] = json!([sidecar, run("i", "true")]);
        }
        3 => spec["containers"] = json!([run("c", "true"), run("e", &short)]),
        4 => {
            let probe = with(exec("true"), &json!({"periodSeconds": 1}));
            let probes = json!({"readinessProbe": probe, "startupProbe": probe});
            spec = json!({"restartPolicy": "Always", "containers": [with(run("c", ever), &probes)]});
        }
        5 => {
            let hooks = json!({"lifecycle": {"postStart": exec("true"), "preStop": exec("sleep 0.1")}});
            spec = json!({"restartPolicy": "Always", "containers": [with(run("c", ever), &hooks)]});
        }
        OWN_USERS => spec["hostUsers"] = json!(false),
        7 => {
            let port = json!({"ports": [{"containerPort": 80, "hostPort": PORT + number % 1000}]});
            spec = json!({"restartPolicy": "Always", "containers": [with(run("c", ever), &port)]});
        }
        FAILS => {
            let script = "[ -e /m/again ] || { touch /m/again; exit 1; }";
            spec = json!({"restartPolicy": "OnFailure", "containers": [run("c", script)]});
        }
        9 => {
            spec["shareProcessNamespace"] = json!(true);
            spec["containers"] =
                json!([run("c", "cat /v/a /v/password /v/name > /dev/null"), run("e", &short)]);
            let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().unwrap();
            mounts.push(json!({"name": "v", "mountPath": "/v"}));
        }
        10 => {
            let limits = json!({"resources": {"limits": {"cpu": "100m", "memory": "32Mi"}}});
            spec["containers"] = json!([with(run("c", &short), &limits)]);
        }
        _ => {
            let claimed = format!("echo here > /part/{name} && cat /claimed/part/{name}");
            spec["containers"] = json!([run("c", &claimed)]);
            let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().unwrap();
            mounts.push(json!({"name": "claimed", "mountPath": "/claimed"}));
            mounts.push(json!({"name": "claimed", "mountPath": "/part", "subPath": "part"}));
        }
    }
    spec["terminationGracePeriodSeconds"] = json!(1);
    spec["automountServiceAccountToken"] = json!(number.is_multiple_of(2));
    spec["volumes"] = json!([
        {"name": "witness", "hostPath": {"path": witness}},
        {"name": "m", "emptyDir": {"medium": "Memory"}},
        {"name": "d", "emptyDir": {}},
        {"name": "v", "projected": {"sources": [
            {"configMap": {"name": "chaos"}}, {"secret": {"name": "chaos"}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]}},
    ]);
    if shape == SHAPES - 1 {
        let claimed = json!({"name": "claimed", "persistentVolumeClaim": {"claimName": "chaos"}});
        spec["volumes"].as_array_mut().unwrap().push(claimed);
    }
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {LABEL: "y"}}, "spec": spec})).unwrap()
}

/// Its phase; empty before it has one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it is at its end.
pub fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it runs until somebody deletes it.
pub fn is_lasting(pod: &Pod) -> bool {
    pod.spec.as_ref().unwrap().restart_policy.as_deref() == Some("Always")
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let lists = pod.status.iter().flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses));
    lists.flatten()
}

/// What is wrong with what ran of a pod. One that was `struck` lost a shim or a launcher: nobody may have seen how a
/// container of it ended, and whoever starts such ones again does so.
pub fn problems(pod: &Pod, witness: &Path, struck: bool) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap();
    let never = pod.spec.as_ref().unwrap().restart_policy.as_deref() == Some("Never");
    let mut found = Vec::new();
    for status in statuses(pod) {
        let ran = std::fs::read_to_string(witness.join(format!("{name}.{}", status.name)));
        let ran = ran.unwrap_or_default().lines().count();
        let once = if shape_of(name) == FAILS { 2 } else { 1 };
        let fits = match struck {
            false => ran == once,
            // A sidecar is started again, whatever its pod is.
            true if never && status.name != SIDECAR => ran <= 1,
            true => ran <= 1 + usize::try_from(status.restart_count).unwrap(),
        };
        if !fits || phase(pod) == "Succeeded" && ran == 0 {
            found.push(format!("{name}.{} began {ran} times; {status:?}", status.name));
        }
    }
    if phase(pod) == "Failed" && !struck {
        found.push(format!("{name} failed: {:?}", pod.status));
    }
    found
}

fn shape_of(name: &str) -> u64 {
    name.trim_start_matches('p').parse::<u64>().unwrap() % SHAPES
}

/// Whether a lasting pod's container is there: somebody holds its lock.
pub fn lives(pod: &Pod, witness: &Path) -> bool {
    let lock = witness.join(format!("{}.c.lock", pod.metadata.name.as_deref().unwrap()));
    let free = Command::new("flock").arg("-n").arg(lock).arg("true").status().unwrap().success();
    !free
}
