//! What containers, disks and people do to a runtime: it is bounded, reported, and gone when its cause is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri::v1::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::node::{Entry, Node, build, eventually, layer, texts};

const NOTHING: Option<&str> = None;

/// A file system of its own for what a runtime keeps, of a few megabytes.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(megabytes: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("knarr-disk-").tempdir().unwrap();
        let disk = Self { folder };
        fs::create_dir(disk.kept()).unwrap();
        fs::create_dir(disk.at()).unwrap();
        let options = format!("size={megabytes}m");
        mount(Some("tmpfs"), &disk.kept(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        disk.attach();
        disk
    }

    /// Where it is all the time, for whoever has it fail.
    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Where the runtime sees it.
    fn at(&self) -> PathBuf {
        self.folder.path().join("at")
    }

    fn attach(&self) {
        mount(Some(&self.kept()), &self.at(), NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    }

    /// Pulls the plug: whoever has files open keeps them, and nobody finds any more.
    fn detach(&self) {
        umount2(&self.at(), MntFlags::MNT_DETACH).unwrap();
    }

    /// Leaves no room.
    fn fill(&self) {
        let filler = self.kept().join("filler");
        let error = std::io::copy(&mut std::io::repeat(0), &mut fs::File::create(filler).unwrap());
        assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.kept().join("filler")).unwrap();
    }

    /// A runtime that keeps its records, images and logs on this disk.
    async fn node(&self) -> Node {
        Node::empty_with(|config| {
            for name in ["root", "logs"] {
                fs::create_dir(self.at().join(name)).unwrap();
                symlink(self.at().join(name), config.root.parent().unwrap().join(name)).unwrap();
            }
        })
        .await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for at in [self.at(), self.kept()] {
            let _ = umount2(&at, MntFlags::MNT_DETACH);
        }
    }
}

