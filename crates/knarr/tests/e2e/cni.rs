//! CNI from both sides, in namespaces of its own: the built-in network called as a plugin, and our runtime, killed
//! while it calls one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::cluster::is_root;

/// A pod that holds a network namespace, and where the plugin remembers it.
struct Pod {
    process: Child,
    dir: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let process = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let pod = Self { process, dir: tempfile::tempdir().unwrap() };
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_link(pod.netns()).is_ok_and(|found| found == own) {
            assert!(Instant::now() < deadline, "the pod has no namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        pod
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.process.id()).into()
    }

    fn begin(&self, command: &str) -> Child {
        let mut knarr = Command::new(env!("CARGO_BIN_EXE_knarr"));
        knarr.arg0("/opt/cni/bin/knarr-cni");
        knarr.env("CNI_COMMAND", command).env("CNI_CONTAINERID", "pod-1").env("CNI_IFNAME", "eth0");
        knarr.env("CNI_NETNS", self.netns()).env("CNI_PATH", "/opt/cni/bin");
        let mut child =
            knarr.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "knarr-cni", "podCIDR": "10.9.1.0/24",
            "dataDir": self.dir.path(),
            "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}],
                "bandwidth": {"egressRate": 1_000_000}}});
        // One that is killed reads no further.
        let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        child
    }

    fn call(&self, command: &str) -> Output {
        self.begin(command).wait_with_output().unwrap()
    }

    fn succeed(&self, command: &str) -> Value {
        let output = self.call(command);
        assert!(output.status.success(), "{command}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What is left of it on the node.
    fn left(&self) -> Vec<String> {
        let links = Command::new("ip").args(["-o", "link"]).output().unwrap().stdout;
        let links = String::from_utf8(links).unwrap();
        let links = links.lines().filter(|line| line.contains(": kn") || line.contains(": kb"));
        let files = fs::read_dir(self.dir.path().join("n")).into_iter().flatten();
        let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files = files.filter(|name| name.starts_with("10."));
        let ports = fs::read_dir(self.dir.path().join("n/ports")).into_iter().flatten();
        let ports = ports.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        links.map(str::to_owned).chain(files).chain(ports.filter(|name| name.ends_with(".json"))).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn alone(test: impl FnOnce() + Send) {
    if !is_root() {
        eprintln!("skipped: only root can make namespaces");
        return;
    }
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    };
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[test]
fn a_runtime_calls_the_program_as_a_plugin() {
    alone(|| {
        let pod = Pod::new();
        assert!(pod.succeed("VERSION")["supportedVersions"].as_array().unwrap().contains(&json!("1.0.0")));
        let result = pod.succeed("ADD");
        assert_eq!(
            (&result["cniVersion"], &result["ips"][0]["address"]),
            (&json!("1.0.0"), &json!("10.9.1.2/32"))
        );
        pod.succeed("CHECK");
        pod.succeed("DEL");
        assert_eq!(pod.left(), Vec::<String>::new());
        let refused = pod.call("CHECK");
        assert!(!refused.status.success());
        let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!((&said["code"], &said["msg"]), (&json!(100), &json!("pod-1 has no address")));
    });
}

#[test]
fn one_that_is_killed_leaves_nothing_that_is_not_found() {
    alone(|| {
        let pod = Pod::new();
        // At ever later points of its work; the last ones are over before.
        for milliseconds in (0..160).step_by(8) {
            let mut child = pod.begin("ADD");
            std::thread::sleep(Duration::from_millis(milliseconds));
            child.kill().unwrap();
            child.wait().unwrap();
            if milliseconds % 16 == 0 {
                let added = pod.succeed("ADD");
                let address = added["ips"][0]["address"].as_str().unwrap();
                assert!(address.starts_with("10.9.1.") && address.ends_with("/32"), "{address}");
            }
            pod.succeed("DEL");
            assert_eq!(pod.left(), Vec::<String>::new(), "killed after {milliseconds} ms");
        }
    });
}

/// A plugin that takes its time, and writes down when it began and ended.
const SLOW: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$CNI_COMMAND begins" >>"$here/calls"
[ "$CNI_COMMAND" = ADD ] && sleep 1
echo "$CNI_COMMAND ends" >>"$here/calls"
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}'
exit 0
"#;

struct Runtime {
    process: Child,
    cgroup: String,
}

impl Runtime {
    fn start(dir: &Path) -> Self {
        let cgroup = format!("/knarr-e2e-cni-{}", std::process::id());
        let mut knarr = Command::new(env!("CARGO_BIN_EXE_knarr"));
        knarr.args(["runtime", "--cgroup-parent", &cgroup, "--pod-network", "cni"]);
        for (flag, folder) in
            [("--root", "root"), ("--state", "run"), ("--cni-conf-dir", "net.d"), ("--cni-bin-dir", "bin")]
        {
            knarr.arg(flag).arg(dir.join(folder));
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        Self { process: knarr.stdout(Stdio::null()).stderr(log).spawn().unwrap(), cgroup }
    }

    /// The client of one that is ready.
    async fn client(&self, dir: &Path) -> cri::RuntimeClient {
        let socket = format!("unix://{}", dir.join("run/cri.sock").display());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match cri::connect(&socket).await {
                Ok((runtime, _)) => return runtime,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for root in roots.chain(["/sys/fs/cgroup".into()]) {
            empty(&root.join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// Whatever a test that failed left in a cgroup.
fn empty(cgroup: &Path) {
    let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|pid| pid.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let children = fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
    children.filter(|path| path.is_dir()).for_each(|path| empty(&path));
    let deadline = Instant::now() + Duration::from_secs(2);
    // A process leaves a moment after it was killed.
    while cgroup.exists() && fs::remove_dir(cgroup).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_runtime_that_is_killed_while_a_plugin_works_undoes_what_the_plugin_did() {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        for name in ["net.d", "bin"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        fs::write(dir.join("net.d/1.conf"), r#"{"cniVersion":"1.0.0","name":"slow","type":"slow"}"#).unwrap();
        fs::write(dir.join("bin/slow"), SLOW).unwrap();
        fs::set_permissions(dir.join("bin/slow"), fs::Permissions::from_mode(0o755)).unwrap();
        let calls = || fs::read_to_string(dir.join("bin/calls")).unwrap_or_default();
        let until = |what: &str| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !calls().contains(what) {
                assert!(Instant::now() < deadline, "{what:?} is not in {:?}", calls());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = Runtime::start(dir);
        let mut client = tokio.block_on(first.client(dir));
        let meta = cri::v1::PodSandboxMetadata {
            name: "p".into(),
            uid: "u".into(),
            namespace: "n".into(),
            attempt: 0,
        };
        let config = cri::v1::PodSandboxConfig { metadata: Some(meta), ..Default::default() };
        let request = cri::v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let asked = tokio.spawn(async move { client.run_pod_sandbox(request).await });
        tokio.block_on(async {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !calls().contains("ADD begins") {
                assert!(Instant::now() < deadline && !asked.is_finished(), "{:?}", calls());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        drop(first);
        let second = Runtime::start(dir);
        until("DEL ends");
        assert_eq!(calls(), "ADD begins\nADD ends\nDEL begins\nDEL ends\n");
        let mut client = tokio.block_on(second.client(dir));
        let list =
            tokio.block_on(client.list_pod_sandbox(cri::v1::ListPodSandboxRequest::default())).unwrap();
        assert_eq!(list.into_inner().items, []);
        assert_eq!(fs::read_dir(dir.join("root/cni/results")).unwrap().count(), 0);
    });
}
