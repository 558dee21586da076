//! Namespaces that outlive the process that made them: each is pinned by a bind mount.
#![expect(unsafe_code, reason = "an ioctl on an interface")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use base::failpoint;
use nix::sched::{CloneFlags, setns, unshare};

use super::mount;
use super::sysctls::{self, Settings};
use super::users::{Holder, Users};

/// What a pod's namespaces are to be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Namespaces to make, and in which file of the folder each is pinned.
    pub kinds: Vec<Kind>,
    /// The name that a new UTS namespace gets.
    pub hostname: Option<String>,
    /// Kernel parameters, by their dotted names.
    pub sysctls: Vec<(String, String)>,
    /// The users of a new user namespace, to which the others then belong.
    pub users: Option<Users>,
}

/// The file that pins a user namespace.
pub const USER: &str = "user";

/// A kind of namespace that a pod can have to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network.
    Net,
    /// Message queues, semaphores, shared memory.
    Ipc,
    /// Host name.
    Uts,
}

impl Kind {
    /// Its name under `/proc/<pid>/ns`, and of the file that pins it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }
}

/// Makes the namespaces and pins them in `folder`.
///
/// # Errors
/// Also when a kernel parameter would be set for more than the pod.
pub fn create(plan: &Plan, folder: &Path) -> io::Result<()> {
    let settings = sysctls::settings(plan)?;
    if plan.kinds.is_empty() {
        return Ok(());
    }
    let flags = plan.kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    let Some(users) = &plan.users else {
        return on_thread(|| {
            unshare(flags)?;
            furnish(plan, &settings, folder)
        });
    };
    let holder = Holder::new(users, flags)?;
    holder.write(&settings.of_users)?;
    pin(&holder.namespace(USER), &folder.join(USER))?;
    on_thread(|| {
        for kind in &plan.kinds {
            setns(File::open(holder.namespace(kind.name()))?.as_fd(), kind.flag())?;
        }
        furnish(plan, &settings, folder)
    })
}

/// Sets up and pins the namespaces of the present thread.
fn furnish(plan: &Plan, settings: &Settings, folder: &Path) -> io::Result<()> {
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name)?;
    }
    for (file, value) in &settings.others {
        std::fs::write(file, value)
            .map_err(|e| io::Error::new(e.kind(), format!("writing {value:?} to {file}: {e}")))?;
    }
    for kind in &plan.kinds {
        pin(&Path::new("/proc/thread-self/ns").join(kind.name()), &folder.join(kind.name()))?;
        failpoint::hit("runtime.sandbox.namespace_pinned");
    }
    Ok(())
}

fn pin(namespace: &Path, at: &Path) -> io::Result<()> {
    File::create(at)?;
    mount::bind(namespace, at)
}

/// Runs something inside a pinned network namespace, on a thread of its own.
pub fn in_network<T: Send>(pin: &Path, body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(pin)?;
    on_thread(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        body()
    })
}

/// Runs something on a thread of its own, which may leave our namespaces.
pub(super) fn on_thread<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".into()).spawn_scoped(scope, body)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
    })
}

/// Brings the loopback interface of the present network namespace up.
pub fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the ioctl reads one ifreq.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
