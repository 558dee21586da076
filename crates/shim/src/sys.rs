//! System calls without a libc: each function is one call; errors are `Err(errno)`.

use core::arch::asm;

pub type Result<T> = core::result::Result<T, i32>;

pub const EINTR: i32 = 4;
pub const EAGAIN: i32 = 11;

mod nr;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn raw(n: usize, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention; it clobbers rcx and r11 and nothing else. The caller
    // answers for what the arguments point to.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn raw(n: usize, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention. The caller answers for what the arguments point to.
    unsafe {
        asm!("svc 0", in("x8") n, inlateout("x0") a[0] as isize => ret, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    ret
}

fn check(ret: isize) -> Result<usize> {
    if (-4095..0).contains(&ret) { Err(-ret as i32) } else { Ok(ret as usize) }
}

macro_rules! call {
    ($nr:ident $(, $arg:expr)* $(,)?) => {{
        let mut args = [0usize; 6];
        let given = [$($arg as usize),*];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: every pointer given stems from a reference or slice that lives across the call,
        // with its true length beside it.
        check(unsafe { raw(nr::$nr, args) })
    }};
}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = call!(EXIT_GROUP, code);
    }
}

pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize> {
    call!(READ, fd, buf.as_mut_ptr(), buf.len())
}

pub fn write(fd: i32, buf: &[u8]) -> Result<usize> {
    call!(WRITE, fd, buf.as_ptr(), buf.len())
}

/// Takes the last `len` bytes of a file away.
pub fn shrink(fd: i32, len: usize) {
    const SEEK_END: usize = 2;
    if let Ok(end) = call!(LSEEK, fd, 0, SEEK_END)
        && let Some(rest) = end.checked_sub(len)
    {
        let _ = call!(FTRUNCATE, fd, rest);
    }
}

/// Sets both times of a file to now.
pub fn touch(fd: i32) {
    let _ = call!(UTIMENSAT, fd, 0, 0, 0);
}

pub fn close(fd: i32) {
    let _ = call!(CLOSE, fd);
}

/// Moves `from` onto `to`, without close-on-exec. `from` and `to` differ.
pub fn dup_onto(from: i32, to: i32) -> Result<usize> {
    call!(DUP3, from, to, 0)
}

/// A copy of `fd` that is at least `min`, with close-on-exec.
pub fn dup_above(fd: i32, min: i32) -> Result<i32> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    call!(FCNTL, fd, F_DUPFD_CLOEXEC, min).map(|fd| fd as i32)
}

pub fn set_nonblocking(fd: i32) {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    const O_NONBLOCK: usize = 0o4000;
    if let Ok(flags) = call!(FCNTL, fd, F_GETFL) {
        let _ = call!(FCNTL, fd, F_SETFL, flags | O_NONBLOCK);
    }
}

pub fn close_above(first: i32) {
    let _ = call!(CLOSE_RANGE, first, u32::MAX, 0);
}

pub fn map_pages(len: usize) -> Result<usize> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    call!(MMAP, 0, len, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0)
}

pub fn unmap_pages(at: usize, len: usize) {
    let _ = call!(MUNMAP, at, len);
}

pub const SIGKILL: i32 = 9;
pub const SIGPIPE: i32 = 13;
pub const SIGCHLD: i32 = 17;

/// Ignores a signal, or gives it back its default.
pub fn ignore_signal(signal: i32, ignore: bool) {
    let action: [usize; 4] = [usize::from(ignore), 0, 0, 0];
    let _ = call!(RT_SIGACTION, signal, action.as_ptr(), 0, 8);
}

/// Blocks SIGCHLD alone, or nothing.
pub fn block_sigchld(block: bool) {
    const SIG_SETMASK: usize = 2;
    let mask: u64 = if block { 1 << (SIGCHLD - 1) } else { 0 };
    let _ = call!(RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, 8);
}

pub fn signalfd() -> Result<i32> {
    const CLOEXEC_NONBLOCK: usize = 0o2004000;
    let mask: u64 = 1 << (SIGCHLD - 1);
    call!(SIGNALFD4, usize::MAX, &raw const mask, 8, CLOEXEC_NONBLOCK).map(|fd| fd as i32)
}

