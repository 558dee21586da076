//! Pods that a node refuses, what it gives up for a critical one, and where its own configuration says so.

use std::fs;

use crate::cluster::Cluster;
use crate::node_pods::nodes_with;

fn get(cluster: &Cluster, path: &str) -> String {
    let node = format!("{}-1", cluster.name());
    cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")])
}

fn status(cluster: &Cluster, pod: &str, field: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={{.status.{field}}}")])
}

#[test]
fn node_refuses_what_it_cannot_run_and_makes_room_for_critical_pods() {
    let folder = tempfile::tempdir().unwrap();
    let (file, drop_ins) = (folder.path().join("kubelet.yaml"), folder.path().join("kubelet.conf.d"));
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    fs::write(&file, format!("{head}maxPods: 17\nallowedUnsafeSysctls: ['kernel.msg*']\n")).unwrap();
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("10-pods.conf"), format!("{head}maxPods: 19\nenableSystemLogQuery: true\n"))
        .unwrap();
    let [file, drop_ins] = [file, drop_ins].map(|path| path.display().to_string());
    let flags = ["--nodes", "1", "--kubelet-config", &file, "--kubelet-config-dir", &drop_ins];
    let Some(cluster) = nodes_with(&flags) else { return };
    let node = format!("{}-1", cluster.name());
    let known = cluster.kubectl(&[
        "get",
        "node",
        &node,
        "-o",
        "jsonpath={.status.capacity.pods} {.status.allocatable.cpu}",
    ]);
    let (pods, cpu) = known.split_once(' ').unwrap();
    assert_eq!(pods, "19", "the drop-in wins");
    let millis =
        cpu.strip_suffix('m').map_or_else(|| cpu.parse::<u64>().unwrap() * 1000, |m| m.parse().unwrap());
    let fill = |yaml: &str| yaml.replace("NODE", &node).replace("MOST", &format!("{}m", millis * 6 / 10));

    let [first, rest] =
        include_str!("manifests/refusals.yaml").split_once("---\n").map(|(a, b)| [a, b]).unwrap();
    cluster.apply(&fill(first));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/less", "--timeout=60s"]);
    cluster.apply(&fill(rest));
    for (pod, reason) in [("late", "OutOfcpu"), ("picky", "NodeAffinity"), ("unsafe", "SysctlForbidden")] {
        cluster.until(pod, || status(&cluster, pod, "phase") == "Failed");
        assert_eq!(status(&cluster, pod, "reason"), reason);
    }
    let late = status(&cluster, "late", "message");
    assert!(late.contains("Node didn't have enough resource: cpu, requested: "), "{late}");
    cluster.until("allowed", || status(&cluster, "allowed", "phase") == "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "allowed"]), "65000\n");

    cluster.apply(&fill(include_str!("manifests/critical.yaml")));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/critical", "--timeout=60s"]);
    assert_eq!(status(&cluster, "less", "phase"), "Failed");
    assert_eq!(status(&cluster, "less", "reason"), "Preempting");
    let disrupted = "conditions[?(@.type==\"DisruptionTarget\")].reason";
    assert_eq!(status(&cluster, "less", disrupted), "TerminationByKubelet");

    let metrics = get(&cluster, "metrics");
    for line in [
        "kubelet_preemptions{preemption_signal=\"cpu\"} 1",
        "kubelet_admission_rejections_total{reason=\"OutOfcpu\"} 1",
        "kubelet_admission_rejections_total{reason=\"SysctlForbidden\"} 1",
    ] {
        assert!(metrics.lines().any(|told| told == line), "no {line} in {metrics}");
    }
    assert!(get(&cluster, "configz").contains("\"enableSystemLogQuery\":true"));
    assert!(get(&cluster, "statusz").contains("kubelet statusz"));
    assert!(get(&cluster, "flagz").contains("kubelet flagz"));
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
