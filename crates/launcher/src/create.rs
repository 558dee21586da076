//! A container's first process, by libcontainer.

use std::error::Error;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde::Deserialize;

use crate::link::{self, Link};
use crate::program::{Program, Wanted};

/// The console's socket in a bundle.
pub const CONSOLE: &str = "console.sock";

#[derive(Deserialize)]
struct Input {
    id: String,
    /// Holds `config.json`, and the console's socket while it is needed.
    bundle: PathBuf,
    /// Where libcontainer keeps its state.
    state_root: PathBuf,
    tty: bool,
    /// Who starts it; libcontainer where this is not said.
    program: Option<Program>,
    /// The cgroups that are ready for it, where libcontainer starts it.
    #[serde(default)]
    cgroups: Cgroups,
    /// A mount namespace with few mounts, to start from.
    #[serde(default)]
    lean: Option<PathBuf>,
    /// Waits before anything is done for as long as this file is there: a test does something to it meanwhile.
    #[serde(default)]
    hold: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
struct Cgroups {
    /// Files that take "0" to move the writer in.
    doors: Vec<PathBuf>,
    /// Mount points of version 1.
    split: Vec<PathBuf>,
    /// That of version 2.
    unified: Option<PathBuf>,
}

/// Creates the container, lets the shim note its pid, and starts it.
pub fn run(link: &Link) -> Result<(), Box<dyn Error>> {
    let input: Input = serde_json::from_slice(&link.input()?)?;
    if let Some(hold) = &input.hold {
        while hold.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    if let Some(program) = &input.program {
        let console = if input.tty { Some(console_socket(&input.bundle)?.0) } else { None };
        return program.run(link, Wanted { id: &input.id, bundle: &input.bundle, console });
    }
    if let Some(lean) = &input.lean {
        crate::lean::enter(lean, &input.bundle);
    }
    let Cgroups { doors, split, unified } = input.cgroups;
    libcgroups::give(libcgroups::Given { doors, split, unified });
    let builder =
        ContainerBuilder::new(input.id, SyscallType::default()).with_root_path(&input.state_root)?;
    let (builder, console) = if input.tty {
        let (listener, path) = console_socket(&input.bundle)?;
        (builder.with_console_socket(Some(path)), Some(listener))
    } else {
        let builder =
            builder.with_stdin(link.stdio(0)?).with_stdout(link.stdio(1)?).with_stderr(link.stdio(2)?);
        (builder, None)
    };
    let mut container =
        builder.as_init(&input.bundle).with_systemd(false).with_detach(true).as_sibling(true).build()?;
    let pid = container.pid().ok_or("libcontainer made no process")?.as_raw();
    let started = (|| {
        let terminal: Option<OwnedFd> = match console {
            Some(listener) => Some(link::receive_fd(listener.accept()?.0.as_raw_fd())?),
            None => None,
        };
        let start_time = link::start_time(Path::new("/proc"), pid)?;
        link.ready(pid, start_time, terminal.as_ref())?;
        container.start().map_err(Into::into)
    })();
    let Err(error) = started else { return Ok(()) };
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        // Libcontainer writes down that it runs once it does, for which there may be no room: it goes on without.
        Ok(name) if has_begun(&name) => return Ok(()),
        Ok(_) => crate::process::kill(pid),
        // It is over, and its number may be another's.
        Err(_) => {}
    }
    Err(error)
}

/// Whether a process of this name is the container's own program. Before that it has the name of libcontainer's part.
fn has_begun(name: &str) -> bool {
    !name.starts_with("youki:")
}

/// Binds by a relative name: the folder's path may be longer than a socket's address.
fn console_socket(bundle: &Path) -> Result<(UnixListener, PathBuf), Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "this process has one thread and one container")]
    std::env::set_current_dir(bundle)?;
    match std::fs::remove_file(CONSOLE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok((UnixListener::bind(CONSOLE)?, bundle.join(CONSOLE)))
}

#[cfg(test)]
mod tests {
    use super::has_begun;

    #[test]
    fn a_container_is_known_from_what_makes_it() {
        assert!(has_begun("sh\n"));
        // As libcontainer 0.7 names it, by prctl.
        assert!(!has_begun("youki:[2:INIT]\n"));
    }
}
