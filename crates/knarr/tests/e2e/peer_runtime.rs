//! Other runtimes in the place of our own: the tests about nodes run on containerd when `KNARR_E2E_CONTAINERD` names the
//! program, and on CRI-O when `KNARR_E2E_CRIO` does.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{containerd, crio};

/// The image of pause containers.
pub const PAUSE: &str = "docker.io/library/busybox:pause";

/// A runtime that is not ours.
pub enum Program {
    Containerd(PathBuf),
    Crio(PathBuf),
}

/// The runtime that the tests about nodes are to run on, if one is wanted.
#[expect(clippy::disallowed_methods, reason = "this is how whoever runs the tests says so")]
pub fn wanted() -> Option<Program> {
    let program = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let containerd = program("KNARR_E2E_CONTAINERD").map(Program::Containerd);
    containerd.or_else(|| program("KNARR_E2E_CRIO").map(Program::Crio))
}

/// Whether that is containerd, of which 1.6 is expected, as Debian 12 has it.
pub fn is_containerd() -> bool {
    matches!(wanted(), Some(Program::Containerd(_)))
}

/// Whether that is CRI-O.
pub fn is_crio() -> bool {
    matches!(wanted(), Some(Program::Crio(_)))
}

impl Program {
    /// As nodes tell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Containerd(_) => "containerd",
            Self::Crio(_) => "cri-o",
        }
    }
}

/// The folders of one node's runtime.
pub struct Place {
    /// Its files.
    pub dir: PathBuf,
    /// The node's folder of sockets.
    pub run: PathBuf,
}

impl Place {
    pub fn socket(&self) -> PathBuf {
        self.run.join("runtime/cri.sock")
    }
}

/// How a runtime is started, once its configuration is written.
pub struct Recipe {
    pub command: Vec<OsString>,
    /// What imports an archive of an image.
    pub import: Box<dyn Fn(&str) -> Command + Send>,
}

/// A runtime in the network namespace of one node; gone, with its pods, when dropped.
pub struct PeerRuntime {
    child: Child,
    import: Box<dyn Fn(&str) -> Command + Send>,
    place: Place,
    cgroup: String,
}

impl PeerRuntime {
    /// Starts `program` for a node whose namespace is there, or comes; its files are in the cluster's, and so is its log.
    /// `handlers` are further programs by the names of their classes.
    pub fn start(
        program: &Program,
        (cluster, node): (&str, &str),
        data: &Path,
        handlers: &[(&str, &str)],
    ) -> Self {
        let run = Path::new("/run/knarr").join(cluster).join("nodes").join(node);
        let name = program.name();
        let place = Place { dir: data.join(format!("{name}-{node}")), run };
        let netns = place.run.join("netns");
        // The file is there a moment before the namespace is.
        let is_mounted = || {
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
            mounts.lines().any(|line| line.split(' ').nth(1) == netns.to_str())
        };
        until(&netns.display().to_string(), is_mounted);
        let (plugins, networks) = (place.dir.join("cni/bin"), place.dir.join("cni/net.d"));
        for folder in [&plugins, &networks, &place.run.join("runtime"), &data.join("logs")] {
            fs::create_dir_all(folder).unwrap();
        }
        for plugin in ["knarr-cni", "loopback"] {
            symlink(env!("CARGO_BIN_EXE_knarr"), plugins.join(plugin)).unwrap();
        }
        let recipe = match program {
            Program::Containerd(program) => containerd::recipe(program, &place, handlers),
            Program::Crio(program) => crio::recipe(program, &place, handlers),
        };
        let path = data.join(format!("logs/{name}-{node}.log"));
        let log = fs::File::create(&path).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns.display())).args(&recipe.command);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let cgroup = format!("/knarr/{cluster}/{node}");
        let runtime = Self { child, import: recipe.import, place, cgroup };
        let (socket, since) = (runtime.place.socket(), Instant::now());
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = || fs::read_to_string(&path).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(60), "{name} does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let pause = crate::image::pause(&runtime.place.dir, PAUSE);
        runtime.import(&pause);
        runtime
    }

    /// Imports an archive, and unpacks it.
    pub fn import(&self, archive: &str) {
        let mut command = (self.import)(archive);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The processes of its pods, and what watches them.
    fn left(&self) -> Vec<i32> {
        let read = |pid: i32, file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let socket = self.place.socket().display().to_string();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|&pid| {
            read(pid, "cgroup").contains(&self.cgroup) || read(pid, "cmdline").contains(&socket)
        })
        .collect()
    }
}

impl Drop for PeerRuntime {
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
        unmount_below(&[&self.place.run, &self.place.dir], &self.place.run.join("netns"));
    }
}

/// Unmounts what is mounted below folders, all but one.
pub fn unmount_below(folders: &[&Path], but: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(Path::new);
    let below = |path: &&Path| folders.iter().any(|dir| path.starts_with(dir) && path != dir);
    let mut paths: Vec<&Path> = paths.filter(below).filter(|path| *path != but).collect();
    paths.sort_unstable();
    for path in paths.into_iter().rev() {
        let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
