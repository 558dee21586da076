//! The built-in network as a plugin: called as a container runtime calls it, in namespaces of its own.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

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
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while fs::read_link(pod.netns()).is_ok_and(|found| found == own) {
            assert!(std::time::Instant::now() < deadline, "the pod has no namespace");
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
                assert_eq!(pod.succeed("ADD")["ips"][0]["address"], "10.9.1.2/32");
            }
            pod.succeed("DEL");
            assert_eq!(pod.left(), Vec::<String>::new(), "killed after {milliseconds} ms");
        }
    });
}
