//! The system calls of joining a container: namespaces, session, terminal, identity, execution.
#![expect(unsafe_code, reason = "each function is a system call or two")]

use std::error::Error;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libcontainer::capabilities;
use libcontainer::oci_spec::runtime::{Box as ConsoleSize, LinuxSeccomp, Process};
use libcontainer::seccomp;
use libcontainer::syscall::syscall::create_syscall;

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The number behind a descriptor.
pub fn raw(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

/// Kills a process that was never let go.
pub fn kill(pid: i32) {
    // SAFETY: touches no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// A handle on a process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the result is checked before it is owned.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Joins every namespace of a process, or every one but that of cgroups, from inside of which others cannot be entered.
/// Its user namespace is joined where it is not ours already, as its root.
pub fn join_namespaces(process: &OwnedFd, own_users: bool, cgroups: bool) -> io::Result<()> {
    let mut all =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if cgroups {
        all |= libc::CLONE_NEWCGROUP;
    }
    if own_users {
        all |= libc::CLONE_NEWUSER;
    }
    // SAFETY: touches no memory; this process has one thread.
    check(unsafe { libc::setns(process.as_raw_fd(), all) }.into())?;
    if own_users {
        // Until then we are nobody there, and what we make would be nobody's.
        // SAFETY: touches no memory.
        unsafe {
            check(libc::setresgid(0, 0, 0).into())?;
            check(libc::setresuid(0, 0, 0).into())?;
        }
    }
    Ok(())
}

/// Joins a process's cgroup namespace.
pub fn join_cgroup_namespace(process: &OwnedFd) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::setns(process.as_raw_fd(), libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// A pipe whose ends can be taken in a parent and a child.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
        let [reader, writer] = fds;
        // SAFETY: two new descriptors.
        Ok(unsafe { Self { reader: OwnedFd::from_raw_fd(reader), writer: OwnedFd::from_raw_fd(writer) } })
    }

    pub fn into_reader(self) -> File {
        self.reader.into()
    }

    pub fn into_writer(self) -> File {
        self.writer.into()
    }

    pub fn writer(&self) -> io::Result<File> {
        self.writer.try_clone().map(File::from)
    }

    pub fn reader(&self) -> io::Result<File> {
        self.reader.try_clone().map(File::from)
    }
}

/// The same file under a number that means nothing: the low ones are those that the shim may have handed over.
pub fn out_of_the_way(file: &File) -> io::Result<File> {
    // SAFETY: the result is checked before it is owned.
    let fd = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64) }.into())?;
    // SAFETY: a new descriptor.
    Ok(unsafe { File::from_raw_fd(fd as RawFd) })
}

/// Has reading and writing fail where they would wait.
pub fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }.into()).map(drop)
}

/// Two connected sockets.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }.into())?;
    let [a, b] = fds;
    // SAFETY: two new descriptors.
    Ok(unsafe { (OwnedFd::from_raw_fd(a), OwnedFd::from_raw_fd(b)) })
}

/// Forks a process that is a child of this one's parent; `body` runs in it and then it exits. It begins in a cgroup of
/// version 2, if one is given by its folder and its door.
pub fn clone_sibling(
    cgroup: Option<(&File, &File)>,
    body: impl FnOnce() -> io::Result<()>,
) -> io::Result<i32> {
    // SAFETY: a plain fork: no shared memory, no new stack. This process has one thread, so the
    // child's memory is in order.
    let plain = || check(unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) });
    let pid = match cgroup {
        None => plain()?,
        Some((folder, mut door)) => match clone_into(folder) {
            Ok(pid) => pid,
            // A kernel before 5.7, or a profile that hides the system call.
            Err(_) => {
                door.write_all(b"0")?;
                plain()?
            }
        },
    };
    if pid == 0 {
        let code = if body().is_ok() { 127 } else { 126 };
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    }
    Ok(pid as i32)
}

/// The library's own constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn clone_into(cgroup: &File) -> io::Result<i64> {
    // struct clone_args; with CLONE_PARENT there is no signal of its own.
    let mut arguments = [0u64; 11];
    let [flags, .., into] = &mut arguments;
    *flags = libc::CLONE_PARENT as u64 | CLONE_INTO_CGROUP;
    *into = cgroup.as_raw_fd() as u64;
    // SAFETY: as a plain fork; the structure is as long as is said.
    check(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size_of_val(&arguments)) })
}

