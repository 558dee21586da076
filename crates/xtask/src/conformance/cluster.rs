//! A cluster of its own for the tests, which goes with whoever made it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// It runs until this is dropped.
pub(super) struct Cluster {
    knarr: PathBuf,
    name: String,
    data: PathBuf,
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts one with so many nodes, its files in `folder`.
    pub(super) fn start(
        knarr: &Path,
        folder: &Path,
        nodes: usize,
        kubelet_config: Option<&Path>,
    ) -> Result<Self> {
        let cluster = Self {
            knarr: knarr.to_owned(),
            name: format!("conformance-{}", std::process::id()),
            data: folder.join("data"),
            kubeconfig: folder.join("kubeconfig"),
        };
        let mut up = cluster.command("up");
        up.args(["--port", "0", "--nodes", &nodes.to_string(), "--kubeconfig"]).arg(&cluster.kubeconfig);
        if let Some(file) = kubelet_config {
            up.arg("--kubelet-config").arg(file);
        }
        run(&mut up)?;
        Ok(cluster)
    }

    /// Gives the nodes every archive of a folder.
    pub(super) fn import(&self, images: &Path) -> Result<()> {
        let entries = std::fs::read_dir(images).with_context(|| format!("reading {}", images.display()))?;
        let mut archives: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        archives.retain(|path| path.extension().is_some_and(|end| end == "tar"));
        archives.sort();
        if archives.is_empty() {
            bail!("{} has no archives of images (*.tar)", images.display());
        }
        for archive in archives {
            let mut import = Command::new(&self.knarr);
            import.args(["image", "import", "--name", &self.name, "--data-dir"]).arg(&self.data).arg(archive);
            run(&mut import)?;
        }
        Ok(())
    }

    /// The folder of the kubelet, which tests cannot ask for, under a name that leaves room for those of sockets. None
    /// where there are several nodes, of which each has its own.
    pub(super) fn kubelet_root(&self) -> Result<Option<PathBuf>> {
        let nodes = self.data.join("nodes");
        let entries = std::fs::read_dir(&nodes).with_context(|| format!("reading {}", nodes.display()))?;
        let found = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
        let [only] = found.as_slice() else { return Ok(None) };
        let short = self.data.with_file_name("k");
        match std::os::unix::fs::symlink(only.join("kubelet"), &short) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("making {}", short.display()))
            }
            _ => Ok(Some(short)),
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.knarr);
        command.args([what, "--name", &self.name, "--data-dir"]).arg(&self.data);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = run(self.command("down").arg("--purge")) {
            eprintln!("{error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
