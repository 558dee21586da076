//! A further process in a running container.
//!
//! libcontainer's own way of doing this drops the container's seccomp profile, so the joining is
//! done here; its capability and seccomp code is used.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Process};
use serde::Deserialize;

use crate::link::{self, Link};
use crate::process::{self, Pipe};

#[derive(Deserialize)]
struct Input {
    /// The container's first process, known by its start time.
    pid: i32,
    start_time: i64,
    /// Files that take "0" to move the writer into the container's cgroups.
    cgroups: Vec<PathBuf>,
    /// The container has a user namespace of its own.
    own_users: bool,
    process: Process,
    seccomp: Option<LinuxSeccomp>,
    tty: bool,
}

/// Joins the container, lets the shim note the process's pid, and starts it.
pub fn run(link: &Link) -> Result<(), Box<dyn Error>> {
    let input: Input = serde_json::from_slice(&link.input()?)?;
    let init = process::open(input.pid).map_err(|e| format!("container process {}: {e}", input.pid))?;
    if link::start_time(Path::new("/proc"), input.pid)? != input.start_time {
        return Err(format!("container process {} is gone", input.pid).into());
    }
    let stdio = if input.tty { None } else { Some([link.stdio(0)?, link.stdio(1)?, link.stdio(2)?]) };
    let proc = File::open("/proc")?;
    let mut born = None;
    for path in &input.cgroups {
        let failed = |e: io::Error| format!("joining cgroup {}: {e}", path.display());
        match path.parent().filter(|_| path.ends_with("cgroup.procs") && !input.own_users) {
            // To move into a cgroup of version 2 takes an RCU grace period, to be born there does not.
            Some(folder) => {
                born = Some((
                    File::open(folder).map_err(failed)?,
                    File::options().write(true).open(path).map_err(failed)?,
                ));
            }
            // A process that moves only itself, by "tasks", is spared that.
            None => std::fs::write(path, "0").map_err(failed)?,
        }
    }
    process::join_namespaces(&init, input.own_users, born.is_none())?;

    let (said, go) = (Pipe::new()?, Pipe::new()?);
    let (terminal_ours, terminal_theirs) = process::socket_pair()?;
    let child = process::clone_sibling(born.as_ref().map(|(folder, door)| (folder, door)), || {
        let mut say = said.writer()?;
        let rest = if born.is_some() { process::join_cgroup_namespace(&init) } else { Ok(()) };
        if let Err(error) = rest
            .map_err(Into::into)
            .and_then(|()| become_process(&input, stdio.as_ref(), &terminal_theirs, &mut say, &go))
        {
            // What is said after the first byte is an error.
            say.write_all(format!("!{error}").as_bytes())?;
        }
        Ok(())
    })?;
    let mut hear = said.into_reader();
    drop(terminal_theirs);
    let mut first = [0u8];
    let heard = hear.read(&mut first)?;
    if heard == 0 || first != *b"." {
        let mut text = String::new();
        hear.read_to_string(&mut text)?;
        return Err(if text.is_empty() {
            "the process died before it could start".into()
        } else {
            text.into()
        });
    }
    let terminal: Option<OwnedFd> =
        if input.tty { Some(link::receive_fd(process::raw(&terminal_ours))?) } else { None };
    let stat = process::read_at(&proc, &format!("{child}/stat"))?;
    link.ready(child, link::parse_start_time(&stat)?, terminal.as_ref())?;
    go.into_writer().write_all(b".")?;
    Ok(())
}

/// The child: everything that can fail comes before the byte that says so; then it waits, and then
/// it is somebody else.
fn become_process(
    input: &Input,
    stdio: Option<&[OwnedFd; 3]>,
    terminal: &OwnedFd,
    say: &mut File,
    go: &Pipe,
) -> Result<(), Box<dyn Error>> {
    let what = &input.process;
    process::new_session()?;
    match stdio {
        Some(stdio) => process::set_stdio(stdio)?,
        None => process::open_terminal(terminal, what.console_size().as_ref())?,
    }
    let args = what.args().clone().unwrap_or_default();
    let env = what.env().clone().unwrap_or_default();
    let name = args.first().ok_or("no command was given")?;
    process::enter(what.cwd())?;
    let program = find_program(name, &env)?;
    process::drop_to(what, input.seccomp.as_ref())?;
    process::close_rest_on_exec()?;
    say.write_all(b".")?;
    let mut byte = [0u8];
    let waited = go.reader()?.read(&mut byte)?;
    if waited == 0 {
        return Err("the launcher is gone".into());
    }
    Err(process::execute(&program, &args, &env).into())
}

/// What the shell would run. The messages are runc's, which users and their scripts know.
fn find_program(name: &str, env: &[String]) -> Result<PathBuf, String> {
    let executable = |path: &Path| -> Result<bool, io::Error> { process::may_execute(path) };
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(true) => Ok(PathBuf::from(name)),
            Ok(false) => Err(format!("exec: {name:?}: permission denied")),
            Err(_) => Err(format!("exec: {name:?}: stat {name}: no such file or directory")),
        };
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or("/usr/bin:/bin");
    path.split(':')
        .map(|folder| Path::new(if folder.is_empty() { "." } else { folder }).join(name))
        .find(|candidate| executable(candidate).unwrap_or(false))
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}