async fn images(node: &mut Node) -> usize {
    node.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_loses_nothing() {
    let disk = Disk::new(64);
    let mut node = disk.node().await;
    node.import_busybox().await;
    let pod = node.run_pod(node.pod("full")).await;
    let script = "while [ ! -e /dev/shm/end ]; do echo line; sleep 0.01; done; exit 5";
    let id = node.run(&pod, Node::shell("c", script)).await;
    let log = node.status(&id).await.log_path;
    let lines = || async { texts(Path::new(&log)).lines().count() };
    eventually("a line", lines, |n| *n > 0).await;
    disk.fill();

    let full = "No space left on device";
    let error = node.try_create(&pod, Node::shell("d", "true")).await.unwrap_err();
    assert!(error.message().contains(full), "{error}");
    let error = node.try_run_pod(node.pod("another")).await.unwrap_err();
    assert!(error.message().contains(full), "{error}");
    let archive = node.folder.path().join("other.tar");
    let other = build(&[layer(&[Entry::File("big", &[7; 1 << 20], 0o644)])], serde_json::json!({}));
    fs::write(&archive, other.archive("test.local/other:1")).unwrap();
    let error = runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains(full), "{error}");
    assert_eq!(images(&mut node).await, 1);
    // Its log gets nothing, and holds nobody up.
    assert_eq!(node.output(&id, "echo still here").await, "still here");
    // One that ends now is known to have ended, by whichever runtime: its record needs no more room than it has.
    fs::write(node.config.run_dir.join("sandboxes").join(&pod).join("shm/end"), "").unwrap();
    let records = node.config.run_dir.join("sandboxes").join(&pod).join("exits");
    eventually("the exit record", || async { fs::read_dir(&records).unwrap().count() }, |n| *n == 1).await;
    for _ in 0..2 {
        let status = node.wait_exited(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (5, "Error"));
        node.restart().await;
    }
    disk.make_room();
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.ends_with('\n') && text.lines().all(|line| line.ends_with("Z stdout F line")),
        "it is damaged: {text}"
    );

    runtime::import_client(&node.config.socket, &archive, |_| {}).await.unwrap();
    assert_eq!(images(&mut node).await, 2);
    assert_eq!(node.script(&pod, Node::shell("e", "echo room")).await, (0, "room".into()));
    let left: Vec<_> = fs::read_dir(node.config.root.join("layers")).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "unfinished layers are left: {left:?}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_on_a_full_disk_is_recorded_when_there_is_room() {
    let disk = Disk::new(64);
    let mut node = disk.node().await;
    node.import_busybox().await;
    let pod = node.run_pod(node.pod("late")).await;
    let id =
        node.run(&pod, Node::shell("c", "while [ ! -e /dev/shm/end ]; do sleep 0.01; done; exit 6")).await;
    disk.fill();
    fs::write(node.config.run_dir.join("sandboxes").join(&pod).join("shm/end"), "").unwrap();
    let root = node.config.run_dir.join("containers").join(&id).join("rootfs/bin");
    eventually("its root to go", || async { root.exists() }, |there| !there).await;
    disk.make_room();
    assert_eq!(node.wait_exited(&id).await.exit_code, 6);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_vanished_takes_no_pod_with_it() {
    let disk = Disk::new(64);
    let mut node = disk.node().await;
    node.import_busybox().await;
    let pod = node.run_pod(node.pod("kept")).await;
    let id = node.run(&pod, Node::shell("c", "while true; do sleep 0.05; done")).await;
    let (pid, shim) = (node.pid(&id).await, node.shim(&pod).await);
    disk.detach();
    let error = node.try_create(&pod, Node::shell("d", "true")).await.unwrap_err();
    assert!(error.message().contains("No such file or directory"), "{error}");
    // A runtime that is started now must not take the folder below for its own.
    node.stop_runtime().await;
    fs::create_dir(disk.at().join("root")).unwrap();
    let refused = runtime::run(node.config.clone(), base::Shutdown::new()).await.unwrap_err();
    assert!(refused.to_string().contains("is not the folder that the pods in"), "{refused}");
    for alive in [pid, shim] {
        assert!(Path::new(&format!("/proc/{alive}/exe")).exists(), "process {alive} was ended");
    }
    assert!(node.config.run_dir.join("sandboxes").join(&pod).join("net").exists());
    disk.attach();
    node.start_runtime().await;
    assert_eq!((node.pid(&id).await, node.shim(&pod).await), (pid, shim));
    assert_eq!(node.script(&pod, Node::shell("e", "echo back")).await, (0, "back".into()));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stays_in_its_pod() {
    // Where a container has its processes for itself the kernel ends all of them with the first.
    for mode in [NamespaceMode::Container, NamespaceMode::Pod] {
        bomb(mode).await;
    }
}

async fn bomb(mode: NamespaceMode) {
    let mut node = Node::new().await;
    let options = NamespaceOption { pid: mode as i32, ..NamespaceOption::default() };
    let mut config = node.pod("bomb");
    config.linux.as_mut().unwrap().security_context =
        Some(LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() });
    let (bad, good) = (node.run_pod(config).await, node.run_pod(node.pod("good")).await);
    let script = "while [ ! -e /tmp/go ]; do sleep 0.01; done; b() { b | b & }; b; exec sleep 1000";
    let mut config = Node::shell("c", script);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(options);
    let bomb = node.create(&bad, config).await;
    let other = node.run(&good, Node::shell("c", "sleep 1000")).await;
    node.start(&bomb).await;
    // The limit is the kubelet's to set, on the pod.
    let parent = node.config.cgroup_parent.trim_start_matches('/').to_owned();
    let limit = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .map(|root| Path::new(root).join(&parent).join("kubepods/bomb/pids.max"))
        .into_iter()
        .find(|path| path.exists())
        .expect("a limit of processes");
    fs::write(&limit, "64").unwrap();
    node.output(&bomb, "touch /tmp/go").await;
    let count = limit.with_file_name("pids.current");
    let now = || async { fs::read_to_string(&count).unwrap().trim().parse::<u64>().unwrap() };
    eventually("the limit to be reached", now, |n| *n >= 60).await;
    assert_eq!(node.output(&other, "echo well").await, "well");
    let begun = Instant::now();
    node.runtime
        .stop_container(StopContainerRequest { container_id: bomb.clone(), timeout: 0 })
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert_eq!(node.wait_exited(&bomb).await.exit_code, 137);
    eventually("all of it to be gone", now, |n| *n == 0).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_floods_gives_what_fits_and_its_exit_code() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("flood")).await;
    let id = node.run(&pod, Node::shell("c", "sleep 1000")).await;
    let flood = "dd if=/dev/zero bs=65536 count=480 2>/dev/null; dd if=/dev/zero bs=65536 count=480 >&2 2>/dev/null; exit 3";
    let done = node.exec(&id, &["sh", "-c", flood]).await;
    assert_eq!(done.exit_code, 3);
    let (out, err) = (done.stdout.len(), done.stderr.len());
    assert!(out > 4 << 20 && err > 4 << 20 && out + err <= 16 << 20, "{out} and {err} bytes");
    // One that takes too long is killed, and what it leaves behind finds nobody who reads for ever.
    let request = ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "(while true; do echo flood; done) & sleep 1000"].map(str::to_owned).to_vec(),
        timeout: 1,
    };
    let error = node.runtime.clone().exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    let processes = || node.output(&id, "ps | grep -c '[f]lood' || true");
    eventually("the flood to end", processes, |n| n == "0").await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_seen_while_others_go_on_writing() {
    let mut node = Node::new().await;
    let mut config = node.pod("shared");
    let shared = NamespaceOption { pid: NamespaceMode::Pod as i32, ..NamespaceOption::default() };
    config.linux.as_mut().unwrap().security_context =
        Some(LinuxSandboxSecurityContext { namespace_options: Some(shared.clone()), ..Default::default() });
    let pod = node.run_pod(config).await;
    // In a pod that shares its processes nobody kills those that the first one leaves behind, but the runtime.
    let mut config = Node::shell("c", "(while true; do echo flood; done) & sleep 0.2; exit 7");
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options = Some(shared);
    let id = node.run(&pod, config).await;
    assert_eq!(node.wait_exited(&id).await.exit_code, 7);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_take_from_a_running_container_is_missed_by_nobody() {
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("robbed")).await;
    let id = node.run(&pod, Node::shell("c", "trap 'exit 8' TERM; while true; do sleep 0.05; done")).await;
    let pid = node.pid(&id).await;
    // Its root, as the machine sees it.
    umount2(&node.config.run_dir.join("containers").join(&id).join("rootfs"), MntFlags::MNT_DETACH).unwrap();
    // Its cgroups, in every hierarchy.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    // One where it is limited, and one by which service managers know it.
    let own = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let own: BTreeSet<&str> = own.filter(|path| path.contains("knarr-test")).collect();
    assert!(own.iter().any(|path| path.contains("/kubepods/")), "{own:?}");
    let mut robbed = 0;
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
        for group in own.iter().map(|path| root.join(path.trim_start_matches('/'))) {
            // It starts others all the time, which may end before they are moved.
            while let Ok(procs) = fs::read_to_string(group.join("cgroup.procs")) {
                for pid in procs.lines() {
                    let _ended = fs::write(root.join("cgroup.procs"), pid);
                }
                robbed += u32::from(fs::remove_dir(&group).is_ok());
            }
        }
    }
    assert!(robbed > 0, "no cgroup at {own:?}");
    assert_eq!(node.output(&id, "echo still here").await, "still here");
    let stats = ContainerStatsRequest { container_id: id.clone() };
    node.runtime.container_stats(stats).await.unwrap();
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(Default::default()),
        ..Default::default()
    };
    let error = node.runtime.update_container_resources(update).await.unwrap_err();
    assert!(error.message().contains("No such file or directory"), "{error}");
    node.restart().await;
    assert_eq!(node.pid(&id).await, pid);
    node.runtime
        .stop_container(StopContainerRequest { container_id: id.clone(), timeout: 10 })
        .await
        .unwrap();
    assert_eq!(node.wait_exited(&id).await.exit_code, 8);
    assert_eq!(node.script(&pod, Node::shell("d", "echo next")).await, (0, "next".into()));
    node.finish().await;
}

