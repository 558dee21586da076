//! Further processes in running containers.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use serde_json::{Value, json};
use streaming::remotecommand::{Outcome, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe as tokio_pipe;
use tokio::sync::oneshot;

use super::attach::{Terminal, follow_size};
use super::container::Container;
use super::{Core, PodError, blocking};
use crate::images::text;
use crate::proto::{self, Header, op};
use crate::shim::{Enclosed, ShimError};
use crate::sys::pipe;
use crate::sys::process::{PidFd, Process};

/// The most output that `ExecSync` gives back of each stream, as upstream.
const SYNC_LIMIT: usize = 16 << 20;
/// What the answer says beside the output.
const AROUND: usize = 4096;
/// How long after a process's end its output may stay open, held by processes that it left behind.
const LINGER: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether it gets a stdin.
    pub stdin: bool,
}

/// A process that runs.
pub struct Running {
    handle: Option<PidFd>,
    exit: oneshot::Receiver<i32>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    master: Option<OwnedFd>,
}

impl Running {
    /// Its exit code: 128 and the signal for one that a signal ended, 255 when nobody saw.
    async fn code(exit: oneshot::Receiver<i32>) -> i32 {
        match exit.await {
            Ok(status) if status & 0x7f == 0 => (status >> 8) & 0xff,
            Ok(status) => 128 + (status & 0x7f),
            Err(_) => 255,
        }
    }
}

/// Starts a process in a container.
pub async fn start(
    core: &Arc<Core>,
    container: &Arc<Container>,
    command: &Command,
) -> Result<Running, PodError> {
    let init = container.need_process()?;
    if command.args.is_empty() {
        return Err(PodError::Invalid("no command was given".into()));
    }
    let sandbox = core.need_sandbox(&container.sandbox)?;
    let shim = super::watch::connect(core, &sandbox).await?;
    let input = {
        let (core, container, command) = (core.clone(), container.clone(), command.clone());
        let own_users = sandbox.users().is_some();
        blocking(move || input(&core, &container, &command, &init, own_users)).await?
    };
    let failed = || PodError::io("preparing the process's streams");
    let launcher = File::open(&core.programs.launcher).map_err(PodError::io("opening the launcher"))?;
    let pair = || pipe::pipe().map_err(failed());
    let (child_in, stdin) = if command.stdin && !command.tty { Some(pair()?) } else { None }.unzip();
    let (stdout, child_out) = if command.tty { None } else { Some(pair()?) }.unzip();
    let (stderr, child_err) = if command.tty { None } else { Some(pair()?) }.unzip();
    let enclosed = Enclosed::default()
        .with(proto::HAS_LAUNCHER, &launcher)
        .with(proto::HAS_INPUT, &input)
        .maybe(proto::HAS_CHILD_STDIN, child_in.as_ref())
        .maybe(proto::HAS_CHILD_STDOUT, child_out.as_ref())
        .maybe(proto::HAS_CHILD_STDERR, child_err.as_ref());
    let handle = core.new_handle();
    let (sender, exit) = oneshot::channel();
    sandbox.execs.lock().insert(handle, sender);
    let flags = proto::FLAG_EXEC | if command.tty { proto::FLAG_TTY } else { 0 };
    let header = Header { kind: op::START, handle, flags, ..Header::default() };
    let mut reply = match shim.ask(header, b"knarr-launcher\0exec\0", enclosed).await {
        Ok(reply) => reply,
        Err(error) => {
            sandbox.execs.lock().remove(&handle);
            return Err(error.into());
        }
    };
    failpoint::hit("runtime.exec.launched");
    let process = Process { pid: reply.header.a as i32, start_time: reply.header.b, boot: core.boot.clone() };
    let handle = PidFd::open(&process).map_err(PodError::io("finding the process"))?;
    let master = reply.fds.take(proto::HAS_TTY);
    Ok(Running { handle, exit, stdin, stdout, stderr, master })
}

