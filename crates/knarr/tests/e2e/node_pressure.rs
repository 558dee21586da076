//! A node that runs short: what it frees, whom it gives up, and how it says so. Logs that outgrow their files.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::node_pods::nodes_after;
use crate::{image, peer_runtime, upstream};

/// Bytes that all pods together may have.
const MEMORY: u64 = 450 << 20;

/// The node's folders are a small disk of their own, and its pods have little memory.
fn short_node() -> Option<Cluster> {
    if peer_runtime::wanted().is_some() {
        eprintln!(
            "skipped: images have to be on the node's small disk, and another runtime keeps them elsewhere"
        );
        return None;
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    let reserved = total * 1024 - MEMORY;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubelet.yaml");
    let mut text = include_str!("manifests/pressure-kubelet.yaml").replace("RESERVED", &reserved.to_string());
    if upstream::wanted().is_some() {
        // What looks into cgroups for it knows two other runtimes only (decision 0015): it asks ours.
        text += "featureGates: {PodAndContainerStatsFromCRI: true}\nimageMinimumGCAge: 1s\n";
    }
    fs::write(&file, text).unwrap();
    let flags = ["--nodes", "1", "--kubelet-config", &file.display().to_string()];
    let cluster = nodes_after(&flags, |cluster| {
        let disk = cluster.node_dir(1);
        fs::create_dir_all(&disk).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"]).arg(disk);
        assert!(mount.status().unwrap().success());
    })?;
    let unused = "0123456789abcdef".repeat(1 << 20);
    cluster.import(&image::busybox_with(cluster.dir(), "docker.io/library/unused:test", &unused));
    if upstream::wanted().is_some() {
        // It knows how old images are when it starts, and each five minutes; young ones stay.
        cluster.kill();
        cluster.again();
        cluster.nodes_are_ready(1);
    }
    Some(cluster)
}

fn status(cluster: &Cluster, pod: &str) -> Value {
    serde_json::from_str(&cluster.k(&format!("get pod {pod} -o jsonpath={{.status}}"))).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[test]
fn node_that_runs_short_frees_what_nobody_uses_and_then_gives_up_pods() {
    let Some(cluster) = short_node() else { return };
    let node = format!("{}-1", cluster.name());
    cluster.write("pressure.yaml", include_str!("manifests/pressure.yaml"));
    cluster.k("apply -f pressure.yaml");
    cluster.k("wait --for=condition=Ready pod/counts pod/modest --timeout=30s");
    let counted = cluster.dir().join("counted");
    let mut follow = cluster.command();
    let out = fs::File::create(&counted).unwrap();
    let mut follow = follow.args(["logs", "-f", "counts"]).stdout(out).stderr(Stdio::null()).spawn().unwrap();

    for pod in ["limited", "sized", "hungry"] {
        cluster.until(&format!("{pod} to be given up"), || status(&cluster, pod)["phase"] == "Failed");
        assert_eq!(status(&cluster, pod)["reason"], "Evicted");
    }
    let message = |pod: &str| status(&cluster, pod)["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message("limited"),
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
    );
    let own = upstream::wanted().is_none();
    if own {
        assert_eq!(message("sized"), "Usage of EmptyDir volume \"m\" exceeds the limit \"2Mi\". ");
    }
    let why = message("hungry");
    assert!(
        why.starts_with("The node was low on resource: memory. Threshold quantity: 100Mi, available: ")
            && why.ends_with(", request is 20Mi, has larger consumption of memory. "),
        "{why}"
    );
    let hungry = status(&cluster, "hungry");
    let disrupted = condition(&hungry, "DisruptionTarget").unwrap();
    assert_eq!((&disrupted["reason"], &disrupted["message"]), (&"TerminationByKubelet".into(), &why.into()));
    cluster.says("events --for=pod/hungry", &["Warning Evicted", "The node was low on resource: memory."]);

    // An image that nobody uses goes before any pod that fills the disk.
    cluster
        .until("the image to go", || !cluster.knarr(&["image", "ls"]).contains("docker.io/library/unused"));
    if !own {
        eprintln!(
            "skipped in part: what upstream's kubelet knows of its disk is old, and it gives up pods for that"
        );
        follow.kill().unwrap();
        follow.wait().unwrap();
        return;
    }
    for pod in ["writer", "modest", "counts"] {
        assert_eq!(status(&cluster, pod)["phase"], "Running", "{pod}");
    }
    let taints = format!("get node {node} -o jsonpath='{{.spec.taints[*].key}}'");
    cluster.shows(&taints, "node.kubernetes.io/memory-pressure");
    cluster.shows(&taints, "node.kubernetes.io/disk-pressure");
    cluster.says(
        &format!("describe node {node}"),
        &[
            "MemoryPressure True",
            "KubeletHasInsufficientMemory kubelet has insufficient memory available",
            "DiskPressure True",
            "KubeletHasDiskPressure kubelet has disk pressure",
            "status is now: NodeHasSufficientMemory",
            "status is now: NodeHasInsufficientMemory",
            "Attempting to reclaim memory",
            "Attempting to reclaim ephemeral-storage",
        ],
    );
    let refused = "run late --image=docker.io/library/busybox:test --restart=Never";
    cluster.k(&format!("{refused} --overrides={{\"spec\":{{\"nodeName\":\"{node}\"}}}}"));
    cluster.until("the late one", || status(&cluster, "late")["reason"] == "Evicted");
    let late = message("late");
    assert!(late.starts_with("Pod was rejected: The node had condition: [MemoryPressure"), "{late}");
    let metrics = cluster.k(&format!("get --raw /api/v1/nodes/{node}/proxy/metrics"));
    for signal in ["allocatableMemory.available", "emptydirfs.limit", "ephemeralpodfs.limit"] {
        let line = format!("kubelet_evictions{{eviction_signal=\"{signal}\"}} 1");
        assert!(metrics.lines().any(|told| told == line), "no {line} in {metrics}");
    }

    follow.kill().unwrap();
    follow.wait().unwrap();
    let logs = cluster.node_dir(1).join("log/pods");
    let pod = fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path());
    let pod = pod.into_iter().find(|path| path.display().to_string().contains("default_counts_")).unwrap();
    let files: Vec<_> =
        fs::read_dir(pod.join("c")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "rotated at least twice, and no more kept than allowed: {files:?}");
    let counted = fs::read_to_string(counted).unwrap();
    let whole = counted.rsplit_once('\n').unwrap().0;
    for (index, line) in whole.lines().enumerate() {
        assert_eq!(line, format!("line {}", index + 1), "nothing is lost and nothing told twice");
    }
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
