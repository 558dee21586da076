//! The pid namespace that the containers of a pod can share, and its first process.

use crate::sys;

const CLONE_NEWPID: usize = 0x2000_0000;
const CLONE_PARENT: usize = 0x8000;

/// Makes one, within a user namespace if that is given; the pid of its first process.
pub fn make(users: Option<i32>) -> sys::Result<i32> {
    match users {
        Some(users) => make_within(users),
        None => fork_init(0),
    }
}

fn fork_init(flags: usize) -> sys::Result<i32> {
    match sys::fork(CLONE_NEWPID | flags) {
        Ok(0) => init(),
        other => other,
    }
}

/// The same in a pid namespace that belongs to a user namespace: only who has joined that can make one, and there
/// is no way back. So a child joins, and the child's sibling is who we wanted.
fn make_within(users: i32) -> sys::Result<i32> {
    const ECHILD: i32 = 10;
    let [ours, theirs] = sys::socketpair()?;
    let child = sys::fork(0);
    if let Ok(0) = child {
        let made = sys::join_users(users).and_then(|_| fork_init(CLONE_PARENT));
        if let Ok(pid) = made {
            let _ = sys::write(theirs, &pid.to_ne_bytes());
        }
        sys::exit(0);
    }
    sys::close(theirs);
    let mut pid = [0; 4];
    let heard = child.and_then(|_| sys::read(ours, &mut pid));
    sys::close(ours);
    if let Ok(child) = child {
        sys::wait(child);
    }
    if heard? == pid.len() { Ok(i32::from_ne_bytes(pid)) } else { Err(ECHILD) }
}

/// The first process of a shared pid namespace: it reaps what the pod's containers leave behind.
fn init() -> ! {
    sys::set_name(b"knarr-init\0\0\0\0\0\0");
    sys::close_above(0);
    sys::setsid();
    loop {
        match sys::reap_any() {
            Ok(pid) if pid > 0 => {}
            _ => sys::wait_sigchld(),
        }
    }
}
