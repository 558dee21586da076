//! The end of a container: hearing of it, bringing it about, and taking away what is left.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use cri::v1::ContainerEventType;

use super::{Container, Held};
use crate::pod::{Core, PodError, blocking, volumes};
use crate::proto::{Header, op};
use crate::shim::{Enclosed, ShimError};
use crate::state::{ContainerPhase, Exit};
use crate::sys::mount;
use crate::sys::process::PidFd;

/// How long after SIGKILL a container may take to be gone before that is an error.
const DEATH: Duration = Duration::from_secs(30);

/// How often it is looked whether a cgroup is empty, two milliseconds apart, and after how many looks all that is left in
/// it is killed again.
const LOOKS: u32 = 1000;
const KILL_AGAIN: u32 = 25;

/// A container has ended; `status` is its wait status, if anybody saw it. Doing it again changes nothing.
pub(in crate::pod) async fn ended(
    core: &Arc<Core>,
    container: &Arc<Container>,
    status: Option<i32>,
    finished_at: i64,
) -> Result<(), PodError> {
    // Whoever starts it is about to say when; an end that comes before that has to wait.
    let _turn = match container.turn.try_lock() {
        Ok(turn) => Some(turn),
        Err(_) if matches!(container.state().phase, ContainerPhase::Starting) => {
            Some(container.turn.lock().await)
        }
        Err(_) => None,
    };
    let state = container.state();
    let started_at = match &state.phase {
        ContainerPhase::Exited(_) => return Ok(()),
        ContainerPhase::Running { started_at, .. } => *started_at,
        ContainerPhase::Created | ContainerPhase::Starting => 0,
    };
    let oom = {
        let (core, cgroup) = (core.clone(), state.cgroup.clone());
        blocking(move || Ok(core.cgroups.oom_kills(&cgroup) > 0)).await?
    };
    failpoint::hit("runtime.container.end_seen");
    clean(core, container).await?;
    let (code, reason) = outcome(status, oom);
    // A short one can be over before whoever started it looks at the clock.
    let finished_at = finished_at.max(started_at);
    let message = if status.is_none() { "nobody could see the container's exit status" } else { "" };
    let exit = Exit { started_at, finished_at, code, reason: reason.into(), message: message.into() };
    failpoint::hit("runtime.container.cleaned");
    container.change(|state| state.phase = ContainerPhase::Exited(exit))?;
    failpoint::hit("runtime.container.ended");
    core.announce(&container.id, &container.sandbox, ContainerEventType::ContainerStoppedEvent);
    Ok(())
}

/// An earlier runtime was about to start a container, and did not come to it: it can be started still. A launcher that
/// was killed may have left something of it.
pub(in crate::pod) async fn not_started(
    core: &Arc<Core>,
    container: &Arc<Container>,
) -> Result<(), PodError> {
    let _turn = container.turn.lock().await;
    if !matches!(container.state().phase, ContainerPhase::Starting) {
        return Ok(());
    }
    let (one, two) = (core.clone(), container.clone());
    blocking(move || {
        kill_all(&one, &two.state().cgroup)?;
        remove_folder(&one.launcher_state().join(&two.id))
    })
    .await?;
    container.change(|state| state.phase = ContainerPhase::Created)
}

/// Exit code and reason for a wait status.
pub(super) fn outcome(status: Option<i32>, oom: bool) -> (i32, &'static str) {
    let Some(status) = status else { return (255, "Unknown") };
    let code = if status & 0x7f == 0 { (status >> 8) & 0xff } else { 128 + (status & 0x7f) };
    match code {
        0 => (0, "Completed"),
        code if oom => (code, "OOMKilled"),
        code => (code, "Error"),
    }
}

/// Kills what is left in its cgroup and takes mounts and cgroup away.
pub(super) async fn clean(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    container.hold(Held::default());
    container.hub.close();
    let (core, container) = (core.clone(), container.clone());
    blocking(move || {
        let cgroup = container.state().cgroup;
        kill_all(&core, &cgroup)?;
        failpoint::hit("runtime.container.emptied");
        core.cgroups.remove(&cgroup).map_err(PodError::io(format!("removing cgroup {cgroup}")))?;
        failpoint::hit("runtime.container.cgroup_removed");
        mount::detach(&container.rootfs()).map_err(PodError::io("unmounting the container's root"))?;
        failpoint::hit("runtime.container.root_unmounted");
        volumes::unmount_all(&container.run_folder)?;
        remove_folder(&core.launcher_state().join(&container.id))
    })
    .await
}

