//! Work inside another network namespace: on a thread of its own, which ends with the work.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Doing, NetError, Result};

/// Runs `work` in the namespace that is pinned at `path`.
///
/// # Errors
/// When the namespace cannot be entered, and those of the work.
pub async fn run_in<T: Send + 'static, F>(path: &Path, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let path = path.to_owned();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // Nobody listens any longer if the caller gave up.
            let _ = sender.send(inside(&path, work));
        })
        .doing(|| "starting a thread".to_owned())?;
    receiver.await.map_err(|_| NetError::Other("the thread in the namespace ended early".to_owned()))?
}

fn inside<T, F: Future<Output = Result<T>>>(path: &Path, work: impl FnOnce() -> F) -> Result<T> {
    let file = File::open(path).doing(|| format!("opening {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).doing(|| format!("entering {}", path.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "starting a runtime".to_owned())?.block_on(work())
}

/// Makes a network namespace and pins it at `path`. Does nothing if one is pinned there.
///
/// # Errors
/// When the kernel refuses.
pub fn create(path: &Path) -> Result<()> {
    if is_pinned(path) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).doing(|| format!("making {}", dir.display()))?;
    }
    File::create(path).doing(|| format!("making {}", path.display()))?;
    let target = path.to_owned();
    let made = std::thread::spawn(move || -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNET).doing(|| "making a network namespace".to_owned())?;
        let own = PathBuf::from("/proc/thread-self/ns/net");
        mount(Some(&own), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing(|| format!("pinning the namespace at {}", target.display()))
    });
    made.join().map_err(|_| NetError::Other("the thread that makes a namespace ended early".to_owned()))?
}

fn is_pinned(path: &Path) -> bool {
    let found = nix::sys::statfs::statfs(path);
    found.is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Lets go of a pinned namespace, which ends with its last process. Doing it again is no error.
///
/// # Errors
/// When the pin cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    while is_pinned(path) {
        umount2(path, MntFlags::MNT_DETACH).doing(|| format!("unpinning {}", path.display()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
