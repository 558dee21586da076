use std::path::Path;

use cri::v1::*;

use crate::node::{Node, eventually, texts};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_ends_and_leaves_nothing() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("one")).await;
    let id = node.run(&pod, Node::shell("c", "echo out; echo err >&2; echo -n last; exit 3")).await;
    let status = node.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at, "{status:?}");
    let log = std::fs::read_to_string(&status.log_path).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    let stdout: Vec<_> = lines.iter().filter(|l| l[1] == "stdout").map(|l| (l[2], l[3])).collect();
    assert_eq!(stdout, [("F", "out"), ("P", "last")], "the last one has no end");
    assert_eq!(lines.iter().filter(|l| l[1] == "stderr").map(|l| l[3]).collect::<Vec<_>>(), ["err"]);
    for line in &lines {
        line[0].parse::<jiff::Timestamp>().unwrap_or_else(|e| panic!("{:?}: {e}", line[0]));
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_after_the_grace_period() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("stop")).await;
    let polite = node
        .run(&pod, Node::shell("polite", "trap 'exit 7' TERM; echo ready; while true; do sleep 0.05; done"))
        .await;
    let deaf = node
        .run(&pod, Node::shell("deaf", "trap '' TERM; echo ready; while true; do sleep 0.05; done"))
        .await;
    for id in [&polite, &deaf] {
        let log = node.status(id).await.log_path;
        eventually("the trap", || async { texts(Path::new(&log)) }, |text| text == "ready").await;
    }
    for (id, timeout) in [(&polite, 20), (&deaf, 1)] {
        let request = StopContainerRequest { container_id: id.clone(), timeout };
        node.runtime.stop_container(request.clone()).await.unwrap();
        // Again, as a kubelet may.
        node.runtime.stop_container(request).await.unwrap();
    }
    assert_eq!(node.status(&polite).await.exit_code, 7);
    assert_eq!(node.status(&deaf).await.exit_code, 137);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_what_happens_in_order() {
    let mut node = Node::new().await;
    let mut events = node.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    let pod = node.run_pod(node.pod("events")).await;
    let id = node.run(&pod, Node::shell("c", "true")).await;
    node.wait_exited(&id).await;
    node.remove_pod(&pod).await;
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let event = events.message().await.unwrap().unwrap();
        let whose = if event.container_id == pod { "pod" } else { "container" };
        if whose == "container" && event.container_event_type() == ContainerEventType::ContainerStoppedEvent {
            assert_eq!(event.containers_statuses[0].state(), ContainerState::ContainerExited);
            assert_eq!(event.pod_sandbox_status.as_ref().unwrap().id, pod);
        }
        let kind = event
            .container_event_type()
            .as_str_name()
            .trim_start_matches("CONTAINER_")
            .trim_end_matches("_EVENT");
        seen.push(format!("{whose} {kind}"));
    }
    assert_eq!(
        seen,
        [
            "pod CREATED",
            "pod STARTED",
            "container CREATED",
            "container STARTED",
            "container STOPPED",
            "pod STOPPED",
            "container DELETED",
            "pod DELETED"
        ]
    );
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_a_start_error() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("missing")).await;
    let config = ContainerConfig { command: vec!["/no/such/program".into()], ..Node::shell("c", "") };
    let id = node.create(&pod, config).await;
    let error =
        node.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap_err();
    assert!(error.message().contains("/no/such/program"), "{}", error.message());
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_never_started_is_not_told_as_one_that_ended() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("made")).await;
    let made = node.create(&pod, Node::shell("c", "")).await;
    let stop = StopContainerRequest { container_id: made.clone(), timeout: 0 };
    node.runtime.stop_container(stop).await.unwrap();
    assert_eq!(node.status(&made).await.state(), ContainerState::ContainerCreated);
    node.start(&made).await;
    node.wait_exited(&made).await;

    let made = node.create(&pod, Node::shell("d", "")).await;
    node.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.clone() }).await.unwrap();
    assert_eq!(node.status(&made).await.state(), ContainerState::ContainerCreated);
    let start = StartContainerRequest { container_id: made };
    node.runtime.start_container(start).await.unwrap_err();
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_are_cut_and_a_rotated_log_is_reopened() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("logs")).await;
    let script = "dd if=/dev/zero bs=20000 count=1 2>/dev/null | while read -r x; do :; done; \
                  head -c 20000 /dev/zero 2>/dev/null; echo end; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; sleep 100";
    let script = script.replace("head -c 20000 /dev/zero 2>/dev/null", "seq -s , 1 4000");
    let id = node.run(&pod, Node::shell("c", &script)).await;
    let log = node.status(&id).await.log_path;
    let text = eventually(
        "the line",
        || async { std::fs::read_to_string(&log).unwrap_or_default() },
        |t| t.contains("end"),
    )
    .await;
    let marks: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(marks, ["P", "F", "F"]);
    let first = text.lines().next().unwrap().splitn(4, ' ').nth(3).unwrap();
    assert_eq!(first.len(), 16 * 1024);

    std::fs::rename(&log, format!("{log}.1")).unwrap();
    node.runtime.reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() }).await.unwrap();
    node.output(&id, "touch /tmp/go").await;
    eventually("the new log", || async { texts(Path::new(&log)) }, |text| text == "after").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_statistics_and_the_runtimes_own_state() {
    let mut node = Node::new().await;
    let mut config = node.pod("stats");
    config.labels.insert("app".into(), "a".into());
    let pod = node.run_pod(config).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let version = node.runtime.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("knarr", "v1"));
    let status = node.runtime.status(StatusRequest::default()).await.unwrap().into_inner();
    assert!(status.status.unwrap().conditions.iter().all(|c| c.status));

    let labelled = |value: &str| ListPodSandboxRequest {
        filter: Some(PodSandboxFilter {
            label_selector: [("app".to_owned(), value.to_owned())].into(),
            ..PodSandboxFilter::default()
        }),
    };
    assert_eq!(node.runtime.list_pod_sandbox(labelled("a")).await.unwrap().into_inner().items.len(), 1);
    assert_eq!(node.runtime.list_pod_sandbox(labelled("b")).await.unwrap().into_inner().items.len(), 0);
    let running = ContainerFilter {
        state: Some(ContainerStateValue { state: ContainerState::ContainerRunning as i32 }),
        id: id[..12].to_owned(),
        ..ContainerFilter::default()
    };
    let list = node
        .runtime
        .list_containers(ListContainersRequest { filter: Some(running) })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.containers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);

    let stats =
        node.runtime.container_stats(ContainerStatsRequest { container_id: id.clone() }).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let pods = node
        .runtime
        .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .stats;
    assert_eq!(pods[0].linux.as_ref().unwrap().containers.len(), 1);
    node.finish().await;
}

/// People who look for a namespace or a mount find it where containerd tells of it: `crictl inspect`, `inspectp`.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_closer_is_told_what_was_asked_of_the_kernel() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("closer")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 1234")).await;
    let info = |info: std::collections::HashMap<String, String>| {
        serde_json::from_str::<serde_json::Value>(&info["info"]).unwrap()
    };
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
    let told = info(node.runtime.container_status(request).await.unwrap().into_inner().info);
    assert_eq!(told["runtimeSpec"]["process"]["args"], serde_json::json!(["sh", "-c", "sleep 1234"]));
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: true };
    let sandbox = info(node.runtime.pod_sandbox_status(request).await.unwrap().into_inner().info);
    let namespace = &sandbox["runtimeSpec"]["linux"]["namespaces"][0];
    assert_eq!(namespace["type"], "network");
    let inside = std::fs::metadata(format!("/proc/{}/ns/net", told["pid"])).unwrap();
    let pinned = std::fs::metadata(namespace["path"].as_str().unwrap()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&inside), std::os::unix::fs::MetadataExt::ino(&pinned));
    node.finish().await;
}
