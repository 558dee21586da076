//! The program as a user meets it: `knarr up`, a real kubectl, real containers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where something unexpected happens"
)]

mod chaos;
mod cluster;
mod cni;
mod containerd;
mod control_plane;
mod crio;
mod critest;
#[path = "../../../kubelet/examples/dra-driver/driver.rs"]
mod dra_driver;
mod faults;
mod image;
mod image_build;
mod join;
mod kubectl;
mod kubectl_admin;
mod kubectl_create;
mod kubectl_get;
mod kubectl_rollout;
mod kubectl_write;
mod node_alone;
mod node_api;
mod node_claims;
mod node_claims_waiting;
mod node_classes;
mod node_configured;
mod node_containerd;
mod node_cpus;
mod node_devices;
mod node_faults;
mod node_fields;
mod node_gates;
mod node_grpc;
mod node_kubectl;
mod node_logs;
mod node_network;
mod node_page;
mod node_pods;
mod node_preemption;
mod node_pressure;
mod node_refusals;
mod node_settings;
mod node_takeover;
mod node_tuned;
mod node_volumes;
#[path = "../../../xtask/src/bench/peers/config.rs"]
mod peer_config;
mod peer_runtime;
mod upstream;
mod volume_binding;
mod volume_claims;

use cluster::Cluster;

#[test]
fn what_was_acknowledged_survives_a_killed_control_plane() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    for number in 0..20 {
        cluster.kubectl(&["create", "configmap", &format!("kept-{number}"), "--from-literal=a=b"]);
    }
    cluster.kubectl(&["create", "secret", "generic", "s", "--from-literal=password=hidden"]);
    cluster.kill();
    cluster.again();
    let names = cluster.kubectl(&["get", "configmaps", "-o", "name"]);
    assert_eq!(names.matches("configmap/kept-").count(), 20, "{names}");
    let secret = cluster.kubectl(&["get", "secret", "s", "-o", "jsonpath={.data.password}"]);
    assert_eq!(secret, "aGlkZGVu");
    assert!(!cluster.store_contains(b"hidden"), "a secret lies in the store in the clear");
}

#[test]
fn a_custom_resource_is_served_pruned_and_validated() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.apply(include_str!("crd.yaml"));
    // Conditions that are not there at all are an error for kubectl.
    let established = ["wait", "--for=condition=Established", "crd/boats.example.com", "--timeout=10s"];
    cluster.until("the definition to be established", || cluster.try_kubectl(&established).is_ok());
    let boat = |length: &str| {
        format!(
            "apiVersion: example.com/v1\nkind: Boat\nmetadata: {{name: a}}\nspec: {{length: {length}, other: 1}}\n"
        )
    };
    cluster.until("the resource", || cluster.try_apply(&boat("12"), &["--validate=false"]).is_ok());
    let stored = cluster.kubectl(&["get", "boat", "a", "-o", "jsonpath={.spec}"]);
    assert_eq!(stored, r#"{"length":12}"#);
    let refused = cluster.try_apply(&boat("0"), &["--validate=false"]).unwrap_err();
    assert!(
        refused.contains(
            "spec.length: Invalid value: 0: spec.length in body should be greater than or equal to 1"
        ),
        "{refused}"
    );
}

#[test]
fn pods_run_and_outlive_every_knarr_process() {
    let Some(cluster) = node_pods::nodes_with_services(&["--nodes", "1"]) else { return };
    cluster.apply(include_str!("pod.yaml"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "cat", "/www/index.html"]), "from a config map");
    assert!(cluster.kubectl(&["logs", "web"]).contains("serving"));
    let ip = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    cluster.until("the service to answer", || {
        cluster::fetch(&ip).is_some_and(|page| page.contains("from a config map"))
    });
    let identity = [
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}",
    ];
    let ready = ["get", "pod", "web", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')]}"];
    let (before, ready_before) = (cluster.kubectl(&identity), cluster.kubectl(&ready));
    cluster.kill();
    cluster.again();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    assert_eq!(cluster.kubectl(&identity), before);
    assert_eq!(cluster.kubectl(&ready), ready_before, "a new kubelet takes no pod from its Services");
    cluster.until("the service to answer again", || cluster::fetch(&ip).is_some());
    let removed = cluster.kubectl(&["delete", "pod", "web", "--timeout=60s"]);
    assert!(removed.contains("deleted"), "{removed}");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
