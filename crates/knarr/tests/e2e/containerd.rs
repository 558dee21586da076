//! Containerd and runc in the place of our runtime: the tests about nodes run on it when `KNARR_E2E_CONTAINERD` names
//! the program, and a few always do where it is installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peer_config as config;

/// The image of pause containers.
const PAUSE: &str = "docker.io/library/busybox:pause";

/// The containerd that the tests about nodes are to run on, if one is wanted.
#[expect(clippy::disallowed_methods, reason = "this is how whoever runs the tests says so")]
pub fn wanted() -> Option<PathBuf> {
    std::env::var_os("KNARR_E2E_CONTAINERD").map(PathBuf::from)
}

/// The containerd of this machine, with a runc.
pub fn installed() -> Option<PathBuf> {
    let found = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
            .map(|dir| Path::new(dir).join(name))
            .into_iter()
            .find(|p| p.exists())
    };
    found("runc")?;
    found("containerd")
}

/// A containerd in the network namespace of one node; gone, with its pods, when dropped.
pub struct Containerd {
    child: Child,
    ctr: PathBuf,
    /// The node's folder of sockets.
    run: PathBuf,
    dir: PathBuf,
    cgroup: String,
}

impl Containerd {
    /// Starts `program` for a node whose namespace is there, or comes; its files are in the cluster's, and so is its log.
    /// `handlers` are further programs by the names of their classes.
    pub fn start(
        program: &Path,
        (cluster, node): (&str, &str),
        data: &Path,
        handlers: &[(&str, &str)],
    ) -> Self {
        let run = Path::new("/run/knarr").join(cluster).join("nodes").join(node);
        let dir = data.join(format!("containerd-{node}"));
        let netns = run.join("netns");
        // The file is there a moment before the namespace is.
        let is_mounted = || {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
            mounts.lines().any(|line| line.split(' ').nth(1) == netns.to_str())
        };
        until(&netns.display().to_string(), is_mounted);
        for folder in [dir.join("cni/bin"), dir.join("cni/net.d"), run.join("runtime"), data.join("logs")] {
            fs::create_dir_all(folder).unwrap();
        }
        for plugin in ["knarr-cni", "loopback"] {
            symlink(env!("CARGO_BIN_EXE_knarr"), dir.join("cni/bin").join(plugin)).unwrap();
        }
        fs::write(dir.join("cni/template"), config::conflist(&dir)).unwrap();
        let handlers: String = handlers.iter().map(|(name, program)| handler(name, program)).collect();
        fs::write(dir.join("config.toml"), config::toml(&dir, &run, PAUSE) + &handlers).unwrap();
        let log = fs::File::create(data.join(format!("logs/containerd-{node}.log"))).unwrap();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", netns.display()))
            .arg(program)
            .arg("--config")
            .arg(dir.join("config.toml"));
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let (ctr, cgroup) = (program.with_file_name("ctr"), format!("/knarr/{cluster}/{node}"));
        let containerd = Self { child, ctr, run, dir, cgroup };
        let socket = containerd.socket();
        let path = data.join(format!("logs/containerd-{node}.log"));
        let since = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = || fs::read_to_string(&path).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(60), "containerd does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let pause = crate::image::pause(&containerd.dir, PAUSE);
        containerd.import(&pause);
        containerd
    }

    fn socket(&self) -> PathBuf {
        self.run.join("runtime/cri.sock")
    }

    /// Imports an archive, and unpacks it.
    pub fn import(&self, archive: &str) {
        let mut ctr = Command::new(&self.ctr);
        ctr.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import", archive]);
        let output = ctr.output().unwrap();
        assert!(output.status.success(), "{ctr:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The processes of its pods, and their shims.
    fn left(&self) -> Vec<i32> {
        let read = |pid: i32, file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let socket = self.socket().display().to_string();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|&pid| {
            read(pid, "cgroup").contains(&self.cgroup) || read(pid, "cmdline").contains(&socket)
        })
        .collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            let left = self.left();
            if left.is_empty() {
                break;
            }
            for pid in left {
                // It may have ended meanwhile.
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let paths = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(Path::new);
        let below =
            |path: &&Path| [&self.run, &self.dir].iter().any(|dir| path.starts_with(dir) && path != dir);
        let mut paths: Vec<&Path> =
            paths.filter(below).filter(|path| *path != self.run.join("netns")).collect();
        paths.sort_unstable();
        for path in paths.into_iter().rev() {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// What its configuration says of a class of pods that a program runs.
fn handler(name: &str, program: &str) -> String {
    let table = format!("plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}");
    format!(
        "[{table}]\nruntime_type = \"io.containerd.runc.v2\"\n[{table}.options]\nBinaryName = \"{program}\"\n"
    )
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
