//! What the shim, the launcher and the runtime say to each other.
//!
//! Both sockets are `SOCK_SEQPACKET`, so that a message is one packet; numbers are in the machine's
//! byte order, since both ends are always on one machine. Descriptors travel by `SCM_RIGHTS` in the
//! order of the `HAS_*` bits. The file is compiled into the shim, which has no std, into the
//! runtime and into the launcher. [`VERSION`] changes whenever a layout does: a runtime that meets
//! an older shim leaves it alone until its pod is gone.

/// The layout's version, the first thing a shim says to a runtime (`HELLO`, in `a`).
pub const VERSION: i64 = 1;

/// The largest packet.
pub const MAX_PACKET: usize = 4096;
/// The most descriptors in a packet.
pub const MAX_FDS: usize = 12;

/// Bytes of a [`Header`].
pub const HEADER: usize = 40;

/// What every packet between runtime and shim begins with. Text may follow.
#[derive(Clone, Copy, Default)]
pub struct Header {
    /// One of `op` towards the shim, one of `event` towards the runtime.
    pub kind: u32,
    /// The request's number; an event that answers none has 0.
    pub seq: u32,
    /// The process it is about: the runtime chooses handles, never 0, never twice in a pod.
    pub handle: u64,
    /// `HAS_*` and `FLAG_*`.
    pub flags: u64,
    /// Depends on the kind.
    pub a: i64,
    /// Depends on the kind.
    pub b: i64,
}

impl Header {
    /// The packet's first bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0u8; HEADER];
        let parts: [&[u8]; 6] = [
            &self.kind.to_ne_bytes(),
            &self.seq.to_ne_bytes(),
            &self.handle.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
            &self.a.to_ne_bytes(),
            &self.b.to_ne_bytes(),
        ];
        let bytes = parts.iter().flat_map(|part| part.iter());
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        out
    }

    /// Reads a packet's first bytes; `None` when it is too short to have a header.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (head, _) = packet.split_first_chunk::<HEADER>()?;
        let four = |at: usize| head.get(at..)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b));
        let eight = |at: usize| head.get(at..)?.first_chunk::<8>().map(|b| u64::from_ne_bytes(*b));
        Some(Self {
            kind: four(0)?,
            seq: four(4)?,
            handle: eight(8)?,
            flags: eight(16)?,
            a: eight(24)? as i64,
            b: eight(32)? as i64,
        })
    }
}

/// Requests of the runtime.
pub mod op {
    /// Runs the launcher; the text is its command line, each word ended by a NUL.
    pub const START: u32 = 1;
    /// Asks for one `SLOT` event per process, then `DONE`.
    pub const LIST: u32 = 2;
    /// Log lines go to the file that comes along.
    pub const REOPEN: u32 = 3;
    /// Output is copied to the pipes that come along (`HAS_STDOUT`, `HAS_STDERR`); none ends it.
    pub const ATTACH: u32 = 4;
    /// Closes the container's stdin.
    pub const CLOSE_STDIN: u32 = 5;
    /// Forgets an exited process and closes what belonged to it.
    pub const FORGET: u32 = 6;
    /// Makes the pod's pid namespace, if there is none yet, within the user namespace that comes along (`HAS_INPUT`),
    /// if any; `DONE` has its init's pid in `a`.
    pub const PIDNS: u32 = 7;
    /// Ends the shim.
    pub const SHUTDOWN: u32 = 8;
    /// Pumps for a process that is another's child, because its shim was killed: pid in `a`, start
    /// time in `b`. Its end is not this shim's to see.
    pub const ADOPT: u32 = 9;
}

/// What the shim tells the runtime.
pub mod event {
    /// The first packet of a connection: the version in `a`, the shim's pid in `b`.
    pub const HELLO: u32 = 1;
    /// A request was carried out.
    pub const DONE: u32 = 2;
    /// A request failed, or a launcher did; the text says why.
    pub const ERROR: u32 = 3;
    /// A process runs: its pid in `a`, its start time (clock ticks since boot) in `b`. A terminal's
    /// master comes along with `HAS_TTY`.
    pub const STARTED: u32 = 4;
    /// A process ended: its pid in `a`, its wait status in `b`. Its record is on disk already.
    pub const EXITED: u32 = 5;
    /// A process that the shim knows: pid in `a`, start time in `b`, its state in `flags` above
    /// bit 32, and its `HAS_STDOUT`, `HAS_STDERR`, `HAS_STDIN_KEPT` or `HAS_TTY` descriptors.
    pub const SLOT: u32 = 6;
}

/// Reports of the launcher to the shim. Same header; the shim answers the first with one byte.
pub mod report {
    /// The process is ready to go: pid in `a`, start time in `b`; a terminal's master may come along.
    pub const READY: u32 = 1;
    /// It will not run; the text says why.
    pub const FAILED: u32 = 2;
}

/// The launcher's program file. Comes with every `START`, as does [`HAS_INPUT`].
pub const HAS_LAUNCHER: u64 = 1 << 0;
/// The file from which the launcher reads what to run; it becomes descriptor [`FD_INPUT`].
pub const HAS_INPUT: u64 = 1 << 1;
/// The container's own ends.
pub const HAS_CHILD_STDIN: u64 = 1 << 2;
/// See [`HAS_CHILD_STDIN`].
pub const HAS_CHILD_STDOUT: u64 = 1 << 3;
/// See [`HAS_CHILD_STDIN`].
pub const HAS_CHILD_STDERR: u64 = 1 << 4;
/// The ends to pump from, or the sinks of `ATTACH`.
pub const HAS_STDOUT: u64 = 1 << 5;
/// See [`HAS_STDOUT`].
pub const HAS_STDERR: u64 = 1 << 6;
/// The writing end of stdin, which the shim keeps open while no runtime is there.
pub const HAS_STDIN_KEPT: u64 = 1 << 7;
/// The log file.
pub const HAS_LOG: u64 = 1 << 8;
/// A terminal's master.
pub const HAS_TTY: u64 = 1 << 9;
/// How many `HAS_*` bits there are.
pub const HAS_COUNT: u32 = 10;

/// The process is an exec: no log, no exit record, its descriptors are the runtime's.
pub const FLAG_EXEC: u64 = 1 << 16;
/// The process has a terminal.
pub const FLAG_TTY: u64 = 1 << 17;

/// The process is another's child: its end is not the shim's to see.
pub const FLAG_ADOPTED: u64 = 1 << 18;

/// Where `SLOT` has the state within the flags.
pub const STATE_SHIFT: u32 = 32;
/// The launcher is at work.
pub const STATE_LAUNCHING: u64 = 1;
/// The process runs.
pub const STATE_RUNNING: u64 = 2;
/// It ended; `b` of `SLOT` has its wait status instead of its start time.
pub const STATE_EXITED: u64 = 3;

/// The shim's listening socket, in the shim.
pub const FD_LISTEN: i32 = 3;
/// The folder of exit records, in the shim.
pub const FD_RECORDS: i32 = 4;

/// What to run, in the launcher.
pub const FD_INPUT: i32 = 3;
/// The socket for reports, in the launcher.
pub const FD_REPORT: i32 = 4;
/// The first of stdin, stdout and stderr for the container, in the launcher.
pub const FD_STDIO: i32 = 5;

/// Bytes of an exit record: pid, wait status, seconds and nanoseconds since 1970, each an `i64`.
/// Its file is named after the handle, in 16 hexadecimal digits.
pub const RECORD: usize = 32;
