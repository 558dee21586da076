//! What the kernel takes for that of a pod which there is in any case, whoever makes it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;

use crate::bench::process;
use crate::bench::rows::Measure;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// A network namespace, a link into it, and a cgroup for a pod and one for its container, in every hierarchy that has
/// limits: so many times, and nothing else.
pub(in crate::bench::rows) struct Floor {
    /// How many.
    pub pods: usize,
}

#[async_trait(?Send)]
impl Measure for Floor {
    async fn measure(&self, _: &Target, _: usize) -> Result<Sample> {
        // The first ones load modules and fill caches.
        drop(Made::new(0..4)?);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = process::kernel_memory()?;
        let mut made = Made::new(4..4 + self.pods)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let network = process::kernel_memory()?;
        made.cgroups()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let all = process::kernel_memory()?;
        let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1024.0 / self.pods as f64;
        Ok(vec![
            ("network KiB", each(before, network)),
            ("cgroups KiB", each(network, all)),
            ("kernel KiB/pod", each(before, all)),
        ])
    }
}

/// What was made; gone when dropped.
struct Made {
    names: Vec<String>,
    cgroups: Vec<PathBuf>,
}

impl Made {
    fn new(numbers: std::ops::Range<usize>) -> Result<Self> {
        let names = numbers.map(|number| format!("kb{}-{number}", std::process::id())).collect();
        let made = Self { names, cgroups: Vec::new() };
        made.batch(|name| format!("netns add {name}\n"))?;
        made.batch(|name| {
            format!("link add {name} type veth peer name eth0 netns {name}\nlink set {name} up\n")
        })?;
        for name in &made.names {
            batch(&["-n", name], "link set lo up\nlink set eth0 up\n")?;
        }
        Ok(made)
    }

    /// The same commands for each.
    fn batch(&self, commands: impl Fn(&str) -> String) -> Result<()> {
        batch(&[], &self.names.iter().map(|name| commands(name)).collect::<String>())
    }

    fn cgroups(&mut self) -> Result<()> {
        for root in hierarchies()? {
            for name in &self.names {
                let pod = root.join(name);
                self.cgroups.push(pod.clone());
                fs::create_dir_all(pod.join("container"))
                    .with_context(|| format!("making a cgroup below {}", root.display()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for pod in &self.cgroups {
            for folder in [pod.join("container"), pod.clone()] {
                if let Err(error) = fs::remove_dir(&folder) {
                    eprintln!("removing {}: {error}", folder.display());
                }
            }
        }
        if let Err(error) = self.batch(|name| format!("netns del {name}\n")) {
            eprintln!("{error}");
        }
    }
}

/// Many commands by one `ip`.
fn batch(flags: &[&str], commands: &str) -> Result<()> {
    let mut ip =
        Command::new("ip").args(flags).args(["-force", "-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("a pipe")?.write_all(commands.as_bytes())?;
    if !ip.wait()?.success() {
        bail!("ip could not make network namespaces");
    }
    Ok(())
}

/// Where the hierarchies of cgroups are that have limits for pods.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let base = Path::new("/sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        return Ok(vec![base.to_owned()]);
    }
    let names = ["cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "pids"];
    let found = names.map(|name| base.join(name)).into_iter().filter(|path| path.exists());
    // Several names may be links to one.
    let mut found = found.map(fs::canonicalize).collect::<std::io::Result<Vec<_>>>()?;
    found.sort();
    found.dedup();
    Ok(found)
}
