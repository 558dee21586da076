//! Our kubelet on containerd and runc, where they are installed.

use crate::cluster::{Cluster, is_root};
use crate::peer_runtime::Program;
use crate::{containerd, image};

#[test]
fn node_runs_pods_on_containerd() {
    let Some(program) = containerd::installed().filter(|_| is_root()) else {
        eprintln!("skipped: this needs root, and containerd and runc: apt-get install containerd runc");
        return;
    };
    let cluster = Cluster::up_on(&Program::Containerd(program), 1, &["--nodes", "1"], |_| {});
    cluster.import(&image::busybox(cluster.dir(), "docker.io/library/busybox:test"));
    let version = "get nodes -o jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}";
    assert!(cluster.k(version).starts_with("containerd://"));
    assert!(cluster.knarr(&["image", "ls"]).contains("docker.io/library/busybox:test"));
    cluster.apply(include_str!("pod.yaml"));
    cluster.k("wait --for=condition=Ready pod/web --timeout=60s");
    assert_eq!(cluster.k("exec web -- cat /www/index.html"), "from a config map");
    assert!(cluster.k("logs web").contains("serving"));
    // The built-in network connects it, as a CNI plugin: its Service leads to it.
    let ip = cluster.k("get service web -o jsonpath={.spec.clusterIP}");
    cluster.until("the service to answer", || {
        crate::cluster::fetch(&ip).is_some_and(|page| page.contains("from a config map"))
    });
    // Neither notices that the other was away.
    let identity = "get pod web -o jsonpath='{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'";
    let before = cluster.k(identity);
    cluster.kill();
    cluster.again();
    cluster.k("wait --for=condition=Ready pod/web --timeout=60s");
    assert_eq!(cluster.k(identity), before);
    cluster.k("delete pod web --timeout=60s");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