/// A file below an open folder, for when its path means something else by now.
pub fn read_at(folder: &File, name: &str) -> io::Result<String> {
    let name = CString::new(name)?;
    // SAFETY: the name ends with a NUL.
    let fd = check(
        unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }.into(),
    )?;
    // SAFETY: a new descriptor.
    let mut file = unsafe { File::from_raw_fd(fd as RawFd) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

pub fn new_session() -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::setsid() }.into()).map(drop)
}

/// Puts three descriptors, all above 2, in the place of stdin, stdout and stderr.
pub fn set_stdio(stdio: &[OwnedFd; 3]) -> io::Result<()> {
    for (target, fd) in (0..).zip(stdio) {
        // SAFETY: touches no memory.
        check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())?;
    }
    Ok(())
}

/// Opens a terminal of the container, makes it this session's, and sends its master away.
pub fn open_terminal(away: &OwnedFd, size: Option<&ConsoleSize>) -> Result<(), Box<dyn Error>> {
    let master = File::options().read(true).write(true).open("/dev/ptmx")?;
    let unlock: libc::c_int = 0;
    // SAFETY: the ioctl reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) }.into())?;
    if let Some(size) = size {
        let size = libc::winsize {
            ws_row: size.height() as u16,
            ws_col: size.width() as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the ioctl reads one winsize.
        check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())?;
    }
    // SAFETY: TIOCGPTPEER takes flags and returns a descriptor.
    let slave = check(
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY) }.into(),
    )?;
    let slave = slave as RawFd;
    crate::link::send(away.as_raw_fd(), b"m", Some(master.as_raw_fd()))?;
    // SAFETY: touches no memory.
    check(unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) }.into())?;
    for target in 0..3 {
        // SAFETY: touches no memory.
        check(unsafe { libc::dup2(slave, target) }.into())?;
    }
    Ok(())
}

/// Goes to the working directory, which must exist.
pub fn enter(cwd: &Path) -> Result<(), String> {
    let path =
        CString::new(cwd.as_os_str().as_bytes()).map_err(|_| "the working directory has a NUL".to_owned())?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::chdir(path.as_ptr()) }.into())
        .map(drop)
        .map_err(|e| format!("chdir to cwd ({:?}) set in config.json failed: {e}", cwd.display().to_string()))
}

/// Whether anybody may execute it; an error when it is not there.
pub fn may_execute(path: &Path) -> io::Result<bool> {
    let meta = std::fs::metadata(path)?;
    Ok(meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Takes on the process's groups, user, capabilities and seccomp profile.
pub fn drop_to(what: &Process, profile: Option<&LinuxSeccomp>) -> Result<(), Box<dyn Error>> {
    let syscall = create_syscall();
    let (user, no_new_privileges) = (what.user(), what.no_new_privileges().unwrap_or(false));
    let groups = user.additional_gids().clone().unwrap_or_default();
    // SAFETY: the list is as long as is said.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }.into())?;
    if no_new_privileges {
        // SAFETY: touches no memory.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    }
    // SAFETY: touches no memory. Capabilities have to outlast the change of user, to be cut down after.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::setresgid(user.gid(), user.gid(), user.gid()).into())?;
        check(libc::setresuid(user.uid(), user.uid(), user.uid()).into())?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0).into())?;
    }
    capabilities::reset_effective(syscall.as_ref())?;
    // Without no_new_privs a filter needs a capability that is about to go.
    if let (Some(profile), false) = (profile, no_new_privileges) {
        seccomp::initialize_seccomp(profile)?;
    }
    if let Some(caps) = what.capabilities() {
        capabilities::drop_privileges(caps, syscall.as_ref())?;
    }
    if let (Some(profile), true) = (profile, no_new_privileges) {
        seccomp::initialize_seccomp(profile)?;
    }
    Ok(())
}

/// Nothing but stdio survives execution.
pub fn close_rest_on_exec() -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Returns only when it fails.
pub fn execute(program: &Path, args: &[String], env: &[String]) -> io::Error {
    let strings = |list: &[String]| -> Result<Vec<CString>, _> {
        list.iter().map(|s| CString::new(s.as_bytes())).collect()
    };
    let (program, args, env) =
        match (CString::new(OsStr::as_bytes(program.as_os_str())), strings(args), strings(env)) {
            (Ok(program), Ok(args), Ok(env)) => (program, args, env),
            _ => return io::Error::other("a command, argument or variable has a NUL"),
        };
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: both lists end with a null, and what they point to is alive.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}
