//! Starting a container that was made.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use base::failpoint;
use cri::v1::{ContainerConfig, ContainerEventType};
use serde_json::json;

use super::{Container, Held, clean};
use crate::images::text;
use crate::pod::sandbox::Sandbox;
use crate::pod::{Core, PodError, watch};
use crate::proto::{self, Header, op};
use crate::shim::Enclosed;
use crate::state::{ContainerPhase, Exit};
use crate::sys::lean::Lean;
use crate::sys::pipe;
use crate::sys::process::Process;

/// A pipe of which one end is the container's.
struct Pipes {
    child: [Option<OwnedFd>; 3],
    held: Held,
}

fn pipes(config: &ContainerConfig) -> io::Result<Pipes> {
    let mut pipes = Pipes { child: [None, None, None], held: Held::default() };
    if config.tty {
        return Ok(pipes);
    }
    let [stdin, stdout, stderr] = &mut pipes.child;
    if config.stdin {
        let (reader, writer) = pipe::pipe()?;
        *stdin = Some(reader);
        pipes.held.stdin = Some(Arc::new(writer));
    }
    for (child, held) in [(stdout, &mut pipes.held.stdout), (stderr, &mut pipes.held.stderr)] {
        let (reader, writer) = pipe::pipe()?;
        *child = Some(writer);
        *held = Some(Arc::new(reader));
    }
    Ok(pipes)
}

/// Starts a container that was made.
pub async fn start(core: &Arc<Core>, id: &str) -> Result<(), PodError> {
    let container = core.need_container(id)?;
    let _turn = container.turn.lock().await;
    if core.container(&container.id).is_none() {
        // It was removed while this waited.
        return Err(PodError::NoContainer(container.id.clone()));
    }
    if !matches!(container.state().phase, ContainerPhase::Created) {
        return Err(PodError::State(format!("container {} was started before", container.id)));
    }
    let sandbox = core.need_sandbox(&container.sandbox)?;
    if !sandbox.is_ready() {
        return Err(PodError::State(format!("sandbox {} is not ready", sandbox.id)));
    }
    container.change(|state| {
        state.shim = sandbox.state().shim;
        state.phase = ContainerPhase::Starting;
    })?;
    failpoint::hit("runtime.container.starting");
    match launch(core, &sandbox, &container).await {
        Ok(process) => {
            let started_at = core.now();
            container.know(|state| {
                // A short-lived process may have been reported dead already.
                if matches!(state.phase, ContainerPhase::Starting) {
                    state.phase = ContainerPhase::Running { process, started_at };
                }
            });
            failpoint::hit("runtime.container.running");
            core.announce(&container.id, &sandbox.id, ContainerEventType::ContainerStartedEvent);
            Ok(())
        }
        Err(error) => {
            let now = core.now();
            let exit = Exit {
                started_at: 0,
                finished_at: now,
                code: 128,
                reason: "StartError".into(),
                message: error.to_string(),
            };
            let cleaned = clean(core, &container).await;
            if let Err(unclean) = &cleaned {
                tracing::warn!(
                    container = container.id,
                    error = text(unclean),
                    "clearing one that did not start"
                );
            }
            container.know(|state| {
                state.phase = match cleaned {
                    Ok(()) => ContainerPhase::Exited(exit),
                    // Whoever removes it clears the rest.
                    Err(_) => ContainerPhase::Created,
                }
            });
            core.announce(&container.id, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
            Err(error)
        }
    }
}

async fn launch(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    container: &Arc<Container>,
) -> Result<Process, PodError> {
    let shim = watch::connect(core, sandbox).await?;
    let failed = || PodError::io("preparing the container's streams");
    let pipes = pipes(&container.config).map_err(failed())?;
    let log = container.open_log().map_err(PodError::io("opening the log"))?;
    let program = program(core, sandbox);
    let input = json!({
        "id": container.id,
        "bundle": container.run_folder,
        "state_root": core.launcher_state(),
        "tty": container.config.tty,
        "cgroups": core.cgroups.ready(&container.state().cgroup),
        "program": program,
        "lean": core.lean.as_ref().map(Lean::path),
        "hold": failpoint::hold_elsewhere("runtime.launcher.begun"),
    });
    let input = pipe::memory_file(input.to_string().as_bytes()).map_err(failed())?;
    let launcher = File::open(&core.programs.launcher).map_err(PodError::io("opening the launcher"))?;
    let [stdin, stdout, stderr] = &pipes.child;
    let enclosed = Enclosed::default()
        .with(proto::HAS_LAUNCHER, &launcher)
        .with(proto::HAS_INPUT, &input)
        .maybe(proto::HAS_CHILD_STDIN, stdin.as_ref())
        .maybe(proto::HAS_CHILD_STDOUT, stdout.as_ref())
        .maybe(proto::HAS_CHILD_STDERR, stderr.as_ref())
        .maybe(proto::HAS_STDOUT, pipes.held.stdout.as_deref())
        .maybe(proto::HAS_STDERR, pipes.held.stderr.as_deref())
        .maybe(proto::HAS_STDIN_KEPT, pipes.held.stdin.as_deref())
        .maybe(proto::HAS_LOG, log.as_ref());
    let flags = if container.config.tty { proto::FLAG_TTY } else { 0 };
    let header = Header { kind: op::START, handle: container.state().handle, flags, ..Header::default() };
    failpoint::hit("runtime.container.launching");
    let mut reply = shim.ask(header, b"knarr-launcher\0create\0", enclosed).await?;
    failpoint::hit("runtime.container.launched");
    let mut held = pipes.held.clone();
    held.master = reply.fds.take(proto::HAS_TTY).map(Arc::new);
    container.hold(held);
    Ok(Process { pid: reply.header.a as i32, start_time: reply.header.b, boot: core.boot.clone() })
}

/// The OCI program of a sandbox's handler, and where it keeps its state; nothing where libcontainer does it.
pub(super) fn program(core: &Core, sandbox: &Sandbox) -> Option<serde_json::Value> {
    let path = core.config.handlers.get(&sandbox.state().runtime_handler)?;
    Some(json!({"path": path, "root": core.launcher_state()}))
}
