//! Pods that make way for one that matters more.

use crate::cluster::Cluster;
use crate::node_pods::nodes;

/// A pod that asks for six tenths of its node, and lets itself be asked to end for long.
fn pod(name: &str, most: u64, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  terminationGracePeriodSeconds: 5\n  \
         containers:\n  - name: c\n    image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    \
         command: [sh, -c, \"trap '' TERM; while true; do sleep 0.1; done\"]\n    \
         resources: {{requests: {{cpu: {most}m}}}}\n"
    )
}

const CLASSES: &str = "
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: patient}
value: 1000
preemptionPolicy: Never
";

fn waits(cluster: &Cluster, name: &str, why: &str) {
    let condition =
        format!("get pod {name} -o jsonpath='{{.status.conditions[?(@.type==\"PodScheduled\")].message}}'");
    let why = format!("0/1 nodes are available: 1 Insufficient cpu.{why}");
    cluster.becomes(&condition, &why);
    cluster.comes_to_say(&format!("events --for=pod/{name}"), &["FailedScheduling", &why]);
}

#[test]
fn node_is_left_by_pods_that_matter_less() {
    let Some(cluster) = nodes("1") else { return };
    let cpu = cluster.k("get nodes -o jsonpath={.items[0].status.allocatable.cpu}");
    let millis =
        cpu.strip_suffix('m').map_or_else(|| cpu.parse::<u64>().unwrap() * 1000, |m| m.parse().unwrap());
    let most = millis * 6 / 10;
    cluster.apply(CLASSES);
    let none = "restartPolicy: Always";
    cluster.apply(&pod("less", most, none));
    cluster.k("wait --for=condition=Ready pod/less --timeout=30s");
    cluster.apply(&pod("equal", most, none));
    let nobody = format!("{} preemption: ", crate::control_plane::of_claims()[0]);
    waits(
        &cluster,
        "equal",
        &format!("{nobody}0/1 nodes are available: 1 No preemption victims found for incoming pod."),
    );
    cluster.apply(&pod("patient", most, "priorityClassName: patient"));
    waits(&cluster, "patient", &format!("{nobody}not eligible due to preemptionPolicy=Never."));
    cluster.apply(&pod("vast", 2 * millis, "priorityClassName: high"));
    waits(
        &cluster,
        "vast",
        &format!("{nobody}0/1 nodes are available: 1 Preemption is not helpful for scheduling."),
    );
    cluster.k("delete pod patient vast");

    let uid_of = |name: &str| cluster.k(&format!("get pod {name} -o jsonpath={{.metadata.uid}}"));
    let node = cluster.k("get nodes -o jsonpath={.items[0].metadata.name}");
    cluster.apply(&pod("more", most, "priorityClassName: high"));
    cluster.becomes("get pod more -o jsonpath={.status.nominatedNodeName}", &node);
    let disrupted = "get pod less -o jsonpath='{.status.conditions[?(@.type==\"DisruptionTarget\")].reason}: \
                     {.status.conditions[?(@.type==\"DisruptionTarget\")].message}'";
    let why = "PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod";
    assert_eq!(cluster.k(disrupted), why);
    cluster.comes_to_say(
        "events --for=pod/less",
        &[&format!("Normal Preempted Pod/less Preempted by pod {} on node {node}", uid_of("more"))],
    );
    cluster.comes_to_say(
        "events --for=pod/more",
        &["FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu."],
    );
    // What is freed is not the equal one's, though it has waited longer.
    cluster.k("wait --for=condition=Ready pod/more --timeout=60s");
    cluster.becomes("get pod less --ignore-not-found -o name", "");
    assert_eq!(cluster.k("get pod equal -o jsonpath={.spec.nodeName}"), "");
    assert_eq!(cluster.k("get pod more -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
}
