//! Places at which a test ends the process, as `kill -9` would.
//!
//! Code names a place by [`hit`]. In a release build that is nothing at all. A debug build that was told of a folder
//! (by [`look_in`]) looks there for a file of the place's name, at every hit: an empty file, or one that says how
//! many hits are let pass, `2`. The hit after those renames the file to `NAME.hit` and kills the process.
//!
//! So a place is armed while processes run, is hit by whichever of them comes there first, once, also when it is
//! started again at once, and shows that it was hit. A file that says `hold` holds the thread there until `NAME.hit`
//! is removed, in which time the test can do something else to the process's neighbours.

#[cfg(debug_assertions)]
pub use armed::look_in;

/// Comes to a place.
#[inline(always)]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(format_args!("{name}"));
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Comes to one of several places that differ in a part of their names, such as `kubelet.create_container.asked`.
#[inline(always)]
pub fn hit_of(part: &str, name: &str, at: &str) {
    #[cfg(debug_assertions)]
    armed::hit(format_args!("{part}.{name}.{at}"));
    #[cfg(not(debug_assertions))]
    let _ = (part, name, at);
}

/// Comes to a place at which another program is to be held: if the place is armed by `hold`, the file for as long as
/// which that program has to wait.
#[inline(always)]
pub fn hold_elsewhere(name: &str) -> Option<std::path::PathBuf> {
    #[cfg(debug_assertions)]
    return armed::hold_elsewhere(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        None
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::fmt::Arguments;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};
    use parking_lot::Mutex;

    /// One thread at a time counts down; the first to come is the one that dies.
    static FOLDER: OnceLock<Mutex<PathBuf>> = OnceLock::new();

    /// What a file says of its place.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Armed {
        /// Nothing.
        Not,
        /// It was this hit's turn.
        Die,
        /// It was this hit's turn, and it is to wait.
        Hold,
    }

    /// Looks for armed places in `folder` from now on. The first folder counts.
    pub fn look_in(folder: PathBuf) {
        // A second one is not looked into, as it says above.
        let _ = FOLDER.set(Mutex::new(folder));
    }

    pub fn hit(name: Arguments<'_>) {
        let Some(folder) = FOLDER.get() else { return };
        let name = name.to_string();
        let folder = folder.lock();
        match take(&folder, &name) {
            Armed::Not => {}
            Armed::Die => {
                eprintln!("failpoint {name}: this process is killed here");
                // It cannot fail, and there is nobody left to tell.
                let _ = raise(Signal::SIGKILL);
            }
            Armed::Hold => {
                let mark = marked(&folder, &name);
                drop(folder);
                eprintln!("failpoint {name}: held");
                while mark.exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    pub fn hold_elsewhere(name: &str) -> Option<PathBuf> {
        let folder = FOLDER.get()?.lock();
        (take(&folder, name) == Armed::Hold).then(|| marked(&folder, name))
    }

    fn marked(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.hit"))
    }

    /// Whether it is this hit's turn. Any failure to look is none: another process may have been faster.
    pub(super) fn take(folder: &Path, name: &str) -> Armed {
        let path = folder.join(name);
        let Ok(text) = fs::read_to_string(&path) else { return Armed::Not };
        let passes: u64 = text.trim().parse().unwrap_or_default();
        if passes > 0 {
            let left = fs::write(&path, (passes - 1).to_string());
            debug_assert!(left.is_ok(), "counting down at {}", path.display());
            return Armed::Not;
        }
        match fs::rename(&path, marked(folder, name)) {
            Ok(()) if text.trim() == "hold" => Armed::Hold,
            Ok(()) => Armed::Die,
            Err(_) => Armed::Not,
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::fs;

    use super::armed::{Armed, take};

    #[test]
    fn a_place_is_hit_once_after_those_that_are_let_pass() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(take(dir.path(), "a"), Armed::Not);
        fs::write(dir.path().join("a"), "2\n").unwrap();
        assert_eq!([(); 4].map(|()| take(dir.path(), "a")), [Armed::Not, Armed::Not, Armed::Die, Armed::Not]);
        assert!(dir.path().join("a.hit").exists());
        fs::write(dir.path().join("b"), "hold").unwrap();
        assert_eq!(take(dir.path(), "b"), Armed::Hold);
    }
}