/// As when somebody empties `/run`: no shim can listen there any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_pod_gets_no_shim_any_more_ends_and_is_told_to_have() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let mut node = Node::new().await;
    let pod = node.run_pod(node.pod("alone")).await;
    let id = node.run(&pod, Node::shell("c", "while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 7")).await;
    let (pid, root) = (node.pid(&id).await, node.config.run_dir.join("containers").join(&id).join("rootfs"));
    let folder = node.config.run_dir.join("sandboxes").join(&pod);
    let away = node.config.run_dir.join("away");
    fs::rename(&folder, &away).unwrap();
    kill(Pid::from_raw(node.shim(&pod).await), Signal::SIGKILL).unwrap();
    // Nothing else can start there, and says why.
    let next = Node::shell("next", "true");
    let next = node.create(&pod, next).await;
    let refused =
        node.runtime.start_container(StartContainerRequest { container_id: next }).await.unwrap_err();
    assert!(refused.message().contains("No such file"), "{refused}");
    assert_eq!(
        (node.status(&id).await.state(), node.pid(&id).await),
        (ContainerState::ContainerRunning, pid)
    );
    fs::write(root.join("tmp/end"), "").unwrap();
    let status = node.wait_exited(&id).await;
    // Nobody of ours was its parent: the kernel may tell its status, or it is unknown.
    assert!(
        matches!((status.exit_code, status.reason.as_str()), (7, "Error") | (255, "Unknown")),
        "{status:?}"
    );
    let state = || async {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
        let answer = node.runtime.clone().pod_sandbox_status(request).await.unwrap().into_inner();
        answer.status.unwrap().state()
    };
    let over = |state: &PodSandboxState| *state == PodSandboxState::SandboxNotready;
    eventually("the sandbox to be over, so that another is made", state, over).await;
    for pinned in node.mounts().iter().filter(|path| path.starts_with(&away)) {
        umount2(pinned, MntFlags::MNT_DETACH).unwrap();
    }
    fs::remove_dir_all(&away).unwrap();
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_hangs_keeps_no_other_pod_from_being_found() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let mut node = Node::new().await;
    let (stuck, well) = (node.run_pod(node.pod("stuck")).await, node.run_pod(node.pod("well")).await);
    let id = node.run(&stuck, Node::shell("c", "sleep 1000")).await;
    let other = node.run(&well, Node::shell("c", "sleep 1000")).await;
    let shim = Pid::from_raw(node.shim(&stuck).await);
    kill(shim, Signal::SIGSTOP).unwrap();
    node.restart().await;
    assert_eq!(node.output(&other, "echo well").await, "well");
    assert_eq!(node.status(&id).await.state(), ContainerState::ContainerRunning);
    kill(shim, Signal::SIGCONT).unwrap();
    assert_eq!(node.output(&id, "echo again").await, "again");
    node.finish().await;
}
