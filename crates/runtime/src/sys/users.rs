//! User namespaces: what the users of a pod are on the machine.
//!
//! A process with several threads cannot enter a user namespace, so a child is born in it, which does nothing but
//! keep it until it is pinned, or used.
#![expect(unsafe_code, reason = "forking into namespaces, and mounts that map users")]

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::failpoint;
use nix::sched::CloneFlags;

/// A row of `/proc/<pid>/uid_map`: `length` users from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first as the pod sees it.
    pub inside: u32,
    /// The first as the machine sees it.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// What a pod's users and groups are on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Users.
    pub uids: Vec<Range>,
    /// Groups.
    pub gids: Vec<Range>,
}

impl Users {
    /// The pod's root, user and group, as the machine sees them; `None` where the pod has no root.
    pub fn root(&self) -> Option<(u32, u32)> {
        let first = |ranges: &[Range]| ranges.iter().find(|range| range.inside == 0).map(|r| r.outside);
        Some((first(&self.uids)?, first(&self.gids)?))
    }

    /// Gives a file to the pod's root.
    pub fn give_to_root(&self, path: &Path) -> io::Result<()> {
        match self.root() {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

fn table(ranges: &[Range]) -> String {
    ranges.iter().map(|row| format!("{} {} {}\n", row.inside, row.outside, row.length)).collect()
}

/// A process in new namespaces that only waits; it ends when this is dropped.
pub struct Holder(libc::pid_t);

impl Holder {
    /// `kinds` are made beside the user namespace and belong to it.
    pub fn new(users: &Users, kinds: CloneFlags) -> io::Result<Self> {
        let holder = Self::fork(kinds | CloneFlags::CLONE_NEWUSER, nix::unistd::getpid().as_raw())?;
        failpoint::hit("runtime.users.held");
        fs::write(holder.file("uid_map"), table(&users.uids))?;
        fs::write(holder.file("gid_map"), table(&users.gids))?;
        Ok(holder)
    }

    /// Forks the child of `parent`, which is this process.
    fn fork(kinds: CloneFlags, parent: libc::pid_t) -> io::Result<Self> {
        let flags = i64::from(kinds.bits() | libc::SIGCHLD);
        // SAFETY: a plain fork: no shared memory, no new stack.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            0 => wait(parent),
            pid if pid > 0 => Ok(Self(pid as libc::pid_t)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }

    /// Writes files of `/proc/sys` as its namespace's own.
    ///
    /// # Errors
    /// Names the first that cannot be written.
    pub fn write(&self, files: &[(CString, Vec<u8>)]) -> io::Result<()> {
        let namespace = File::open(self.namespace("user"))?;
        for (file, content) in files {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("writing to {}: {error}", file.to_string_lossy()))
            };
            // SAFETY: a plain fork: no shared memory, no new stack.
            let code = match unsafe { libc::syscall(libc::SYS_clone, i64::from(libc::SIGCHLD), 0, 0, 0, 0) } {
                0 => write_within(namespace.as_raw_fd(), file, content),
                pid if pid > 0 => exit_code(pid as libc::pid_t),
                _ => return Err(named(io::Error::last_os_error())),
            };
            if code != 0 {
                return Err(named(io::Error::from_raw_os_error(code)));
            }
        }
        Ok(())
    }

    /// The file of one of its namespaces, by the kernel's name for the kind.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        self.file("ns").join(kind)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: touches no memory; the process is our child and not yet reaped, so the number is still its.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// The child's half: a copy of one thread of many, in which only system calls are safe. Without its parent nobody would
/// end it, and it would keep whatever that had open, its lock above all.
fn wait(parent: libc::pid_t) -> ! {
    // SAFETY: these touch no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // One that was killed before it could be asked for a signal sends none.
        if libc::getppid() != parent {
            libc::_exit(1);
        }
        loop {
            libc::poll(std::ptr::null_mut(), 0, -1);
        }
    }
}

/// With which number a child of ours ended; what it never said is an error, too.
fn exit_code(child: libc::pid_t) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: the process is our child, and the status a number of ours.
        match unsafe { libc::waitpid(child, &raw mut status, 0) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return libc::ECHILD,
            _ if libc::WIFEXITED(status) => return libc::WEXITSTATUS(status),
            _ => return libc::EINTR,
        }
    }
}

/// The half of a child that writes a file in a user namespace: only system calls are safe. Its exit code is an error's
/// number, or 0.
fn write_within(namespace: RawFd, file: &CStr, content: &[u8]) -> ! {
    let last = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: the descriptor is open, and name and content are the parent's, of which this is a copy.
    unsafe {
        if libc::setns(namespace, libc::CLONE_NEWUSER) != 0 {
            libc::_exit(last());
        }
        let to = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if to < 0 || libc::write(to, content.as_ptr().cast(), content.len()) < 0 {
            libc::_exit(last());
        }
        libc::_exit(0)
    }
}

/// Shows `from` at `at`, an existing file or folder of the same kind, with its owners mapped by the user namespace
/// that `namespace` pins: what belongs to the pod's root there belongs to root here. What is mounted below `from`
/// is shown too, not mapped.
pub fn bind_mapped(from: &Path, at: &Path, namespace: &Path) -> io::Result<()> {
    let namespace = File::open(namespace)?;
    let tree = mapped_tree(from, &namespace)?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    const FROM_IS_DESCRIPTOR: libc::c_uint = 4;
    // SAFETY: both paths end with a NUL.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            FROM_IS_DESCRIPTOR,
        )
    };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A mount that is attached nowhere yet.
fn mapped_tree(from: &Path, namespace: &File) -> io::Result<OwnedFd> {
    const MAP_IDS: u64 = 0x0010_0000;
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        namespace: u64,
    }
    const CLONE: libc::c_int = 1;
    const RECURSIVE: libc::c_int = 0x8000;
    let from = CString::new(from.as_os_str().as_bytes())?;
    let flags = CLONE | RECURSIVE | libc::O_CLOEXEC;
    // SAFETY: the path ends with a NUL; the result is checked before it is owned.
    let tree = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let attr = MountAttr { set: MAP_IDS, clear: 0, propagation: 0, namespace: namespace.as_raw_fd() as u64 };
    // SAFETY: the structure is as long as is said and lives until the call returns.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(tree) }
}

/// Whether pods can have users of their own: the kernel makes user namespaces, and the file system of `folder` lets
/// owners be mapped (5.12; overlayfs on top of such mounts, 5.19).
pub fn supported(folder: &Path) -> io::Result<()> {
    let range = vec![Range { inside: 0, outside: 65_536, length: 65_536 }];
    let holder = Holder::new(&Users { uids: range.clone(), gids: range }, CloneFlags::empty())?;
    mapped_tree(folder, &File::open(holder.namespace("user"))?).map(drop)
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_holder_whose_parent_was_gone_before_it_looked_does_not_stay() {
        let orphan = Holder::fork(CloneFlags::empty(), 1).unwrap();
        let pid = Pid::from_raw(orphan.0);
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 1));
        std::mem::forget(orphan);
        let held = Holder::fork(CloneFlags::empty(), nix::unistd::getpid().as_raw()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let seen = waitpid(Pid::from_raw(held.0), Some(WaitPidFlag::WNOHANG)).unwrap();
        assert_eq!(seen, WaitStatus::StillAlive);
    }
}