/// What the launcher reads: the container's own process, with another command.
fn input(
    core: &Core,
    container: &Container,
    command: &Command,
    init: &Process,
    own_users: bool,
) -> Result<OwnedFd, PodError> {
    let path = container.run_folder.join("config.json");
    let text = fs::read(&path).map_err(PodError::io("reading the container's config.json"))?;
    let mut spec: Value =
        serde_json::from_slice(&text).map_err(|e| PodError::Invalid(format!("config.json: {e}")))?;
    let seccomp = spec.pointer_mut("/linux/seccomp").map(Value::take);
    let mut process = spec.get_mut("process").map(Value::take).unwrap_or_default();
    if let Some(process) = process.as_object_mut() {
        process.insert("args".into(), json!(command.args));
        process.insert("terminal".into(), json!(command.tty));
        if let Some(env) = process.get_mut("env").and_then(Value::as_array_mut)
            && command.tty
            && !env.iter().any(|pair| pair.as_str().is_some_and(|pair| pair.starts_with("TERM=")))
        {
            env.push(json!("TERM=xterm"));
        }
    }
    let shim = core.need_sandbox(&container.sandbox)?.state().shim.ok_or(ShimError::Gone)?;
    let cgroups =
        core.cgroups.doors_of(init.pid, shim.pid).map_err(PodError::io("finding the container's cgroups"))?;
    let input = json!({
        "pid": init.pid,
        "start_time": init.start_time,
        "cgroups": cgroups,
        "own_users": own_users,
        "process": process,
        "seccomp": seccomp,
        "tty": command.tty,
    });
    pipe::memory_file(input.to_string().as_bytes()).map_err(PodError::io("preparing the process"))
}

/// What a command wrote, and its exit code.
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: i32,
}

/// Runs a command to its end; one that takes longer than `timeout` is killed.
pub async fn sync(
    core: &Arc<Core>,
    container: &Arc<Container>,
    args: Vec<String>,
    timeout: Option<Duration>,
) -> Result<Output, PodError> {
    let shown = args.join(" ");
    let running = start(core, container, &Command { args, ..Command::default() }).await?;
    let Running { handle, exit, stdout, stderr, .. } = running;
    let collect = |fd: Option<OwnedFd>| {
        let buffer = Arc::new(tokio::sync::Mutex::new(Vec::new()));
        let task = tokio::spawn(read_all(fd, buffer.clone()));
        (buffer, task)
    };
    let ((out, out_task), (err, err_task)) = (collect(stdout), collect(stderr));
    let code = match timeout {
        None => Running::code(exit).await,
        Some(timeout) => match tokio::time::timeout(timeout, Running::code(exit)).await {
            Ok(code) => code,
            Err(_) => {
                // What it left behind finds nobody who reads on for ever.
                out_task.abort();
                err_task.abort();
                if let Some(handle) = handle {
                    handle.signal(libc::SIGKILL).map_err(PodError::io("killing a command"))?;
                }
                return Err(PodError::Timeout(format!(
                    "command {shown:?} timed out after {} s",
                    timeout.as_secs()
                )));
            }
        },
    };
    let mut tasks = [out_task, err_task];
    for task in &mut tasks {
        if tokio::time::timeout(LINGER, &mut *task).await.is_err() {
            task.abort();
        }
    }
    let (mut stdout, mut stderr) =
        (std::mem::take(&mut *out.lock().await), std::mem::take(&mut *err.lock().await));
    fit(&mut stdout, &mut stderr);
    Ok(Output { stdout, stderr, code })
}

/// Cuts output so that both streams fit into one answer, of which each may have half, and what the other leaves.
fn fit(stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) {
    let room = SYNC_LIMIT - AROUND;
    stdout.truncate((room / 2).max(room.saturating_sub(stderr.len())));
    stderr.truncate(room - stdout.len().min(room));
}

