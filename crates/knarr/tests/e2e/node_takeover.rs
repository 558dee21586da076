//! Another kubelet takes over a node, and its pods go on: upstream's after ours, and ours after upstream's.

use crate::cluster::{Cluster, is_root};
use crate::{control_plane, image, peer_runtime, upstream};

/// Whoever looks after the pod sees that it is not ready, and that it is again.
fn is_looked_after(cluster: &Cluster) {
    let ready = "get pod burstable -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'";
    // A kubelet that has just begun knows its pods a moment later.
    let touch = ["exec", "burstable", "-c", "b", "--", "touch", "/unready"];
    cluster.until("the pod to be known", || cluster.try_kubectl(&touch).is_ok());
    cluster.becomes(ready, "False");
    cluster.k("exec burstable -c b -- rm /unready");
    cluster.becomes(ready, "True");
}

#[test]
fn node_changes_its_kubelet_under_running_pods() {
    let Some(program) = upstream::wanted() else {
        eprintln!("skipped: KNARR_E2E_KUBELET names no kubelet");
        return;
    };
    if !is_root() || peer_runtime::wanted().is_some() || control_plane::wanted().is_some() {
        eprintln!("skipped: this needs root, our runtime and our control plane");
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1"]);
    cluster.import(&image::busybox(cluster.dir(), "docker.io/library/busybox:test"));
    cluster.apply(include_str!("manifests/takeover.yaml"));
    let all = |condition: &str| {
        for pod in ["burstable", "guaranteed", "plain"] {
            cluster.k(&format!("wait --for={condition} pod/{pod} --timeout=60s"));
        }
    };
    all("condition=Ready");
    let identities = || {
        cluster.k("get pods -o jsonpath='{range .items[*].status.containerStatuses[*]}{.containerID} {.restartCount} {end}'")
    };
    let before = identities();
    let (version, writes) =
        ("get nodes -o jsonpath={.items[0].status.nodeInfo.kubeletVersion}", "exec plain -- cat /d/x");
    let own = cluster.k(version);

    cluster.use_kubelet(&program, 1);
    cluster.until("upstream's kubelet", || cluster.k(version) != own);
    cluster.nodes_are_ready(1);
    is_looked_after(&cluster);
    assert_eq!(cluster.k(writes), "kept\n");
    assert_eq!(identities(), before);

    cluster.own_kubelets();
    cluster.until("our kubelet", || cluster.k(version) == own);
    cluster.nodes_are_ready(1);
    is_looked_after(&cluster);
    all("condition=Ready");
    assert_eq!(cluster.k(writes), "kept\n");
    assert_eq!(identities(), before);
    cluster.k("delete pods --all --timeout=60s");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
