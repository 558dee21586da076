use cri::v1::*;

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn commands_give_both_streams_and_their_exit_code() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("exec")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100; true")).await;
    let done = node.exec(&id, &["sh", "-c", "echo $FROM; echo err >&2; exit 5"]).await;
    assert_eq!(
        (done.stdout.as_slice(), done.stderr.as_slice(), done.exit_code),
        (&b"image\n"[..], &b"err\n"[..], 5)
    );
    // A command sees what the container sees, and is not its first process.
    assert_eq!(node.output(&id, "hostname; cat /proc/1/comm").await, "exec\nsh");
    let large = node.exec(&id, &["seq", "1", "100000"]).await;
    assert_eq!(large.stdout.len(), 588_895);
    let killed = node.exec(&id, &["sh", "-c", "kill -9 $$"]).await;
    assert_eq!(killed.exit_code, 137);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there_says_so_and_a_slow_one_is_killed() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("exec-fail")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let exec = |cmd: &[&str], timeout| ExecSyncRequest {
        container_id: id.clone(),
        cmd: cmd.iter().map(|s| s.to_string()).collect(),
        timeout,
    };
    let error = node.runtime.exec_sync(exec(&["nothing-here"], 5)).await.unwrap_err();
    assert!(error.message().contains("executable file not found in $PATH"), "{}", error.message());
    let error = node.runtime.exec_sync(exec(&["sleep", "50"], 1)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    // What it left behind in the background does not hold the answer up.
    let done =
        node.runtime.exec_sync(exec(&["sh", "-c", "sleep 90 & echo ok"], 20)).await.unwrap().into_inner();
    assert_eq!(done.stdout, b"ok\n");
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    node.runtime.stop_container(request).await.unwrap();
    let error = node.runtime.exec_sync(exec(&["true"], 5)).await.unwrap_err();
    assert!(error.message().contains("not running"), "{}", error.message());
    node.finish().await;
}

/// A command begins in its container's cgroup of version 2, where that is another than the shim's.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_born_where_its_container_is() {
    let beside = std::path::Path::new("/sys/fs/cgroup/unified");
    if !beside.join("cgroup.procs").exists() {
        eprintln!(
            "skipped: no cgroups of version 2 beside version 1, whose containers have one of their own each"
        );
        return;
    }
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("exec-cgroup")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100; true")).await;
    let name = format!("knarr-exec-{}", std::process::id());
    let folder = beside.join(&name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cgroup.procs"), node.pid(&id).await.to_string()).unwrap();
    let seen = node.exec(&id, &["cat", "/proc/self/cgroup", "/proc/1/cgroup"]).await;
    node.remove_pod(&pod).await;
    crate::node::eventually(
        "the cgroup is empty",
        || async { std::fs::remove_dir(&folder).is_ok() },
        |&gone| gone,
    )
    .await;
    let text = String::from_utf8(seen.stdout).unwrap();
    let (own, first) = text.trim().split_at(text.trim().len() / 2);
    assert!(own.contains(&format!("0::/{name}")), "{text}");
    assert_eq!(own.trim(), first.trim());
    node.finish().await;
}
