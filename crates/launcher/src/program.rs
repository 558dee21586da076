//! A container's first process by an OCI program: runc, crun, or another that keeps to their command line.
//!
//! The program's own child outlives it and becomes the shim's, which is a subreaper for this.

use std::error::Error;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::create::CONSOLE;
use crate::link::{self, Link};

/// Which program.
#[derive(Deserialize)]
pub struct Program {
    path: PathBuf,
    /// Where it keeps its state.
    root: PathBuf,
}

/// What it is to start.
pub struct Wanted<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    /// Listens at `console.sock` in this process's working directory.
    pub console: Option<UnixListener>,
}

impl Program {
    /// Creates the container, lets the shim note its pid, and starts it.
    pub fn run(&self, link: &Link, wanted: Wanted<'_>) -> Result<(), Box<dyn Error>> {
        let result = self.start(link, &wanted);
        if result.is_err() {
            // What it made of a container that does not start is of no use; a failure of this changes nothing.
            let _ =
                self.command(&wanted).args(["delete", "--force", wanted.id]).stderr(Stdio::null()).status();
        }
        result
    }

    fn start(&self, link: &Link, wanted: &Wanted<'_>) -> Result<(), Box<dyn Error>> {
        let pid_file = wanted.bundle.join("init.pid");
        let mut create = self.command(wanted);
        create.arg("create").arg("--bundle").arg(wanted.bundle).arg("--pid-file").arg(&pid_file);
        match &wanted.console {
            // The folder's own path may be longer than a socket's address.
            Some(_) => {
                create.arg("--console-socket").arg(format!("/proc/{}/cwd/{CONSOLE}", std::process::id()));
            }
            None => {
                create.stdin(link.stdio(0)?).stdout(link.stdio(1)?).stderr(link.stdio(2)?);
            }
        }
        self.finish(create.arg(wanted.id), wanted)?;
        let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse()?;
        let terminal: Option<OwnedFd> = match &wanted.console {
            Some(listener) => Some(link::receive_fd(listener.accept()?.0.as_raw_fd())?),
            None => None,
        };
        link.ready(pid, link::start_time(Path::new("/proc"), pid)?, terminal.as_ref())?;
        self.finish(self.command(wanted).args(["start", wanted.id]), wanted)
    }

    fn command(&self, wanted: &Wanted<'_>) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(&self.root).arg("--log").arg(self.log(wanted));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn log(&self, wanted: &Wanted<'_>) -> PathBuf {
        wanted.bundle.join("program.log")
    }

    /// Runs a command; where it fails, what it wrote to its log says why.
    fn finish(&self, command: &mut Command, wanted: &Wanted<'_>) -> Result<(), Box<dyn Error>> {
        let name = self.path.display();
        let status = command.status().map_err(|error| format!("running {name}: {error}"))?;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.log(wanted)).unwrap_or_else(|error| format!("no log: {error}"));
        let why = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("its log says nothing");
        Err(format!("{name} failed with {status}: {why}").into())
    }
}
