//! A node's own API, asked through the API server as tools do it.

use cri::pods::pods_client::PodsClient;
use cri::pods::{EventType, GetPodRequest, ListPodsRequest, WatchPodsRequest};

use crate::cluster::Cluster;
use crate::node_devices::kubelet_folder;
use crate::node_pods::nodes;
use crate::upstream;

/// What happens to pods is told on the node itself, and how they are.
fn pods_are_told_on_a_socket(cluster: &Cluster) {
    let ty = schema::builtin().kind("", "v1", "Pod").unwrap().ty.clone();
    let decoded = |pod: &[u8]| schema::serde::from_protobuf::<serde_json::Value>(&ty, pod).unwrap();
    let socket = kubelet_folder(cluster).join("pods-api/pods-api.sock");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client =
            PodsClient::new(cri::channel(&format!("unix://{}", socket.display())).await.unwrap());
        let pods = client.list_pods(ListPodsRequest {}).await.unwrap().into_inner().pods;
        let pods: Vec<_> = pods.iter().map(|pod| decoded(pod)).collect();
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "p").unwrap();
        assert_eq!(pod["status"]["phase"], "Running");
        let pod_uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let one = client.get_pod(GetPodRequest { pod_uid }).await.unwrap().into_inner();
        assert_eq!(decoded(&one.pod)["spec"], pod["spec"]);
        let missing = client.get_pod(GetPodRequest { pod_uid: "no".to_owned() }).await.unwrap_err();
        assert_eq!(missing.message(), "pod with UID no not found");
        let mut watch = client.watch_pods(WatchPodsRequest {}).await.unwrap().into_inner();
        let mut next = async || {
            let event = watch.message().await.unwrap().unwrap();
            (EventType::try_from(event.r#type).unwrap(), decoded(&event.pod))
        };
        for _ in &pods {
            assert_eq!(next().await.0, EventType::Added);
        }
        assert_eq!(next().await.0, EventType::InitialSyncComplete);
        cluster.kubectl(&["delete", "pod", "p", "--grace-period=1"]);
        let mut changes = 0;
        loop {
            let (kind, pod) = next().await;
            if pod["metadata"]["name"] != "p" {
                continue;
            }
            if kind == EventType::Deleted {
                break;
            }
            assert_eq!(kind, EventType::Modified);
            changes += 1;
        }
        assert!(changes > 0, "that it ended");
    });
}

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
    let of_the_machine =
        "container_memory_usage_bytes{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}";
    let by_runtime = [
        used,
        "container_scrape_error 0",
        of_the_machine,
        "machine_memory_bytes{boot_id=\"",
        "image=\"\",name=\"\",namespace=\"default\",pod=\"p\"}",
        "container_threads{container=\"c\"",
        "container_memory_cache{container=\"c\"",
        "container_cpu_user_seconds_total{container=\"c\"",
    ];
    // Upstream's does not know containers of our runtime.
    let by_runtime = &by_runtime[..if upstream::wanted().is_some() { 5 } else { 8 }];
    for (path, words) in [
        ("healthz", &["ok"][..]),
        ("pods", &["\"kind\":\"PodList\"", "\"name\":\"p\""]),
        ("configz", &["\"kubeletconfig\"", "\"maxPods\":110"]),
        ("stats/summary", &["\"podRef\"", "\"workingSetBytes\"", "\"ephemeral-storage\"", "\"network\""]),
        (
            "metrics",
            &[
                "kubelet_running_pods",
                "kubelet_node_name",
                "kubelet_image_manager_ensure_image_requests_total{present_locally=\"true\",pull_policy=\"",
                "rest_client_requests_total{code=\"20",
                "storage_operation_duration_seconds_count{migrated=\"false\",operation_name=\"volume_mount\",status=\"success\",volume_plugin=\"kubernetes.io/projected\"}",
                "volume_manager_total_volumes{plugin_name=\"kubernetes.io/projected\",state=\"actual_state_of_world\"}",
            ],
        ),
        (
            "metrics/resource",
            &[
                "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"p\"}",
                "node_memory_working_set_bytes",
            ],
        ),
        ("metrics/cadvisor", by_runtime),
    ] {
        let answer = get(path).unwrap();
        for word in words {
            assert!(answer.contains(word), "{path} lacks {word}: {answer}");
        }
    }
    let page = get("metrics/cadvisor").unwrap();
    let mut series: Vec<&str> =
        page.lines().filter_map(|line| line.rsplit_once('}')).map(|(s, _)| s).collect();
    series.sort_unstable();
    let twice: Vec<_> = series.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(!series.is_empty() && twice.is_empty(), "told twice: {twice:#?}");
    let summary: serde_json::Value = serde_json::from_str(&get("stats/summary").unwrap()).unwrap();
    let resident = summary["node"]["memory"]["rssBytes"].as_u64();
    assert!(resident.is_some_and(|bytes| bytes > 0), "{summary}");
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
    // Upstream's kubelet of v1.36 has no such socket.
    if upstream::wanted().is_none() {
        pods_are_told_on_a_socket(&cluster);
    }
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
