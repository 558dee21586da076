//! Processes that outlive the command that starts them.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Starts a process of our own program that outlives this one.
pub fn start(log: &Path, arguments: &[&str], data: &Path) -> Result<Child> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("opening {}", log.display()))?;
    let program = std::env::current_exe().context("finding our own program")?;
    let child = Command::new(program)
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("starting a process of the cluster")?;
    Ok(child)
}

/// Whether nothing can be written to the disk of a file.
fn is_full(path: &Path) -> bool {
    // What cannot be asked is not full.
    nix::sys::statvfs::statvfs(path).is_ok_and(|disk| disk.blocks_free() * disk.fragment_size() < 64 << 10)
}

/// The end of a log, for whoever waits in vain.
pub fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() && is_full(path) {
        let disk = path.parent().unwrap_or(path).display();
        return format!("(it says nothing, for no room is left on the disk of {disk}: make room there)");
    }
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}
