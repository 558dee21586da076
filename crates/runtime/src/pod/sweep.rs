//! Takes away what an earlier runtime left half made or half removed: folders of sandboxes and containers of which
//! no record tells any more, what is mounted below them, containers' cgroups, and shims that no sandbox has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Core, PodError};
use crate::sys::{mount, process};

/// How many characters a container's id has.
const ID: usize = 64;

/// Sweeps once, after everything that has a record was found.
pub fn sweep(core: &Core) -> Result<(), PodError> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(PodError::io("reading the mount table"))?;
    let containers = core.config.run_dir.join("containers");
    let sandboxes = core.config.run_dir.join("sandboxes");
    clear(&containers, &mounts, |id| core.containers.lock().contains(id))
        .map_err(PodError::io(format!("sweeping {}", containers.display())))?;
    clear(&sandboxes, &mounts, |id| core.sandboxes.lock().contains(id))
        .map_err(PodError::io(format!("sweeping {}", sandboxes.display())))?;
    for sandbox in core.sandboxes.lock().all() {
        let cgroup = sandbox.state().cgroup;
        if let Err(error) = remove_cgroups(core, &cgroup) {
            // It goes with its pod.
            tracing::warn!(cgroup, %error, "a cgroup that an earlier runtime left stays for now");
        }
    }
    end_shims(core).map_err(PodError::io("looking for shims that nobody has"))
}

/// A container's cgroup is made before its record. Whatever else is in a pod's cgroup is not ours.
fn remove_cgroups(core: &Core, pod: &str) -> io::Result<()> {
    let is_id = |name: &str| name.len() == ID && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for name in core.cgroups.children(pod)? {
        if is_id(&name) && !core.containers.lock().contains(&name) {
            tracing::info!(pod, name, "removing a cgroup that an earlier runtime left");
            core.cgroups.remove(&format!("{pod}/{name}"))?;
        }
    }
    Ok(())
}

/// A shim is written down before anything runs below it: one that is not can be ended. The first process of a pid
/// namespace that a pod's containers share is of the same program, and all of them end with it.
fn end_shims(core: &Core) -> io::Result<()> {
    let states: Vec<_> = core.sandboxes.lock().all().iter().map(|sandbox| sandbox.state()).collect();
    let recorded = states.iter().flat_map(|state| [&state.shim, &state.pid_init]);
    let ours: Vec<i32> = recorded.flatten().map(|process| process.pid).collect();
    // One of an earlier version is a shim, too.
    let programs = core.programs.shim.parent();
    let is_shim = |exe: &Path| {
        exe.parent() == programs
            && exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shim-"))
    };
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process may end while it is looked at, and others' are none of our business.
        let shim = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| is_shim(&exe));
        // What a shim is about to start has its program for a moment, and is its own to end.
        let below = || process::parent(pid).is_some_and(|parent| ours.contains(&parent));
        if !shim || ours.contains(&pid) || below() {
            continue;
        }
        tracing::warn!(pid, "ending a shim that no sandbox has");
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn clear(folder: &Path, mounts: &str, is_known: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        if is_known(&id) {
            continue;
        }
        tracing::info!(folder = %entry.path().display(), "removing what an earlier runtime left");
        for mounted in below(mounts, &entry.path()) {
            mount::detach(&mounted)?;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// What is mounted at or below a folder, the last mounted first.
fn below(mounts: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    let mut found: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    found.reverse();
    found
}

/// The kernel writes blanks and the like as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_come_last_first() {
        let table = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /r/containers/a/rootfs rw - overlay o rw\n\
                     3 1 0:3 / /r/containers/ab rw - tmpfs t rw\n4 2 0:4 / /r/containers/a/rootfs/my\\040dir rw - tmpfs t rw\n";
        let found = below(table, Path::new("/r/containers/a"));
        assert_eq!(found, [Path::new("/r/containers/a/rootfs/my dir"), Path::new("/r/containers/a/rootfs")]);
    }

    #[test]
    fn only_what_nobody_knows_goes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["known", "unknown"] {
            fs::create_dir_all(dir.path().join(name).join("x")).unwrap();
        }
        clear(dir.path(), "", |id| id == "known").unwrap();
        clear(&dir.path().join("absent"), "", |_| false).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["known"]);
    }
}
