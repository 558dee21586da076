//! Killing all that runs in a cgroup, however fast it forks.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base::failpoint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Hierarchies, gone};

/// How often it is looked whether a cgroup stands still, two milliseconds apart.
const LOOKS: u32 = 50;

/// A cgroup in which nothing runs until this is dropped.
struct Frozen {
    file: PathBuf,
    thaw: &'static str,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, self.thaw)
            && !gone(&error)
        {
            tracing::warn!(path = %self.file.display(), %error, "a cgroup stays frozen");
        }
    }
}

impl Hierarchies {
    /// Sends SIGKILL to every process there and below. None of them forks meanwhile, and whoever is about to die forks
    /// no more: a second time finds only those who came in from outside. One that is absent has no processes.
    ///
    /// # Errors
    /// When its processes are not known, or may not be killed.
    pub fn kill(&self, cgroup: &str) -> io::Result<()> {
        if let Some(at) = &self.unified {
            match fs::write(at.join(cgroup.trim_start_matches('/')).join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                // Linux before 5.14 has no such file.
                Err(error) => tracing::debug!(cgroup, %error, "a cgroup is not killed as a whole"),
            }
        }
        let _frozen = self.freeze(cgroup);
        // What a runtime that dies here leaves frozen is killed and let go when the container's end is seen again.
        failpoint::hit("runtime.cgroup.frozen");
        for pid in self.processes(cgroup)? {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(error) => return Err(io::Error::other(format!("killing process {pid}: {error}"))),
            }
        }
        Ok(())
    }

    /// Lets go what somebody else has frozen: in a hierarchy of version 1 nothing dies that stands still.
    pub fn thaw(&self, cgroup: &str) {
        let Some(folder) = self.folder("freezer", cgroup).filter(|_| !self.is_unified()) else { return };
        let file = folder.join("freezer.state");
        if fs::read_to_string(&file).is_ok_and(|state| state.trim() != "THAWED") {
            drop(Frozen { file, thaw: "THAWED" });
        }
    }

    /// Has everything in a cgroup stand still; without the means for that, nothing does.
    fn freeze(&self, cgroup: &str) -> Option<Frozen> {
        let (file, freeze, thaw) = match &self.unified {
            Some(at) => (at.join(cgroup.trim_start_matches('/')).join("cgroup.freeze"), "1", "0"),
            None => (self.folder("freezer", cgroup)?.join("freezer.state"), "FROZEN", "THAWED"),
        };
        fs::write(&file, freeze).ok()?;
        let frozen = Frozen { file, thaw };
        // Version 2 tells it elsewhere, and lets what is frozen be killed whether it stands already or not.
        for _ in 0..LOOKS {
            if self.is_unified() || fs::read_to_string(&frozen.file).is_ok_and(|state| state.trim() == freeze)
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(frozen)
    }
}
