//! A node's own API, asked through the API server as tools do it.

use crate::node_pods::nodes;
use crate::upstream;

#[test]
fn node_api_tells_of_pods_and_what_they_use() {
    let Some(cluster) = nodes("1") else { return };
    let node = format!("{}-1", cluster.name());
    cluster.apply(&include_str!("manifests/changes.yaml").replace("NODE", &node));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    let get =
        |path: &str| cluster.try_kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")]);
    // Upstream's kubelet tells at first what it knew two seconds ago.
    cluster.until("the pod to run", || get("runningpods/").is_ok_and(|pods| pods.contains("\"name\":\"p\"")));
    // It asks cAdvisor, which knows the containers of two other runtimes by name.
    let used = match upstream::wanted() {
        Some(_) => "container_memory_working_set_bytes{",
        None => "container_memory_working_set_bytes{container=\"c\"",
    };
    for (path, words) in [
        ("healthz", &["ok"][..]),
        ("pods", &["\"kind\":\"PodList\"", "\"name\":\"p\""]),
        ("configz", &["\"kubeletconfig\"", "\"maxPods\":110"]),
        ("stats/summary", &["\"podRef\"", "\"workingSetBytes\"", "\"ephemeral-storage\"", "\"network\""]),
        ("metrics", &["kubelet_running_pods", "kubelet_node_name"]),
        (
            "metrics/resource",
            &[
                "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"p\"}",
                "node_memory_working_set_bytes",
            ],
        ),
        ("metrics/cadvisor", &[used, "container_scrape_error 0"]),
    ] {
        let answer = get(path).unwrap();
        for word in words {
            assert!(answer.contains(word), "{path} lacks {word}: {answer}");
        }
    }
    // Who may not ask the node is told so by the node itself.
    let nobody = ["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/pods"), "--as", "nobody"];
    assert!(cluster.try_kubectl(&nobody).unwrap_err().contains("forbidden"));
    assert!(get("no/such/path").is_err());
    // A node tells the scheduler and its tools what it has, and keeps something back.
    let status = cluster.kubectl(&[
        "get",
        "node",
        &node,
        "-o",
        "jsonpath={.status.capacity.memory} {.status.allocatable.memory}",
    ]);
    let (capacity, allocatable) = status.split_once(' ').unwrap();
    assert_ne!(capacity, allocatable, "the eviction threshold is not given to pods");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
