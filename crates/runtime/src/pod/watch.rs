//! Keeping in touch with shims: hearing of exits, and what to do when a shim is gone.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::container::{self, Container};
use super::sandbox::{self, Sandbox};
use super::{Core, PodError, blocking};
use crate::images::text;
use crate::proto::{self, Header, op};
use crate::shim::{self, Enclosed, News, Shim, ShimError};
use crate::state::ContainerPhase;
use crate::sys::process::PidFd;

/// The sandbox's shim, reached or started anew if it is gone.
pub fn connect<'a>(core: &'a Arc<Core>, sandbox: &'a Arc<Sandbox>) -> BoxFuture<'a, Result<Shim, PodError>> {
    // Boxed, because a lost connection leads back here.
    Box::pin(reach(core, sandbox))
}

async fn reach(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<Shim, PodError> {
    let mut link = sandbox.shim.lock().await;
    if let Some(shim) = link.shim.as_ref().filter(|shim| shim.is_connected()) {
        return Ok(shim.clone());
    }
    if link.closed {
        return Err(ShimError::Gone.into());
    }
    let (sender, news) = mpsc::unbounded_channel();
    let shim = match Shim::connect(&sandbox.socket(), sender.clone()).await {
        Err(ShimError::Gone) => {
            tracing::warn!(sandbox = sandbox.id, "the pod's shim is gone: another one takes over");
            let (one, two) = (core.clone(), sandbox.clone());
            blocking(move || {
                let pid = shim::spawn(&one.programs, &two.socket(), &two.records())?;
                failpoint::hit("runtime.shim.spawned_again");
                sandbox::remember_shim(&one, &two, pid)?;
                one.cgroups
                    .shelter(pid, &one.shim_cgroup(&two.id))
                    .map_err(PodError::io("moving the shim into its cgroup"))
            })
            .await?;
            let shim = Shim::connect(&sandbox.socket(), sender).await?;
            adopt(core, sandbox, &shim).await?;
            failpoint::hit("runtime.shim.adopted");
            shim
        }
        other => other?,
    };
    link.shim = Some(shim.clone());
    drop(link);
    core.tasks.spawn(listen(core.clone(), sandbox.clone(), news));
    Ok(shim)
}

/// Gives the new shim the running containers' output. Their ends are for us to watch, which begins
/// when they are settled.
async fn adopt(core: &Arc<Core>, sandbox: &Arc<Sandbox>, shim: &Shim) -> Result<(), PodError> {
    for container in core.containers_of(&sandbox.id) {
        let state = container.state();
        let ContainerPhase::Running { process, .. } = &state.phase else { continue };
        let held = container.held();
        let log = container.open_log().map_err(PodError::io("opening the log"))?;
        let flags = if container.config.tty { proto::FLAG_TTY } else { 0 };
        let header = Header {
            kind: op::ADOPT,
            handle: state.handle,
            flags,
            a: i64::from(process.pid),
            b: process.start_time,
            ..Header::default()
        };
        let enclosed = Enclosed::default()
            .maybe(proto::HAS_STDOUT, held.stdout.as_deref())
            .maybe(proto::HAS_STDERR, held.stderr.as_deref())
            .maybe(proto::HAS_STDIN_KEPT, held.stdin.as_deref())
            .maybe(proto::HAS_TTY, held.master.as_deref())
            .maybe(proto::HAS_LOG, log.as_ref());
        shim.ask(header, &[], enclosed).await?;
    }
    Ok(())
}

async fn listen(core: Arc<Core>, sandbox: Arc<Sandbox>, mut news: mpsc::UnboundedReceiver<News>) {
    while let Some(item) = news.recv().await {
        match item {
            News::Exited { handle, status } => exited(&core, &sandbox, handle, status).await,
            News::Gone => {
                // Whoever waits for an exec of that shim would wait for ever.
                sandbox.execs.lock().clear();
                take_over(&core, &sandbox).await;
                return;
            }
        }
    }
}

/// The longest pause before an end that could not be recorded is recorded again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often another shim is tried before the pod is left without one.
const TAKEOVERS: u32 = 5;

/// Finds another shim for the pod. One that could not start is tried again: the machine may be busy. A pod that gets none
/// goes on without.
pub async fn take_over(core: &Arc<Core>, sandbox: &Arc<Sandbox>) {
    for attempt in 1..=TAKEOVERS {
        let taken_over = async {
            let shim = connect(core, sandbox).await?;
            // Exits may have gone unheard.
            super::recover::settle_all(core, sandbox, &shim).await
        };
        let Err(error) = taken_over.await else { return };
        if sandbox.shim.lock().await.closed {
            // The pod is at its end.
            return;
        }
        let error = text(&error);
        tracing::error!(sandbox = sandbox.id, attempt, error, "no shim could take over");
        tokio::time::sleep(Duration::from_millis(100) * attempt).await;
    }
    tracing::error!(
        sandbox = sandbox.id,
        folder = %sandbox.run_folder.display(),
        "the pod is left without a shim: what runs of it goes on until it ends by itself, and what it says is lost"
    );
    go_without(core, sandbox).await;
}

/// Watches what runs of a pod without a shim. Nothing more can start in it: when the last container has ended, the
/// sandbox is stopped, so that whoever wants the pod makes another one.
async fn go_without(core: &Arc<Core>, sandbox: &Arc<Sandbox>) {
    for container in core.containers_of(&sandbox.id) {
        if let Err(error) = super::recover::settle_alone(core, sandbox, &container).await {
            let (id, error) = (&container.id, text(&error));
            tracing::error!(container = id, error, "what became of a container is not known");
        }
    }
    for container in core.containers_of(&sandbox.id) {
        let lives =
            matches!(container.state().phase, ContainerPhase::Starting | ContainerPhase::Running { .. });
        if lives {
            container.wait_ended().await;
        }
    }
    // Whoever asked for something meanwhile may have found a shim after all.
    if sandbox.shim.lock().await.shim.as_ref().is_some_and(Shim::is_connected) {
        return;
    }
    if let Err(error) = sandbox::stop(core, &sandbox.id).await {
        tracing::warn!(
            sandbox = sandbox.id,
            error = text(&error),
            "a sandbox without a shim is not stopped yet"
        );
    }
}

async fn exited(core: &Arc<Core>, sandbox: &Arc<Sandbox>, handle: u64, status: i32) {
    let exec = sandbox.execs.lock().remove(&handle);
    if let Some(exec) = exec {
        // Whoever started it may have given up.
        let _ = exec.send(status);
        return;
    }
    let found =
        core.containers_of(&sandbox.id).into_iter().find(|container| container.state().handle == handle);
    if let Some(container) = found {
        let record = read_record(sandbox, handle).unwrap_or_else(|error| {
            tracing::warn!(container = container.id, %error, "reading an exit record");
            None
        });
        let finished_at = record.map_or_else(|| core.now(), |record| record.finished_at);
        report(core, &container, Some(status), finished_at).await;
    }
}

async fn report(core: &Arc<Core>, container: &Arc<Container>, status: Option<i32>, finished_at: i64) {
    let Err(error) = container::ended(core, container, status, finished_at).await else { return };
    tracing::error!(container = container.id, error = text(&error), "recording a container's end");
    // A disk that is full, say, has room again some time. Others' ends do not wait for this one.
    let (core, container) = (core.clone(), container.clone());
    core.tasks.clone().spawn(async move {
        let mut pause = Duration::from_millis(200);
        while core.container(&container.id).is_some() {
            tokio::time::sleep(pause).await;
            match container::ended(&core, &container, status, finished_at).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(container = container.id, %error, "its end is not recorded yet")
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}

/// Waits for the end of a container that is nobody's child of ours.
pub async fn watch_orphan(core: Arc<Core>, container: Arc<Container>) {
    let state = container.state();
    let ContainerPhase::Running { process, .. } = &state.phase else { return };
    let handle = match PidFd::open(process) {
        Ok(handle) => handle,
        Err(error) => {
            tracing::error!(container = container.id, %error, "a container cannot be watched");
            return;
        }
    };
    let mut status = None;
    if let Some(handle) = handle {
        if let Err(error) = handle.ended().await {
            tracing::error!(container = container.id, %error, "waiting for a container's end");
        }
        // The kernel tells the status once somebody has reaped the process.
        for _ in 0..50 {
            status = handle.wait_status();
            if status.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // What it wrote last is still in its pipes: forgetting it drains them into the log.
    if let Some(sandbox) = core.sandbox(&container.sandbox)
        && let Ok(shim) = connect(&core, &sandbox).await
    {
        let forget = Header { kind: op::FORGET, handle: state.handle, ..Header::default() };
        if let Err(error) = shim.ask(forget, &[], Enclosed::default()).await {
            tracing::debug!(container = container.id, %error, "the shim did not know it");
        }
    }
    report(&core, &container, status, core.now()).await;
}

/// What a shim wrote down about an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The wait status.
    pub status: i32,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
}

/// Reads an exit record; `None` when there is none.
pub fn read_record(sandbox: &Sandbox, handle: u64) -> io::Result<Option<Record>> {
    let bytes = match fs::read(sandbox.records().join(format!("{handle:016x}"))) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let fields: Vec<i64> =
        bytes.chunks_exact(8).filter_map(|c| c.first_chunk::<8>()).map(|c| i64::from_ne_bytes(*c)).collect();
    match fields.as_slice() {
        [_, status, seconds, nanoseconds] => {
            let finished_at = seconds.saturating_mul(1_000_000_000).saturating_add(*nanoseconds);
            Ok(Some(Record { status: *status as i32, finished_at }))
        }
        _ => Err(io::Error::other(format!("the exit record of {handle:016x} has {} bytes", bytes.len()))),
    }
}
