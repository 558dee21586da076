//! Probes of gRPC services: a pod in its node's network, and a server there that tells how it is.

use std::fs::File;
use std::net::TcpListener;

use nix::sched::{CloneFlags, setns};
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;

use crate::node_pods::nodes;

/// Listens in the network of a cluster's first node.
pub fn listen(cluster: &str) -> TcpListener {
    let netns = File::open(format!("/run/knarr/{cluster}/nodes/{cluster}-1/netns")).unwrap();
    let inside = std::thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind("0.0.0.0:0").unwrap()
    });
    let listener = inside.join().unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn pod(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
         image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    command: [sleep, '1000']\n    \
         readinessProbe: {{grpc: {{port: {port}, service: boat}}, periodSeconds: 1}}\n    \
         livenessProbe: {{grpc: {{port: {port}}}, periodSeconds: 1, failureThreshold: 2, initialDelaySeconds: 5}}\n"
    )
}

#[test]
fn node_asks_grpc_services_how_they_are() {
    let Some(cluster) = nodes("1") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    let tell = |name: &str, status| runtime.block_on(reporter.set_service_status(name, status));
    tell("boat", ServingStatus::NotServing);
    let listener = listen(cluster.name());
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    cluster.apply(&pod("asked", port));
    let describe = "describe pod asked";
    cluster.shows(describe, "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")");
    tell("boat", ServingStatus::Serving);
    cluster.k("wait --for=condition=Ready pod/asked --timeout=30s");
    let restarts = "get pod asked -o jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.k(restarts), "0");
    if crate::peer_runtime::wanted().is_none() {
        // In the node's network it has the node's name.
        let names = cluster.k("exec asked -- sh -c 'hostname; cat /etc/hostname; echo $HOSTNAME'");
        assert_eq!(names.lines().collect::<Vec<_>>(), vec![format!("{}-1", cluster.name()); 3]);
    }
    tell("", ServingStatus::NotServing);
    cluster.becomes(restarts, "1");
    cluster.says(describe, &["Container c failed liveness probe, will be restarted"]);
    tell("", ServingStatus::Serving);

    cluster.apply(&pod("nobody", 1));
    let ip =
        cluster.k("get nodes -o jsonpath='{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}'");
    let why = format!(
        "Readiness probe failed: timeout: failed to connect service \"{ip}:1\" within 1s: context deadline exceeded"
    );
    cluster.shows("describe pod nobody", &why);
}
