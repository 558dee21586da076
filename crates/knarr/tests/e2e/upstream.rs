//! Upstream's kubelet in the place of a node's own: the tests about nodes run with it when `KNARR_E2E_KUBELET` names the
//! program. Services and their names are not there then, for they are our agent's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peer_config;

/// The kubelet that the tests about nodes are to run with, if one is wanted.
#[expect(clippy::disallowed_methods, reason = "this is how whoever runs the tests says so")]
pub fn wanted() -> Option<PathBuf> {
    std::env::var_os("KNARR_E2E_KUBELET").map(PathBuf::from)
}

/// A kubelet that runs; ended when dropped.
pub struct Upstream(Child);

impl Upstream {
    /// Ends the agent of a node, and starts `program` with its credentials.
    pub fn replace(program: &Path, (cluster, node): (&str, &str), data: &Path) -> Self {
        let run = Path::new("/run/knarr").join(cluster);
        end_by_record(&run.join(format!("agent-{node}.json")));
        let dir = data.join(format!("upstream-{node}"));
        fs::create_dir_all(dir.join("root")).unwrap();
        // Static pods are where they are with our own kubelet.
        if !dir.join("manifests").exists() {
            symlink(data.join("nodes").join(node).join("manifests"), dir.join("manifests")).unwrap();
        }
        let identity: Value = read(&data.join("nodes").join(node).join("identity.json"));
        let files = [
            ("kubeconfig", "kubelet"),
            ("tls.crt", "serving_cert"),
            ("tls.key", "serving_key"),
            ("ca.crt", "client_ca"),
        ];
        for (file, key) in files {
            fs::write(dir.join(file), identity[key].as_str().unwrap()).unwrap();
        }
        fs::write(dir.join("resolv.conf"), "nameserver 10.96.0.10\n").unwrap();
        let (cgroup, socket) =
            (format!("/knarr/{cluster}/{node}"), run.join("nodes").join(node).join("runtime/cri.sock"));
        peer_config::make_cgroup(&cgroup).unwrap();
        let config = peer_config::kubelet(&dir, (&cgroup, &socket), identity["ip"].as_str().unwrap(), 110);
        fs::write(dir.join("config.json"), config).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(data.join(format!("logs/upstream-{node}.log")));
        let log = log.unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", run.join("nodes").join(node).join("netns").display())).arg(program);
        command.arg("--config").arg(dir.join("config.json")).arg("--kubeconfig").arg(dir.join("kubeconfig"));
        command.arg("--root-dir").arg(dir.join("root")).arg("--cert-dir").arg(&dir);
        command.args(["--hostname-override", node, "--v=2"]).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self(child)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the process that a file in `/run/knarr/CLUSTER` tells of.
pub fn end_by_record(path: &Path) {
    let pid = read(path)["pid"].as_i64().unwrap();
    let signal = nix::sys::signal::Signal::SIGTERM;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
    until("the process to end", || !Path::new(&format!("/proc/{pid}")).exists());
}

pub fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
