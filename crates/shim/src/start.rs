//! Forking a launcher and giving it its descriptors.

use crate::proto::{self, FLAG_EXEC, FLAG_TTY, Header};
use crate::slot::Slot;
use crate::sys;

/// The descriptors of a packet, by their `HAS_*` bit. What is not taken out is closed.
pub struct Fds {
    fds: [i32; proto::MAX_FDS],
    count: usize,
    present: u64,
}

impl Fds {
    pub fn new(fds: [i32; proto::MAX_FDS], count: usize, present: u64) -> Self {
        Self { fds, count, present }
    }

    /// Takes the descriptor of `bit` out.
    pub fn take(&mut self, bit: u64) -> Option<i32> {
        let index = self.index(bit)?;
        let slot = self.fds.get_mut(index)?;
        let fd = *slot;
        *slot = -1;
        if fd < 0 { None } else { Some(fd) }
    }

    fn index(&self, bit: u64) -> Option<usize> {
        let known = self.present & ((1 << proto::HAS_COUNT) - 1);
        if known & bit == 0 {
            return None;
        }
        let index = (known & (bit - 1)).count_ones() as usize;
        if index < self.count { Some(index) } else { None }
    }
}

impl Drop for Fds {
    fn drop(&mut self) {
        for fd in self.fds.iter().take(self.count) {
            if *fd >= 0 {
                sys::close(*fd);
            }
        }
    }
}

/// Forks the launcher that `words` name and fills the slot.
pub fn start(slot: &mut Slot, request: Header, words: &[u8], mut fds: Fds) -> Result<(), i32> {
    const EINVAL: i32 = 22;
    let (Some(program), Some(input)) = (fds.take(proto::HAS_LAUNCHER), fds.take(proto::HAS_INPUT)) else {
        return Err(EINVAL);
    };
    let stdio =
        [proto::HAS_CHILD_STDIN, proto::HAS_CHILD_STDOUT, proto::HAS_CHILD_STDERR].map(|bit| fds.take(bit));
    let pair = sys::socketpair();
    let forked = pair.and_then(|pair| sys::fork(0).map(|pid| (pair, pid)));
    if let Ok(([_, theirs], 0)) = forked {
        become_launcher(program, input, theirs, stdio, words);
    }
    for fd in [Some(program), Some(input), stdio[0], stdio[1], stdio[2]].into_iter().flatten() {
        sys::close(fd);
    }
    let ([ours, theirs], pid) = forked?;
    sys::close(theirs);
    sys::set_nonblocking(ours);

    slot.handle = request.handle;
    slot.state = proto::STATE_LAUNCHING;
    slot.flags = request.flags & (FLAG_EXEC | FLAG_TTY);
    slot.seq = request.seq;
    slot.launcher = pid;
    slot.report.set(Some(ours));
    take_streams(slot, &mut fds);
    Ok(())
}

/// The ends to pump from, the end of stdin to keep, and the log.
pub fn take_streams(slot: &mut Slot, fds: &mut Fds) {
    for (stream, bit) in [(0, proto::HAS_STDOUT), (1, proto::HAS_STDERR), (0, proto::HAS_TTY)] {
        if let (Some(fd), Some(stream)) = (fds.take(bit), slot.streams.get_mut(stream)) {
            sys::set_nonblocking(fd);
            stream.source.set(Some(fd));
        }
    }
    slot.stdin.set(fds.take(proto::HAS_STDIN_KEPT));
    slot.log.set(fds.take(proto::HAS_LOG));
}

/// The child's half: descriptors to where the launcher expects them, then the launcher itself.
fn become_launcher(program: i32, input: i32, report: i32, stdio: [Option<i32>; 3], words: &[u8]) -> ! {
    const MAX_WORDS: usize = 16;
    // First everything above the numbers that will be overwritten.
    const CLEAR: i32 = 64;
    let above = |fd: i32| sys::dup_above(fd, CLEAR);
    let Ok(program) = above(program) else { sys::exit(126) };
    let wanted = [Some(input), Some(report), stdio[0], stdio[1], stdio[2]];
    let mut moved = [None; 5];
    for (to, from) in moved.iter_mut().zip(wanted) {
        *to = from.and_then(|fd| above(fd).ok());
    }
    for (i, fd) in moved.iter().enumerate() {
        let target = proto::FD_INPUT + i as i32;
        sys::close(target);
        if let Some(fd) = fd {
            let _ = sys::dup_onto(*fd, target);
        }
    }
    sys::ignore_signal(sys::SIGPIPE, false);
    sys::block_sigchld(false);
    let mut argv = [core::ptr::null::<u8>(); MAX_WORDS + 1];
    let mut rest = words;
    for slot in argv.iter_mut().take(MAX_WORDS) {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
        *slot = rest.as_ptr();
        rest = rest.get(end + 1..).unwrap_or(&[]);
    }
    sys::exec(program, &argv, &[core::ptr::null()]);
    sys::exit(126)
}