async fn read_all(fd: Option<OwnedFd>, into: Arc<tokio::sync::Mutex<Vec<u8>>>) {
    let Some(mut reader) = fd.and_then(|fd| tokio_pipe::Receiver::from_owned_fd(fd).ok()) else { return };
    let mut buf = vec![0u8; 64 * 1024];
    while let Ok(n) = reader.read(&mut buf).await
        && n > 0
    {
        let mut into = into.lock().await;
        let room = SYNC_LIMIT.saturating_sub(into.len());
        into.extend_from_slice(buf.get(..n.min(room)).unwrap_or_default());
    }
}

/// Runs a command with a client at its streams, to its end.
pub async fn attend(core: Arc<Core>, container: Arc<Container>, command: Command, mut session: Session) {
    let running = match start(&core, &container, &command).await {
        Ok(running) => running,
        Err(error) => {
            let text = format!("error executing command in container: {}", text(&error));
            return session.finish(Outcome::Failed(text)).await;
        }
    };
    let Running { exit, stdin, stdout, stderr, master, .. } = running;
    let code = if let Some(master) = master {
        match Terminal::new(master) {
            Ok(terminal) => terminal_session(terminal, &mut session, exit).await,
            Err(error) => {
                return session.finish(Outcome::Failed(format!("opening the terminal: {error}"))).await;
            }
        }
    } else {
        let input = tokio::spawn(feed(session.stdin.take(), stdin));
        let out = tokio::spawn(drain(stdout, session.stdout.take()));
        let err = tokio::spawn(drain(stderr, session.stderr.take()));
        let code = Running::code(exit).await;
        for mut task in [out, err] {
            if tokio::time::timeout(LINGER, &mut task).await.is_err() {
                task.abort();
            }
        }
        input.abort();
        code
    };
    session.finish(Outcome::Exited(code)).await;
}

async fn terminal_session(terminal: Terminal, session: &mut Session, exit: oneshot::Receiver<i32>) -> i32 {
    let terminal = Arc::new(terminal);
    let (empty, sizes) = tokio::sync::mpsc::channel(1);
    drop(empty);
    let sizes = tokio::spawn(follow_size(terminal.clone(), std::mem::replace(&mut session.resize, sizes)));
    let input = tokio::spawn({
        let (terminal, stdin) = (terminal.clone(), session.stdin.take());
        async move {
            let Some(mut stdin) = stdin else { return };
            terminal.write_from(&mut stdin).await;
        }
    });
    let output = tokio::spawn({
        let (terminal, stdout) = (terminal.clone(), session.stdout.take());
        async move { terminal.read_into(stdout).await }
    });
    let code = Running::code(exit).await;
    let mut output = output;
    if tokio::time::timeout(LINGER, &mut output).await.is_err() {
        output.abort();
    }
    input.abort();
    sizes.abort();
    code
}

/// From the client into a pipe. The pipe closes when the client is done.
pub async fn feed(from: Option<impl AsyncRead + Unpin>, to: Option<OwnedFd>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    if let Err(error) = pipe::set_nonblocking(to.as_fd()) {
        tracing::warn!(%error, "stdin cannot be written");
        return;
    }
    match tokio_pipe::Sender::from_owned_fd(to) {
        Ok(mut to) => {
            if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
                tracing::debug!(%error, "stdin is not read");
            }
        }
        Err(error) => tracing::warn!(%error, "stdin cannot be written"),
    }
}

/// From a pipe to the client, to its end. A client that did not ask does not stop the process. After one that is gone the
/// pipe stays open and is not read any more: whoever floods it waits, as with other runtimes, and costs nothing.
pub async fn drain(from: Option<OwnedFd>, to: Option<tokio::io::DuplexStream>) {
    let Some(mut from) = from.and_then(|fd| tokio_pipe::Receiver::from_owned_fd(fd).ok()) else { return };
    let mut to = to;
    let mut buf = vec![0u8; 32 * 1024];
    while let Ok(n) = from.read(&mut buf).await
        && n > 0
    {
        if let Some(client) = &mut to
            && client.write_all(buf.get(..n).unwrap_or_default()).await.is_err()
        {
            return std::future::pending().await;
        }
    }
}
