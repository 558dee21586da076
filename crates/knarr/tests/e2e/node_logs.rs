//! Logs of a node's containers, as pods that collect them find them.

use std::path::Path;

use crate::cluster::Cluster;
use crate::node_pods::nodes;
use crate::{control_plane, peer_runtime, upstream};

const FOLDERS: [&str; 2] = ["/var/log/pods", "/var/log/containers"];

/// Removes what this test has made the nodes make on the machine.
struct Made(Vec<&'static str>);

impl Made {
    fn before() -> Self {
        Self(FOLDERS.into_iter().filter(|folder| !Path::new(folder).exists()).collect())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[test]
fn node_shows_collectors_the_logs_of_its_containers() {
    if control_plane::wanted().is_some() || upstream::wanted().is_some() {
        eprintln!("skipped: a kubelet by itself does not show its pods other logs than the machine's");
        return;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_shared = mounts.lines().any(|line| line.contains(" / / ") && line.contains(" shared:"));
    if peer_runtime::is_crio() && !is_shared {
        eprintln!("skipped: CRI-O follows mounts below / only where the machine shares them");
        return;
    }
    let _made = Made::before();
    let Some(cluster) = nodes("2") else { return };
    let name = cluster.name();
    for number in [1, 2] {
        let pods = include_str!("manifests/logs.yaml").replace("NODE", &format!("{name}-{number}"));
        cluster.apply(&pods.replace("NUMBER", &number.to_string()));
    }
    cluster.k("wait --for=condition=Ready pod --all --timeout=60s");
    for number in [1, 2] {
        found(&cluster, number);
    }
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

/// A node's own, by each way that charts take, and no other node's.
fn found(cluster: &Cluster, number: usize) {
    let sh =
        |script: &str| cluster.kubectl(&["exec", &format!("collects-{number}"), "--", "sh", "-c", script]);
    for log in [
        "/var/log/containers/says-NUMBER_default_c-*.log",
        "/var/log/pods/default_says-NUMBER_*/c/0.log",
        "/host/var/log/containers/says-NUMBER_default_c-*.log",
        "/pods/default_says-NUMBER_*/c/0.log",
        "/parts/pods/default_says-NUMBER_*/c/0.log",
    ] {
        let said = sh(&format!("cat {}", log.replace("NUMBER", &number.to_string())));
        assert!(said.ends_with(&format!(" stdout F said by {number}\n")), "{log}: {said}");
    }
    let seen = sh("ls /var/log/containers /var/log/pods /pods /parts/containers");
    let other = format!("says-{}_", 3 - number);
    assert!(seen.contains("says-") && !seen.contains(&other), "{seen}");
    let refused = cluster.try_kubectl(&["exec", &format!("collects-{number}"), "--", "touch", "/pods/x"]);
    assert!(refused.unwrap_err().contains("Read-only file system"));
    let node = format!("/api/v1/nodes/{}-{number}/proxy/logs/pods/", cluster.name());
    let told = cluster.kubectl(&["get", "--raw", &node]);
    assert!(told.contains(&format!("default_says-{number}_")) && !told.contains(&other), "{told}");
}
