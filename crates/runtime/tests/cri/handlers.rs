use std::path::Path;

use cri::v1::*;

use crate::node::Node;

/// A container by an OCI program: its output, an exec, its exit code, its stop, its removal.
async fn works(program: &str) {
    let Some(path) = ["/usr/bin", "/usr/sbin", "/usr/local/sbin"]
        .map(|f| Path::new(f).join(program))
        .into_iter()
        .find(|p| p.exists())
    else {
        eprintln!("skipped: {program} is not installed (apt-get install {program})");
        return;
    };
    let mut node = Node::empty_with(|config| {
        config.handlers.insert("oci".into(), path);
    })
    .await;
    node.import_busybox().await;
    let request = RunPodSandboxRequest { config: Some(node.pod("oci")), runtime_handler: "oci".into() };
    let pod = node.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let ended = node.script(&pod, Node::shell("short", "echo out; exit 7")).await;
    assert_eq!(ended, (7, "out".into()));
    let id =
        node.run(&pod, Node::shell("long", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done")).await;
    // What was started is the program's own helper for a moment, and a shell that begins is not yet one that listens.
    let log = node.status(&id).await.log_path;
    crate::node::eventually(
        "the trap",
        || async { crate::node::texts(Path::new(&log)) },
        |text| text == "up",
    )
    .await;
    assert_eq!(node.output(&id, "cat /proc/1/comm").await, "sh");
    node.runtime
        .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 10 })
        .await
        .unwrap();
    assert_eq!(node.status(&id).await.exit_code, 3);
    // Its terminal comes by a socket in a folder whose path is longer than a socket's address may be.
    let terminal =
        ContainerConfig { tty: true, ..Node::shell("terminal", "test -t 0 && echo a terminal; exit 4") };
    let (code, text) = node.script(&pod, terminal).await;
    assert_eq!((code, text.trim_end()), (4, "a terminal"));
    let wrong = node
        .create(&pod, ContainerConfig { command: vec!["/none".into()], ..Node::shell("wrong", "") })
        .await;
    let error =
        node.runtime.start_container(StartContainerRequest { container_id: wrong }).await.unwrap_err();
    assert!(error.message().contains("/none"), "{error}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_starts_containers_of_its_class() {
    works("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crun_starts_containers_of_its_class() {
    // A version 2 mount beside those of version 1 is more than crun can take.
    if Path::new("/sys/fs/cgroup/unified").exists() {
        eprintln!("skipped: crun refuses machines with both versions of cgroups");
        return;
    }
    works("crun").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_without_a_program_is_refused() {
    let mut node = Node::empty().await;
    let request = RunPodSandboxRequest { config: Some(node.pod("x")), runtime_handler: "kata".into() };
    let error = node.runtime.run_pod_sandbox(request).await.unwrap_err();
    assert!(error.message().contains("\"kata\"") && error.message().contains("--runtime-handler"), "{error}");
    node.finish().await;
}
