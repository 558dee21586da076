use std::path::Path;

use cri::v1::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{Node, eventually, record, texts};

const COUNTING: &str =
    "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; [ -e /tmp/stop ] && exit 9; done";

fn last(log: &str) -> usize {
    texts(Path::new(log)).lines().count()
}

/// No line is lost or doubled.
fn assert_gapless(log: &str) {
    let text = texts(Path::new(log));
    for (i, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line {}", i + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_does_not_notice_that_the_runtime_was_restarted() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("restart")).await;
    let id = node.run(&pod, Node::shell("c", COUNTING)).await;
    let ended = node
        .run(&pod, Node::shell("ended", "while [ ! -e /dev/shm/end ]; do sleep 0.02; done; exit 4"))
        .await;
    let (pid, log) = (node.pid(&id).await, node.status(&id).await.log_path);
    let started_at = node.status(&id).await.started_at;

    node.stop_runtime().await;
    let before = last(&log);
    eventually("logs without a runtime", || async { last(&log) }, |now| *now > before + 5).await;
    // One of them ends while nobody looks.
    std::fs::write(node.config.run_dir.join("sandboxes").join(&pod).join("shm/end"), "").unwrap();
    let record = node.config.run_dir.join("sandboxes").join(&pod).join("exits");
    eventually("the exit record", || async { std::fs::read_dir(&record).unwrap().count() }, |n| *n == 1)
        .await;
    node.start_runtime().await;

    let status = node.status(&id).await;
    assert_eq!((status.state(), status.started_at), (ContainerState::ContainerRunning, started_at));
    assert_eq!(node.pid(&id).await, pid);
    let other = node.status(&ended).await;
    assert_eq!((other.state(), other.exit_code), (ContainerState::ContainerExited, 4));
    assert_eq!(node.output(&id, "echo still here").await, "still here");
    node.output(&id, "touch /tmp/stop").await;
    assert_eq!(node.wait_exited(&id).await.exit_code, 9);
    assert_gapless(&log);
    node.finish().await;
}

/// Has a container look as if the runtime had been killed just before its shim was asked to start it.
fn about_to_start(node: &Node, id: &str, shim: &serde_json::Value) {
    let folder = node.config.root.join("containers").join(id);
    let mut state = record(&folder);
    state["phase"] = "Starting".into();
    state["shim"] = shim.clone();
    std::fs::write(folder.join("state.json"), format!("{state}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_a_killed_runtime_did_not_come_to_start_can_be_started() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("starting")).await;
    let known = node.create(&pod, Node::shell("c", "exit 3")).await;
    let unknown = node.create(&pod, Node::shell("d", "")).await;
    node.stop_runtime().await;
    let sandbox = record(&node.config.root.join("sandboxes").join(&pod));
    about_to_start(&node, &known, &sandbox["shim"]);
    // Another shim than the one that was asked cannot tell.
    let mut gone = sandbox["shim"].clone();
    gone["start_time"] = 1.into();
    about_to_start(&node, &unknown, &gone);
    node.start_runtime().await;
    assert_eq!(node.status(&known).await.state(), ContainerState::ContainerCreated);
    let lost = node.status(&unknown).await;
    assert_eq!((lost.state(), lost.reason.as_str()), (ContainerState::ContainerExited, "Unknown"));
    node.start(&known).await;
    assert_eq!(node.wait_exited(&known).await.exit_code, 3);
    node.finish().await;
}

/// What a kubelet does that finds a container which one before it was about to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_being_started_is_not_taken_for_one_that_never_was() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("busy")).await;
    let id = node.create(&pod, Node::shell("c", "exit 0")).await;
    let shim = Pid::from_raw(node.shim(&pod).await);
    kill(shim, Signal::SIGSTOP).unwrap();
    let start = tokio::spawn({
        let (mut runtime, container_id) = (node.runtime.clone(), id.clone());
        async move { runtime.start_container(StartContainerRequest { container_id }).await }
    });
    let folder = node.config.root.join("containers").join(&id);
    eventually("its start", || async { record(&folder)["phase"].clone() }, |phase| phase == "Starting").await;
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerCreated);
    let remove = || RemoveContainerRequest { container_id: id.clone() };
    let refused = node.runtime.remove_container(remove()).await.unwrap_err();
    assert!(refused.message().contains("is in starting state, can't be removed"), "{refused}");
    kill(shim, Signal::SIGCONT).unwrap();
    start.await.unwrap().unwrap();
    let status = node.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    node.runtime.remove_container(remove()).await.unwrap();
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cgroup_goes_of_which_a_killed_runtime_wrote_nothing_down() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("cgroups")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let of = |id: &str| node.cgroups().into_iter().find(|folder| folder.ends_with(id));
    let kept = of(&id).unwrap();
    let lost = kept.with_file_name("a".repeat(64));
    let others = kept.with_file_name("others");
    [&lost, &others].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    node.restart().await;
    assert!(kept.exists() && others.exists() && !lost.exists());
    std::fs::remove_dir(others).unwrap();
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_of_which_a_killed_runtime_made_no_image() {
    let mut node = Node::new().await;
    let layers = node.config.root.join("layers");
    let known = std::fs::read_dir(&layers).unwrap().count();
    let lost = layers.join("b".repeat(64));
    std::fs::create_dir_all(lost.join("fs")).unwrap();
    node.restart().await;
    assert!(!lost.exists() && known > 0);
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), known);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_of_which_only_the_disk_is_left_is_gone_and_so_are_its_processes() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("emptied")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 1000")).await;
    let pid = node.pid(&id).await;
    node.stop_runtime().await;
    // As after a restart of the machine, but that processes still run.
    for mount in node.mounts() {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    for kind in ["sandboxes", "containers"] {
        std::fs::remove_dir_all(node.config.run_dir.join(kind)).unwrap();
    }
    node.start_runtime().await;
    let status = node.status(&id).await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 255));
    let runs = || async { Path::new(&format!("/proc/{pid}/cwd")).exists() };
    eventually("the end of its process", runs, |runs| !runs).await;
    let ready = node
        .runtime
        .pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false });
    let state = ready.await.unwrap().into_inner().status.unwrap().state();
    assert_eq!(state, PodSandboxState::SandboxNotready);
    node.remove_pod(&pod).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_share_their_processes_do_not_notice_either() {
    let mut node = Node::new().await;
    let mut config = node.pod("shared");
    let mut shell = Node::shell("c", "while [ ! -e /tmp/stop ]; do sleep 0.02; done; exit 9");
    let options = NamespaceOption { pid: NamespaceMode::Pod as i32, ..NamespaceOption::default() };
    let context =
        LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() };
    config.linux.as_mut().unwrap().security_context = Some(context);
    shell.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options);
    let pod = node.run_pod(config).await;
    let id = node.run(&pod, shell).await;
    let pid = node.pid(&id).await;
    for _ in 0..2 {
        node.restart().await;
        assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
        assert_eq!(node.pid(&id).await, pid);
    }
    // The first process of their namespace, which all others end with, is there as well.
    assert!(node.output(&id, "cat /proc/1/comm; touch /tmp/stop").await != "sh");
    assert_eq!(node.wait_exited(&id).await.exit_code, 9);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_outlives_its_shim_and_its_logs_go_on() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("shimless")).await;
    let id = node.run(&pod, Node::shell("c", COUNTING)).await;
    let (pid, log) = (node.pid(&id).await, node.status(&id).await.log_path);
    eventually("logs", || async { last(&log) }, |n| *n > 3).await;

    let shim = node.shim(&pod).await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    eventually("another shim", || node.shim(&pod), |now| *now != shim).await;
    let before = last(&log);
    eventually("logs by the new shim", || async { last(&log) }, |now| *now > before + 5).await;
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    assert_eq!(node.pid(&id).await, pid);
    assert_gapless(&log);
    // Commands and further containers work as before.
    assert_eq!(node.output(&id, "echo still here").await, "still here");
    let (code, text) = node.script(&pod, Node::shell("next", "echo next; exit 6")).await;
    assert_eq!((code, text.as_str()), (6, "next"));

    // Even a second time, and then the runtime as well.
    let shim = node.shim(&pod).await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    eventually("another shim", || node.shim(&pod), |now| *now != shim).await;
    let before = last(&log);
    eventually("logs by the third shim", || async { last(&log) }, |now| *now > before + 5).await;
    node.restart().await;
    assert_eq!(node.pid(&id).await, pid);
    let before = last(&log);
    eventually("logs after all that", || async { last(&log) }, |now| *now > before + 5).await;

    node.output(&id, "touch /tmp/stop").await;
    let status = node.wait_exited(&id).await;
    // Nobody of ours was its parent: the kernel may tell its status, or it is unknown.
    let known = (status.exit_code, status.reason.as_str()) == (9, "Error");
    let unknown = (status.exit_code, status.reason.as_str()) == (255, "Unknown");
    assert!(known || unknown, "{status:?}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_nobody_saw_is_unknown() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("unseen")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 100")).await;
    let (pid, shim) = (node.pid(&id).await, node.shim(&pod).await);
    node.stop_runtime().await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let gone = || async { std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default() };
    eventually("its death", gone, |stat| stat.is_empty() || stat.contains(") Z ")).await;
    node.start_runtime().await;
    let status = node.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_runtime_on_the_same_folders_is_refused() {
    let node = Node::empty().await;
    let error = runtime::run(node.config.clone(), base::Shutdown::new()).await.unwrap_err();
    assert!(error.to_string().contains("another runtime uses"), "{error}");
    node.finish().await;
}
