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

/// A program in the place of one of our own processes, by whose record `knarr` finds it; ended when dropped.
pub struct Stand {
    command: Command,
    child: Child,
    /// The record, and what runs in the process.
    record: Option<(PathBuf, Value)>,
}

impl Stand {
    /// Starts it.
    pub fn start(mut command: Command, record: Option<(PathBuf, Value)>) -> Self {
        let child = command.spawn().unwrap();
        let stand = Self { command, child, record };
        stand.write_record();
        stand
    }

    /// Starts it once more if it has ended.
    pub fn revive(&mut self) {
        // One that was killed can be waited for once the last of its threads is gone, a moment after the first.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let is_dead =
            stat.rsplit_once(')').is_none_or(|(_, state)| state.trim_start().starts_with(['Z', 'X']));
        if is_dead {
            self.child.wait().unwrap();
            self.child = self.command.spawn().unwrap();
            self.write_record();
        }
    }

    fn write_record(&self) {
        let Some((path, of)) = &self.record else { return };
        let pid = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
        let mut record = of.clone();
        record["pid"] = pid.into();
        record["start_time"] = started.parse::<u64>().unwrap().into();
        fs::write(path, record.to_string()).unwrap();
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the runtime, as upstream's kubelet does not, and becomes the program.
const ONCE_THE_RUNTIME_IS_THERE: &str = "until test -S \"$0\"; do sleep 0.02; done; exec \"$@\"";

/// What a kubelet is told by whoever brings up the cluster, beside what every node is told.
#[derive(Default)]
pub struct Told {
    /// A KubeletConfiguration.
    pub file: Option<PathBuf>,
    /// A folder of further ones.
    pub folder: Option<PathBuf>,
    /// Where the places are named at which our own is to die.
    pub failpoints: PathBuf,
}

/// Ends the agent of a node, and starts `program` with its credentials and its folders.
pub fn replace(program: &Path, (cluster, node): (&str, &str), data: &Path, told: &Told) -> Stand {
    let run = Path::new("/run/knarr").join(cluster);
    let record = run.join(format!("agent-{node}.json"));
    end_by_record(&record);
    let (dir, own) = (data.join(format!("upstream-{node}")), data.join("nodes").join(node));
    fs::create_dir_all(&dir).unwrap();
    // Logs and static pods are where they are with our own kubelet.
    for (name, folder) in [("pod-logs", "log/pods"), ("manifests", "manifests")] {
        symlink(own.join(folder), dir.join(name)).unwrap();
    }
    let identity: Value = read(&own.join("identity.json"));
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
    let log = fs::File::create(data.join(format!("logs/upstream-{node}.log"))).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", ONCE_THE_RUNTIME_IS_THERE]).arg(socket).arg("nsenter");
    command.arg(format!("--net={}", run.join("nodes").join(node).join("netns").display())).arg(program);
    command.arg("--config").arg(dir.join("config.json")).arg("--kubeconfig").arg(dir.join("kubeconfig"));
    command.arg("--config-dir").arg(drop_ins(&dir, told));
    command.arg("--root-dir").arg(own.join("kubelet")).arg("--cert-dir").arg(&dir);
    // Without its address it would ask the DNS for it, which nobody serves here, and be late.
    let ips = ["ip", "ip_v6"].map(|key| identity[key].as_str().unwrap_or_default());
    command.arg("--node-ip").arg(ips.join(",").trim_end_matches(','));
    command.args(["--hostname-override", node, "--v=2"]).env("KNARR_FAILPOINTS", &told.failpoints);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let of = serde_json::json!({"components": ["kubelet"], "node": node});
    Stand::start(command, Some((record, of)))
}

/// A folder of what it is told: the file goes before those of the folder.
fn drop_ins(dir: &Path, told: &Told) -> PathBuf {
    let all = dir.join("kubelet.conf.d");
    fs::create_dir_all(&all).unwrap();
    if let Some(file) = &told.file {
        fs::copy(file, all.join("00-file.conf")).unwrap();
    }
    for entry in told.folder.iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let entry = entry.unwrap();
        fs::copy(entry.path(), all.join(entry.file_name())).unwrap();
    }
    all
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