/// Sleeps until a child ends.
pub fn wait_sigchld() {
    let mask: u64 = 1 << (SIGCHLD - 1);
    let _ = call!(RT_SIGTIMEDWAIT, &raw const mask, 0, 0, 8);
}

pub fn getpid() -> i32 {
    call!(GETPID).unwrap_or(0) as i32
}

pub fn setsid() {
    let _ = call!(SETSID);
}

pub fn set_name(name: &[u8; 16]) {
    const PR_SET_NAME: usize = 15;
    let _ = call!(PRCTL, PR_SET_NAME, name.as_ptr());
}

/// Makes this process the parent of whatever its descendants leave behind: what an OCI program started, above all.
pub fn adopt_orphans() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    let _ = call!(PRCTL, PR_SET_CHILD_SUBREAPER, 1);
}

pub fn kill(pid: i32, signal: i32) {
    let _ = call!(KILL, pid, signal);
}

/// Forks; 0 in the child. `flags` may add namespaces.
pub fn fork(flags: usize) -> Result<i32> {
    call!(CLONE, flags | SIGCHLD as usize, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// Joins the user namespace that `fd` is.
pub fn join_users(fd: i32) -> Result<usize> {
    const CLONE_NEWUSER: usize = 0x1000_0000;
    call!(SETNS, fd, CLONE_NEWUSER)
}

/// Executes the program that `fd` is. Returns only on failure.
pub fn exec(fd: i32, argv: &[*const u8], envp: &[*const u8]) -> i32 {
    const AT_EMPTY_PATH: usize = 0x1000;
    let empty = [0u8];
    match call!(EXECVEAT, fd, empty.as_ptr(), argv.as_ptr(), envp.as_ptr(), AT_EMPTY_PATH) {
        Ok(_) => 0,
        Err(errno) => errno,
    }
}

/// The next child that ended, left unreaped: a zombie keeps its pid.
pub fn peek_exited() -> Result<Option<i32>> {
    const P_ALL: usize = 0;
    const WNOHANG_WEXITED_WNOWAIT: usize = 1 | 4 | 0x0100_0000;
    let mut info = [0i32; 32];
    call!(WAITID, P_ALL, 0, info.as_mut_ptr(), WNOHANG_WEXITED_WNOWAIT, 0)?;
    // si_pid is the first field after three ints and their padding.
    Ok(if info[4] == 0 { None } else { Some(info[4]) })
}

/// The wait status of a child that ended, left unreaped.
pub fn peek_status(pid: i32) -> Result<i32> {
    const P_PID: usize = 1;
    const WNOHANG_WEXITED_WNOWAIT: usize = 1 | 4 | 0x0100_0000;
    let mut info = [0i32; 32];
    call!(WAITID, P_PID, pid, info.as_mut_ptr(), WNOHANG_WEXITED_WNOWAIT, 0)?;
    const CLD_EXITED: i32 = 1;
    let (code, status) = (info[2], info[6]);
    Ok(if code == CLD_EXITED { (status & 0xff) << 8 } else { status & 0x7f })
}

/// Waits for the end of a child and reaps it.
pub fn wait(pid: i32) {
    while call!(WAIT4, pid, 0, 0, 0) == Err(EINTR) {}
}

pub fn reap(pid: i32) {
    const WNOHANG: usize = 1;
    let _ = call!(WAIT4, pid, 0, WNOHANG, 0);
}

/// Reaps whatever ended; `Err(ECHILD)` without children.
pub fn reap_any() -> Result<usize> {
    const WNOHANG: usize = 1;
    call!(WAIT4, usize::MAX, 0, WNOHANG, 0)
}

/// Seconds and nanoseconds since 1970.
pub fn now() -> (i64, i64) {
    let mut time = [0i64; 2];
    let _ = call!(CLOCK_GETTIME, 0, time.as_mut_ptr());
    (time[0], time[1])
}

/// Makes (or empties) a file in a folder; `name` ends with a NUL.
pub fn create(dir: i32, name: &[u8]) -> Result<i32> {
    const WRITE_CREATE_TRUNCATE_CLOEXEC: usize = 0o1 | 0o100 | 0o1000 | 0o2000000;
    call!(OPENAT, dir, name.as_ptr(), WRITE_CREATE_TRUNCATE_CLOEXEC, 0o600).map(|fd| fd as i32)
}

/// Renames within a folder; both names end with a NUL.
pub fn rename(dir: i32, from: &[u8], to: &[u8]) -> Result<usize> {
    call!(RENAMEAT2, dir, from.as_ptr(), dir, to.as_ptr(), 0)
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;

pub fn poll(fds: &mut [PollFd]) -> Result<usize> {
    call!(PPOLL, fds.as_mut_ptr(), fds.len(), 0, 0, 8)
}

/// The same, without waiting.
pub fn poll_now(fds: &mut [PollFd]) -> Result<usize> {
    let zero = [0i64; 2];
    call!(PPOLL, fds.as_mut_ptr(), fds.len(), zero.as_ptr(), 0, 8)
}

pub fn accept(fd: i32) -> Result<i32> {
    const CLOEXEC_NONBLOCK: usize = 0o2004000;
    call!(ACCEPT4, fd, 0, 0, CLOEXEC_NONBLOCK).map(|fd| fd as i32)
}

/// Two connected `SOCK_SEQPACKET` sockets with close-on-exec.
pub fn socketpair() -> Result<[i32; 2]> {
    const AF_UNIX: usize = 1;
    const SEQPACKET_CLOEXEC: usize = 5 | 0o2000000;
    let mut pair = [0i32; 2];
    call!(SOCKETPAIR, AF_UNIX, SEQPACKET_CLOEXEC, 0, pair.as_mut_ptr())?;
    Ok(pair)
}

#[repr(C)]
struct IoVec {
    base: *const u8,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_len: u64,
    iov: *const IoVec,
    iov_len: usize,
    control: *mut u64,
    control_len: usize,
    flags: u64,
}

/// Room for `MAX_FDS` descriptors and their header, aligned as the kernel wants it.
type Control = [u64; 2 + crate::proto::MAX_FDS / 2];

/// Sends `parts` as one packet, with descriptors.
pub fn send(fd: i32, parts: [&[u8]; 2], fds: &[i32]) -> Result<usize> {
    const NOSIGNAL_DONTWAIT: usize = 0x4000 | 0x40;
    let mut control: Control = [0; 2 + crate::proto::MAX_FDS / 2];
    control[0] = 16 + 4 * fds.len() as u64;
    control[1] = 1 | (1 << 32); // SOL_SOCKET, SCM_RIGHTS
    for (i, fd) in fds.iter().enumerate() {
        control[2 + i / 2] |= u64::from(*fd as u32) << (32 * (i % 2));
    }
    let iov = parts.map(|part| IoVec { base: part.as_ptr(), len: part.len() });
    let msg = MsgHdr {
        name: 0,
        name_len: 0,
        iov: iov.as_ptr(),
        iov_len: iov.len(),
        control: control.as_mut_ptr(),
        control_len: if fds.is_empty() { 0 } else { (16 + 4 * fds.len()).next_multiple_of(8) },
        flags: 0,
    };
    call!(SENDMSG, fd, &raw const msg, NOSIGNAL_DONTWAIT)
}

/// Receives one packet and its descriptors (with close-on-exec). A length of 0 is the end.
pub fn receive(fd: i32, buf: &mut [u8], fds: &mut [i32; crate::proto::MAX_FDS]) -> Result<(usize, usize)> {
    const CMSG_CLOEXEC_DONTWAIT: usize = 0x4000_0000 | 0x40;
    let mut control: Control = [0; 2 + crate::proto::MAX_FDS / 2];
    let iov = [IoVec { base: buf.as_mut_ptr(), len: buf.len() }];
    let mut msg = MsgHdr {
        name: 0,
        name_len: 0,
        iov: iov.as_ptr(),
        iov_len: 1,
        control: control.as_mut_ptr(),
        control_len: size_of::<Control>(),
        flags: 0,
    };
    let len = call!(RECVMSG, fd, &raw mut msg, CMSG_CLOEXEC_DONTWAIT)?;
    let mut count = 0;
    if msg.control_len >= 16 && control[1] == 1 | (1 << 32) {
        count = (control[0] as usize).saturating_sub(16) / 4;
        for (i, fd) in fds.iter_mut().enumerate().take(count) {
            *fd = (control[2 + i / 2] >> (32 * (i % 2))) as u32 as i32;
        }
    }
    Ok((len, count))
}
