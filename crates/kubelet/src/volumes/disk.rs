//! Disks that are local volumes: each pod has its disk mounted, and one without a file system gets one first
//! (`k8s.io/mount-utils`, `SafeFormatAndMount`). The node's programs do that: blkid, fsck, mkfs, mount.

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Cause, is_mount_point};

/// What a disk without a file system gets, if its volume names nothing.
const USUAL: &str = "ext4";
/// `blkid` knows nothing of the disk.
const UNKNOWN: i32 = 2;
/// `fsck` found what it could not mend.
const UNMENDED: i32 = 4;

/// A disk, and how it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub device: PathBuf,
    /// Empty: the usual one.
    pub file_system: String,
    pub options: Vec<String>,
    pub read_only: bool,
}

/// Whether a path is a disk.
pub fn is_disk(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Mounts a disk at a folder, which is made. What is mounted there already stays. Blocks; never twice at a time.
///
/// # Errors
/// In upstream's words.
pub fn mount(disk: &Disk, at: &Path) -> Result<(), Cause> {
    fs::create_dir_all(at).map_err(Cause::io(at))?;
    if is_mount_point(at).map_err(Cause::io(at))? {
        return Ok(());
    }
    let device = disk.device.display();
    let wanted = if disk.file_system.is_empty() { USUAL } else { &disk.file_system };
    match file_system(&disk.device)? {
        None if disk.read_only => {
            let why =
                format!("cannot mount unformatted disk {device} as we are manipulating it in read-only mode");
            return Err(Cause::Claim(why));
        }
        None => make(&disk.device, wanted, at)?,
        Some(_) if disk.read_only || is_mounted(&disk.device) => {}
        Some(found) => {
            if found != wanted {
                tracing::warn!(%device, found, wanted, "a disk has another file system than its volume says");
            }
            mend(&disk.device)?;
        }
    }
    let mut options = disk.options.clone();
    // The kernel mounts a disk in one way for all; containers see theirs as they ask.
    if disk.read_only && !is_mounted(&disk.device) {
        options.push("ro".to_owned());
    }
    options.push("defaults".to_owned());
    let mut command = Command::new("mount");
    command.args(["-t", wanted, "-o", &options.join(",")]).arg(&disk.device).arg(at);
    let output = run(&mut command)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Cause::Claim(format!("mount failed: {}: {}", output.status, said(&output))))
}

fn run(command: &mut Command) -> Result<Output, Cause> {
    let program = PathBuf::from(command.get_program());
    command.stdin(Stdio::null()).output().map_err(Cause::io(&program))
}

/// Everything that a program said.
fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The file system that a disk has. One with partitions is not empty either.
fn file_system(device: &Path) -> Result<Option<String>, Cause> {
    let mut command = Command::new("blkid");
    let output = run(command.args(["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export"]).arg(device))?;
    if output.status.code() == Some(UNKNOWN) {
        return Ok(None);
    }
    let text = said(&output);
    if !output.status.success() {
        let device = device.display();
        return Err(Cause::Claim(format!(
            "failed to get disk format of disk {device}: {}: {text}",
            output.status
        )));
    }
    Ok(Some(kind(&text)))
}

/// What `blkid` tells.
fn kind(text: &str) -> String {
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    of("TYPE").unwrap_or("unknown data, probably partitions").to_owned()
}

fn make(device: &Path, kind: &str, at: &Path) -> Result<(), Cause> {
    let force: &[&str] = match kind {
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    };
    tracing::info!(device = %device.display(), kind, "a disk has no file system and gets one");
    let output = run(Command::new(format!("mkfs.{kind}")).args(force).arg(device))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Cause::Claim(format!(
        "format of disk {:?} failed: type:({kind:?}) target:({:?}) options:([\"defaults\"]) errcode:({}) output:({}) ",
        device.display().to_string(),
        at.display().to_string(),
        output.status,
        said(&output)
    )))
}

fn mend(device: &Path) -> Result<(), Cause> {
    let output = match run(Command::new("fsck").arg("-a").arg(device)) {
        Ok(output) => output,
        Err(Cause::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("there is no fsck: a disk is mounted unchecked");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if output.status.code() == Some(UNMENDED) {
        let (device, said) = (device.display(), said(&output));
        let why = format!("'fsck' found errors on device {device} but could not correct them: {said}");
        return Err(Cause::Claim(why));
    }
    Ok(())
}

/// Whether somebody has a disk mounted.
fn is_mounted(device: &Path) -> bool {
    let Ok(found) = fs::metadata(device) else { return false };
    let number =
        format!("{}:{}", nix::sys::stat::major(found.st_rdev()), nix::sys::stat::minor(found.st_rdev()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(2) == Some(number.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_tells_is_read() {
        assert_eq!(kind("DEVNAME=/dev/x\nTYPE=ext4\n"), "ext4");
        assert_eq!(kind("DEVNAME=/dev/x\nPTTYPE=gpt\n"), "unknown data, probably partitions");
    }

    #[test]
    fn only_disks_are_disks() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            !is_disk(dir.path()) && !is_disk(&dir.path().join("nothing")) && !is_disk(Path::new("/dev/null"))
        );
    }
}
