//! Upstream's own validation of container runtimes against `knarr runtime`, in a network namespace of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sched::{CloneFlags, unshare};

use super::cluster;

/// How many of the suite's tests run and pass here. What it leaves out by itself: AppArmor and SELinux, where the
/// kernel has neither.
const PASSED: usize = 114;

/// What is left out, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("NRI", "this runtime offers no plugins by the Node Resource Interface"),
    (
        "MaskedPaths",
        "it hides /bin/ls from a shell, but Debian's busybox is that tool itself; the runtime's own tests cover it",
    ),
];

/// Ends a process, and whatever waits for it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be ended.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn build(to: &Path) {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/critest");
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(&module).env("CGO_ENABLED", "0");
        go
    };
    run(go().args(["build", "-ldflags", "-s -w", "-o"]).arg(to.join("webserver")).arg("./webserver"));
    run(go().args(["build", "-o"]).arg(to.join("registry")).arg("./registry"));
    run(go().args(["build", "-o"]).arg(to.join("ginkgo")).arg("github.com/onsi/ginkgo/v2/ginkgo"));
    run(go().args(["test", "-c", "-o"]).arg(to.join("critest.test")).arg("."));
}

/// Gives this thread, and what it starts, a network with one way out, which leads nowhere.
pub fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    for line in [
        "link set lo up",
        "link add out0 type veth peer name out1",
        "link set out1 up",
        "addr add 10.99.0.1/24 dev out0",
        "link set out0 up",
        "route add default via 10.99.0.2",
    ] {
        run(Command::new("ip").args(line.split(' ')));
    }
}

/// The images' registry; with it, its port and the digest of the image that the suite names by digest.
fn registry(programs: &Path) -> (Running, BufReader<ChildStdout>, String, String) {
    let mut registry = Command::new(programs.join("registry"));
    registry.arg("-webserver").arg(programs.join("webserver"));
    let mut child = registry.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let child = Running(child);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let (port, digest) = line.trim().split_once(' ').unwrap_or_else(|| panic!("the registry said {line:?}"));
    (child, output, port.to_owned(), digest.to_owned())
}

fn runtime(folder: &Path, port: &str) -> (Running, PathBuf) {
    let mirrors = folder.join("registries/_default");
    fs::create_dir_all(&mirrors).unwrap();
    let hosts = format!("[host.\"http://127.0.0.1:{port}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    fs::write(mirrors.join("hosts.toml"), hosts).unwrap();
    let state = folder.join("state");
    let child = Command::new(env!("CARGO_BIN_EXE_knarr"))
        .arg("runtime")
        .arg("--root")
        .arg(folder.join("root"))
        .arg("--state")
        .arg(&state)
        .args(["--pod-cidr", "10.99.1.0/24", "--pod-network", "builtin"])
        .args(["--cgroup-parent", &format!("/{}", cgroup())])
        .arg("--registry-config-dir")
        .arg(folder.join("registries"))
        .stderr(fs::File::create(folder.join("runtime.log")).unwrap())
        .spawn()
        .unwrap();
    let (running, socket) = (Running(child), state.join("cri.sock"));
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "the runtime does not come up");
        thread::sleep(Duration::from_millis(20));
    }
    (running, socket)
}

/// Takes away what a failed test left, so that nothing of it outlives this one.
pub fn remove_pods(socket: &Path) {
    let work = async {
        let mut client = cri::connect(&format!("unix://{}", socket.display())).await.unwrap().0;
        let all = client.list_pod_sandbox(cri::v1::ListPodSandboxRequest::default()).await.unwrap();
        for pod in all.into_inner().items {
            let request = cri::v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id };
            client.remove_pod_sandbox(request).await.unwrap();
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn cgroup() -> String {
    format!("knarr-critest-{}", std::process::id())
}

/// The runtime's own cgroup is whoever's who named it: it stays when its pods are gone.
fn remove_cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    for at in hierarchies.chain([root.to_owned()]).map(|at| at.join(cgroup())).filter(|at| at.exists()) {
        for below in ["pods", "shims", ""].map(|name| at.join(name)).iter().filter(|at| at.exists()) {
            fs::remove_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display()));
        }
    }
}

/// `… -- 106 Passed | 0 Failed | 0 Pending | 31 Skipped`.
fn summary(report: &str) -> &str {
    report.lines().rfind(|line| line.contains(" Passed | ")).unwrap_or_else(|| panic!("{report}"))
}

/// How many passed and failed.
fn counts(report: &str) -> (usize, usize) {
    let line = summary(report);
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = |what: &str| {
        let at = words.iter().position(|word| *word == what).unwrap();
        words[at - 1].parse().unwrap()
    };
    (before("Passed"), before("Failed"))
}

#[test]
fn upstreams_suite_for_runtimes_passes() {
    if !cluster::is_root() {
        eprintln!("skipped: a container runtime needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let report = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            isolate();
            let (_registry, _output, port, digest) = registry(folder.path());
            let (_runtime, socket) = runtime(folder.path(), &port);
            let skip: Vec<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
            let mut suite = Command::new(folder.path().join("ginkgo"))
                .args(["--procs=4", "--no-color", "--skip", &skip.join("|")])
                .arg(folder.path().join("critest.test"))
                .arg("--")
                .arg("-runtime-endpoint")
                .arg(format!("unix://{}", socket.display()))
                .args(["-image-digest", &digest])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut report = String::new();
            suite.stdout.take().unwrap().read_to_string(&mut report).unwrap();
            suite.wait().unwrap();
            remove_pods(&socket);
            report
        });
        inside.join().unwrap()
    });
    remove_cgroups();
    eprintln!("{}", summary(&report));
    LEFT_OUT.iter().for_each(|(name, why)| eprintln!("left out: {name}: {why}"));
    let (passed, failed) = counts(&report);
    assert_eq!(failed, 0, "{report}");
    assert!(passed >= PASSED, "only {passed} ran:\n{report}");
}
