//! The shim: the parent of one pod's containers, and the pump of their logs.
//!
//! It forks launchers, reaps what they started, records every exit before it reaps, and turns
//! output into log lines. It knows nothing of images, specs, cgroups or the CRI: whatever it needs
//! comes as an open descriptor from the runtime, and it goes on without one. It has no std and no
//! libc and allocates nothing but the pages of unfinished lines, so that it costs a pod a few
//! kilobytes.
//!
//! Invariants:
//! - A process is in the table, with its pid, before its first instruction runs.
//! - Output that a process wrote is in the log before its exit is recorded, and the exit is on disk
//!   before its pid can be used again.
//! - Nothing that the runtime does or fails to do blocks the loop.

#![no_std]
#![no_main]

mod log;
#[expect(dead_code, reason = "the runtime and the launcher use the rest")]
mod pidns;
mod proto;
mod runtime;
mod server;
mod slot;
mod start;
mod sys;

use core::cell::UnsafeCell;

use server::Shim;

struct Only(UnsafeCell<Shim>);

// SAFETY: the program has one thread, and `main` takes the only reference.
unsafe impl Sync for Only {}

static SHIM: Only = Only(UnsafeCell::new(Shim::ZERO));

/// What the entry point calls. The listening socket comes as stdin and the folder of records as stdout: a runtime that
/// sets nothing but these needs not be copied to start us. Stderr is where stdin and stdout lead from then on.
fn main() -> ! {
    for (from, to) in [(0, proto::FD_LISTEN), (1, proto::FD_RECORDS), (2, 0), (2, 1)] {
        if let Err(errno) = sys::dup_onto(from, to) {
            sys::exit(errno);
        }
    }
    // SAFETY: called once, by the entry point; see `Only`.
    let shim = unsafe { &mut *SHIM.0.get() };
    sys::set_name(b"knarr-shim\0\0\0\0\0\0");
    sys::setsid();
    sys::adopt_orphans();
    sys::ignore_signal(sys::SIGPIPE, true);
    sys::block_sigchld(true);
    sys::set_nonblocking(proto::FD_LISTEN);
    match sys::signalfd() {
        Ok(fd) => shim.run(fd),
        Err(errno) => sys::exit(errno),
    }
}
