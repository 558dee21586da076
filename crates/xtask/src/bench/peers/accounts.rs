//! The processor time of everything that a cluster starts, ended or not: by cgroups, since shims and runc come and go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A cgroup that a cluster's processes are started in, beside the one of its pods.
#[derive(Debug)]
pub(in crate::bench) struct Account {
    root: PathBuf,
    own: PathBuf,
    pods: PathBuf,
}

/// Where processor time is counted: version 1's own hierarchy, else version 2.
fn root() -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup/cpuacct");
    if v1.join("cpuacct.usage").exists() { v1.to_owned() } else { "/sys/fs/cgroup".into() }
}

impl Account {
    /// An account of a cluster. Its pods are in `/knarr/NAME`.
    ///
    /// # Errors
    /// When the cgroup cannot be made.
    pub fn new(cluster: &str) -> Result<Self> {
        let root = root();
        let own = root.join(format!("knarr-{cluster}"));
        fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
        let pods = root.join("knarr").join(cluster);
        Ok(Self { root, own, pods })
    }

    /// A program, to be started in the cgroup.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.own.join("cgroup.procs"));
        command.arg(program.as_ref());
        command
    }

    /// Processor time of all processes so far, in microseconds; that of pods is in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cpu_us(&self) -> Result<u64> {
        Ok(self.of(&self.own)? + if self.pods.exists() { self.of(&self.pods)? } else { 0 })
    }

    fn of(&self, folder: &Path) -> Result<u64> {
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        if self.root.ends_with("cpuacct") {
            return Ok(read("cpuacct.usage")?.trim().parse::<u64>()? / 1000);
        }
        usage_us(&read("cpu.stat")?).context("cpu.stat has no usage_usec")
    }
}

fn usage_us(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
}

impl Drop for Account {
    fn drop(&mut self) {
        // One that still holds a process cannot be removed, and is nobody's loss.
        let _ = fs::remove_dir(&self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_found_in_cpu_stat() {
        assert_eq!(usage_us("usage_usec 120\nuser_usec 100\n"), Some(120));
        assert_eq!(usage_us("user_usec 100\n"), None);
    }
}
