//! A containerd in a node's network namespace, whose pods our network connects as a CNI plugin.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::{Account, Place, config, until};
use crate::bench::{image, process};

/// The image of pause containers.
const PAUSE: &str = "docker.io/library/pause:bench";

/// A containerd that runs.
#[derive(Debug)]
pub(in crate::bench) struct Containerd {
    child: Child,
    ctr: PathBuf,
    place: Place,
}

impl Containerd {
    /// Starts `program`, `knarr` being its CNI plugin, and imports the image of pause containers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        (program, knarr, pause): (&Path, &Path, Option<&Path>),
        place: &Place,
        account: &Account,
    ) -> Result<Self> {
        let dir = place.own.join("containerd");
        fs::create_dir_all(dir.join("cni/bin"))?;
        fs::create_dir_all(dir.join("cni/net.d"))?;
        // A link is read from where it is.
        let knarr = std::path::absolute(knarr)?;
        for plugin in ["knarr-cni", "loopback"] {
            symlink(&knarr, dir.join("cni/bin").join(plugin)).context("linking the CNI plugin")?;
        }
        fs::write(dir.join("cni/template"), config::conflist(&dir))?;
        fs::write(dir.join("config.toml"), config::toml(&dir, &place.run(), PAUSE))?;
        let socket = place.socket();
        fs::create_dir_all(socket.parent().context("the socket has no folder")?)?;
        let log = fs::File::create(dir.join("containerd.log"))?;
        let mut command = account.command("nsenter");
        command.arg(format!("--net={}", place.netns().display())).arg(program);
        command.arg("--config").arg(dir.join("config.toml")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting containerd")?;
        let ctr = program.with_file_name("ctr");
        let mut containerd = Self { child, ctr, place: place.clone() };
        until("containerd", Some(&mut containerd.child), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .with_context(|| format!("see {}", dir.join("containerd.log").display()))?;
        containerd.import(&image::pause(&dir, PAUSE, pause)?)?;
        Ok(containerd)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.place.socket()).args(["--namespace", "k8s.io"]).args(arguments);
        image::run(&mut command)
    }

    /// Imports an archive, and unpacks it.
    ///
    /// # Errors
    /// When it fails.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.ctr(&["images", "import", &archive.display().to_string()]).map(|_| ())
    }

    /// Removes an image, and what only it needed.
    ///
    /// # Errors
    /// When it fails.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.ctr(&["images", "rm", "--sync", name]).map(|_| ())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its shims, and their pause containers.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn shims(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let socket = self.place.socket().display().to_string();
        let mut shims = process::by_name(&["containerd-shim-runc-v2".to_owned()])?;
        shims.retain(|&pid| process::command_line(pid).contains(&socket));
        let mut pauses = Vec::new();
        for shim in &shims {
            let children = process::children(*shim);
            // The pod's first process is the pause container's.
            pauses.extend(children.first());
        }
        Ok((shims, pauses))
    }
}

impl Drop for Containerd {
    /// Ends the pods, too: nobody else will.
    fn drop(&mut self) {
        let socket = self.place.socket().display().to_string();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (prefix, since) = (self.place.cgroup(), std::time::Instant::now());
        let ours = |pid: &u32| {
            process::cgroups(*pid).contains(&prefix) || process::command_line(*pid).contains(&socket)
        };
        while since.elapsed() < std::time::Duration::from_secs(10) {
            let left: Vec<u32> = process::all().unwrap_or_default().into_iter().filter(ours).collect();
            if left.is_empty() {
                break;
            }
            for pid in left.iter().filter_map(|&pid| i32::try_from(pid).ok()) {
                // It may have ended meanwhile.
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        for folder in [self.place.own.clone(), self.place.run()] {
            process::unmount_below(&folder);
        }
    }
}