/// Kills every process of a cgroup and waits until it is empty.
fn kill_all(core: &Core, cgroup: &str) -> Result<(), PodError> {
    for look in 0..LOOKS {
        let left =
            core.cgroups.processes(cgroup).map_err(PodError::io(format!("reading cgroup {cgroup}")))?;
        if left.is_empty() {
            return Ok(());
        }
        // Who was killed is only waited for. Others may have come in, such as an exec that was about to begin.
        if look % KILL_AGAIN == 0 {
            core.cgroups.kill(cgroup).map_err(PodError::io(format!("killing cgroup {cgroup}")))?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(PodError::Timeout(format!("processes of cgroup {cgroup} do not die")))
}

fn remove_folder(folder: &Path) -> Result<(), PodError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PodError::io(format!("removing {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Stops a container: its stop signal, and SIGKILL after the grace period. One that has ended is stopped.
pub async fn stop(core: &Arc<Core>, container: &Arc<Container>, grace: Duration) -> Result<(), PodError> {
    let process = match container.state().phase {
        ContainerPhase::Running { process, .. } => process,
        ContainerPhase::Created | ContainerPhase::Starting => {
            // It may be about to run, or about to fail. One that was never started is not told as one that ran and ended:
            // somebody might take it for done.
            drop(container.turn.lock().await);
            return match container.process() {
                Some(_) => Box::pin(stop(core, container, grace)).await,
                None => Ok(()),
            };
        }
        ContainerPhase::Exited(_) => return Ok(()),
    };
    let Some(handle) = PidFd::open(&process).map_err(PodError::io("finding the container"))? else {
        return wait_recorded(container).await;
    };
    let send = |signal| handle.signal(signal).map(drop).map_err(PodError::io("signalling the container"));
    if !grace.is_zero() {
        send(container.state().stop_signal)?;
        failpoint::hit("runtime.container.asked_to_stop");
        if tokio::time::timeout(grace, container.wait_ended()).await.is_ok() {
            return Ok(());
        }
    }
    send(libc::SIGKILL)?;
    core.cgroups.thaw(&container.state().cgroup);
    failpoint::hit("runtime.container.killed");
    wait_recorded(container).await
}

async fn wait_recorded(container: &Arc<Container>) -> Result<(), PodError> {
    tokio::time::timeout(DEATH, container.wait_ended()).await.map_err(|_| {
        PodError::Timeout(format!(
            "container {} was killed but did not end within {} s",
            container.id,
            DEATH.as_secs()
        ))
    })
}

/// Stops a container at once and takes its mounts and cgroup away, whether it ran or not. Until the turn that is returned
/// is dropped, nobody starts it.
async fn put_away<'c>(
    core: &Arc<Core>,
    container: &'c Arc<Container>,
) -> Result<tokio::sync::MutexGuard<'c, ()>, PodError> {
    loop {
        stop(core, container, Duration::ZERO).await?;
        let turn = container.turn.lock().await;
        match container.state().phase {
            ContainerPhase::Exited(_) => return Ok(turn),
            ContainerPhase::Created | ContainerPhase::Starting => {
                clean(core, container).await?;
                return Ok(turn);
            }
            // Started meanwhile.
            ContainerPhase::Running { .. } => {}
        }
    }
}

/// Stops a container of a sandbox that is being stopped, in which nothing is started any more.
pub(in crate::pod) async fn end(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    put_away(core, container).await.map(drop)
}

/// Removes a container, stopping it first. An unknown one is removed already.
///
/// # Errors
/// Among others when it is being started, as with containerd: whoever asks saw one that never ran, and would end one
/// that runs. A kubelet that takes over from one that was killed in the middle of a start is such a one.
pub async fn remove(core: &Arc<Core>, id: &str) -> Result<(), PodError> {
    let Some(container) = core.container(id) else { return Ok(()) };
    let turn = match container.state().phase {
        ContainerPhase::Created => {
            let turn = container.turn.lock().await;
            if !matches!(container.state().phase, ContainerPhase::Created) {
                return Err(starting(&container));
            }
            clean(core, &container).await?;
            turn
        }
        ContainerPhase::Starting => return Err(starting(&container)),
        ContainerPhase::Running { .. } | ContainerPhase::Exited(_) => put_away(core, &container).await?,
    };
    forget(core, &container, turn).await
}

fn starting(container: &Container) -> PodError {
    PodError::State(format!("container {} is in starting state, can't be removed", container.id))
}

/// Removes a container of a sandbox that is removed, whatever it does.
pub(in crate::pod) async fn remove_any(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    let turn = put_away(core, container).await?;
    forget(core, container, turn).await
}

/// Has nobody know any more of a container that is put away.
async fn forget(
    core: &Arc<Core>,
    container: &Arc<Container>,
    _turn: tokio::sync::MutexGuard<'_, ()>,
) -> Result<(), PodError> {
    if let Some(sandbox) = core.sandbox(&container.sandbox) {
        let state = container.state();
        let shim = sandbox.shim.lock().await.shim.clone();
        if let Some(shim) = shim {
            let forget = Header { kind: op::FORGET, handle: state.handle, ..Header::default() };
            match shim.ask(forget, &[], Enclosed::default()).await {
                // One that never started is unknown to it.
                Ok(_) | Err(ShimError::Refused(_) | ShimError::Gone) => {}
                Err(error) => return Err(error.into()),
            }
        }
        failpoint::hit("runtime.container.forgotten");
        match fs::remove_file(sandbox.records().join(format!("{:016x}", state.handle))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PodError::io("removing an exit record")(error));
            }
            _ => {}
        }
    }
    let (one, id) = (core.clone(), container.id.clone());
    blocking(move || discard(&one, &id)).await?;
    failpoint::hit("runtime.container.removed");
    // Whoever is told asks at once, and is not to find it any more.
    core.containers.lock().remove(&container.id);
    core.announce(&container.id, &container.sandbox, ContainerEventType::ContainerDeletedEvent);
    let core = core.clone();
    blocking(move || {
        core.collect_layers();
        Ok(())
    })
    .await
}

/// Unmounts and removes its folders; the record goes last.
pub(super) fn discard(core: &Core, id: &str) -> Result<(), PodError> {
    let run = core.config.run_dir.join("containers").join(id);
    mount::detach(&run.join("rootfs")).map_err(PodError::io("unmounting the container's root"))?;
    volumes::unmount_all(&run)?;
    remove_folder(&run)?;
    failpoint::hit("runtime.container.folder_removed");
    remove_folder(&core.config.root.join("containers").join(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_get_the_codes_that_shells_use() {
        assert_eq!(outcome(Some(0), false), (0, "Completed"));
        assert_eq!(outcome(Some(3 << 8), false), (3, "Error"));
        assert_eq!(outcome(Some(9), false), (137, "Error"));
        assert_eq!(outcome(Some(9), true), (137, "OOMKilled"));
        assert_eq!(outcome(None, true), (255, "Unknown"));
    }
}
