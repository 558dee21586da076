//! Taking over from an earlier runtime: reading what it wrote down, and finding what became of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use prost::Message;
use serde::de::DeserializeOwned;

use super::container::{self, Container, Held};
use super::sandbox::{self, Sandbox};
use super::{Core, Loaded, LoadedContainer, LoadedSandbox, PodError, watch};
use crate::images::text;
use crate::proto::{self, event};
use crate::shim::{Reply, Shim, ShimError};
use crate::state::{self, ContainerPhase, ContainerState, SandboxPhase};
use crate::sys::process::{PidFd, Process};

/// How long the start of a runtime waits for one pod's shim. Later it is asked again, while others are served.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a launcher may take.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(60);

/// Finds every sandbox and container below the root, and brings what is known of them up to date.
pub async fn recover(core: &Arc<Core>) -> Result<(), PodError> {
    let sandboxes: Vec<LoadedSandbox> = load(&core.config.root.join("sandboxes"))?;
    let containers: Vec<LoadedContainer> = load(&core.config.root.join("containers"))?;
    for Loaded { id, config, state } in sandboxes {
        let sandbox = Arc::new(Sandbox::new(core, id.clone(), config, state));
        core.sandboxes.lock().insert(id, sandbox);
    }
    for Loaded { id, config, state } in containers {
        let container = Arc::new(Container::new(core, id.clone(), config, state));
        core.containers.lock().insert(id, container);
    }
    failpoint::hit("runtime.recover.loaded");
    let all = core.sandboxes.lock().all();
    for sandbox in all {
        match sandbox.state().phase {
            // Nobody was told of it yet.
            SandboxPhase::Creating => match sandbox::clear(core, &sandbox).await {
                Ok(()) => {
                    sandbox::discard(core, &sandbox).await?;
                    core.sandboxes.lock().remove(&sandbox.id);
                }
                Err(error) => leave(&sandbox, &error)?,
            },
            SandboxPhase::Ready | SandboxPhase::Stopping if lost(core, &sandbox) => {
                lose(core, &sandbox).await?
            }
            phase @ (SandboxPhase::Ready | SandboxPhase::Stopping) => {
                let reached = tokio::time::timeout(SHIM_PATIENCE, reattach(core, &sandbox)).await;
                if let Err(error) = reached.unwrap_or(Err(ShimError::Silent.into())) {
                    // One pod that does not answer keeps no other from being found.
                    tracing::error!(
                        sandbox = sandbox.id,
                        error = text(&error),
                        "a pod cannot be reached yet"
                    );
                    let (core, sandbox) = (core.clone(), sandbox.clone());
                    core.tasks.clone().spawn(async move { watch::take_over(&core, &sandbox).await });
                    continue;
                }
                if phase == SandboxPhase::Stopping
                    && let Err(error) = sandbox::stop_now(core, &sandbox).await
                {
                    leave(&sandbox, &error)?;
                }
            }
            SandboxPhase::Stopped => {}
        }
    }
    failpoint::hit("runtime.recover.settled");
    settle_networks(core).await;
    Ok(())
}

/// What cannot be undone now is left for the kubelet to stop again. A network plugin may need a pod of this node, which
/// runs only if this runtime does.
fn leave(sandbox: &Sandbox, error: &PodError) -> Result<(), PodError> {
    tracing::warn!(sandbox = sandbox.id, error = text(error), "a sandbox is not stopped yet");
    sandbox.change(|state| state.phase = SandboxPhase::Stopping)
}

/// Frees the networks that nobody has any more, and looks whether the others are as they were.
async fn settle_networks(core: &Arc<Core>) {
    let all = core.sandboxes.lock().all();
    let ready: Vec<_> = all.into_iter().filter(|sandbox| sandbox.is_ready()).collect();
    let ids: Vec<_> = ready.iter().map(|sandbox| sandbox.id.clone()).collect();
    if let Err(error) = core.config.network.collect(&ids).await {
        tracing::error!(%error, "what gone pods had is not freed");
    }
    failpoint::hit("runtime.recover.networks_settled");
    let network = core.config.network.clone();
    core.tasks.spawn(async move {
        for sandbox in ready {
            let Some(netns) = sandbox.netns().filter(|_| sandbox.is_ready()) else { continue };
            if let Err(error) = network.check(&netns, &sandbox.meta()).await {
                tracing::warn!(sandbox = sandbox.id, %error, "a pod is not connected as it was");
            }
        }
    });
}

fn load<C: Message + Default, S: DeserializeOwned>(folder: &Path) -> Result<Vec<Loaded<C, S>>, PodError> {
    let failed = || PodError::io(format!("reading {}", folder.display()));
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let (path, id) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        match (state::load_config(&path)?, state::load(&path)?) {
            (Some(config), Some(state)) => all.push(Loaded { id, config, state }),
            // Cut off before its first record was whole: nothing was done for it yet.
            _ => fs::remove_dir_all(&path).map_err(failed())?,
        }
    }
    Ok(all)
}

/// Whether the machine was started anew since, or lost what is not on its disk in another way: namespaces are pinned
/// there, and nobody can be reached.
fn lost(core: &Core, sandbox: &Sandbox) -> bool {
    sandbox.state().shim.is_none_or(|shim| shim.boot != core.boot) || !sandbox.run_folder.exists()
}

async fn lose(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    tracing::info!(sandbox = sandbox.id, "the machine lost what it had in memory: the sandbox is gone");
    let state = sandbox.state();
    state.shim.iter().chain(&state.pid_init).try_for_each(end)?;
    for container in core.containers_of(&sandbox.id) {
        if let ContainerPhase::Running { process, .. } = &container.state().phase {
            end(process)?;
        }
        match container.state().phase {
            ContainerPhase::Running { .. } | ContainerPhase::Starting => {
                container::ended(core, &container, None, core.now()).await?;
            }
            ContainerPhase::Created | ContainerPhase::Exited(_) => {}
        }
    }
    sandbox.change(|state| {
        state.phase = SandboxPhase::Stopped;
        state.shim = None;
        state.pid_init = None;
    })
}

/// Whoever still runs for a sandbox that is gone runs for nobody.
fn end(process: &Process) -> Result<(), PodError> {
    let failed = || PodError::io("ending a process of a lost sandbox");
    match PidFd::open(process).map_err(failed())? {
        Some(process) => process.signal(libc::SIGKILL).map(drop).map_err(failed()),
        None => Ok(()),
    }
}

async fn reattach(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    // Connecting may start another shim, which adopts what runs; the listing shows what it has.
    let shim = watch::connect(core, sandbox).await?;
    settle_all(core, sandbox, &shim).await
}

/// What a shim has, once no container is being launched: what an earlier runtime asked for comes to be or not.
async fn listed(core: &Arc<Core>, sandbox: &Arc<Sandbox>, shim: &Shim) -> Result<Vec<Reply>, ShimError> {
    let handles: Vec<u64> = core.containers_of(&sandbox.id).iter().map(|c| c.state().handle).collect();
    let is_launching =
        |slot: &Reply| phase_of(slot) == proto::STATE_LAUNCHING && handles.contains(&slot.header.handle);
    let until = tokio::time::Instant::now() + LAUNCH_PATIENCE;
    loop {
        let slots = shim.list().await?;
        if !slots.iter().any(is_launching) {
            return Ok(slots);
        }
        if tokio::time::Instant::now() > until {
            return Err(ShimError::Silent);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn phase_of(slot: &Reply) -> u64 {
    slot.header.flags >> proto::STATE_SHIFT
}

/// Brings what is known of a sandbox's containers up to date with what a shim says, after a time
/// in which nobody listened to it.
pub(super) async fn settle_all(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    shim: &Shim,
) -> Result<(), PodError> {
    let mut slots = listed(core, sandbox, shim).await?;
    for container in core.containers_of(&sandbox.id) {
        let handle = container.state().handle;
        let slot = slots.iter().position(|slot| slot.header.handle == handle).map(|at| slots.swap_remove(at));
        settle(core, sandbox, shim, &container, slot).await?;
    }
    Ok(())
}

/// One container: what its shim says counts most, then its exit record, then whether it still runs.
async fn settle(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    shim: &Shim,
    container: &Arc<Container>,
    slot: Option<Reply>,
) -> Result<(), PodError> {
    let state = container.state();
    let process = match &state.phase {
        ContainerPhase::Created | ContainerPhase::Exited(_) => return Ok(()),
        ContainerPhase::Starting => None,
        ContainerPhase::Running { process, .. } => Some(process.clone()),
    };
    let is_known = slot.is_some();
    if let Some(mut slot) = slot {
        debug_assert_eq!(slot.header.kind, event::SLOT);
        if phase_of(&slot) == proto::STATE_RUNNING {
            let process =
                Process { pid: slot.header.a as i32, start_time: slot.header.b, boot: core.boot.clone() };
            if process_runs(&process)? {
                container.hold(Held::from_reply(&mut slot.fds));
                if matches!(state.phase, ContainerPhase::Starting) {
                    container.change(|state| {
                        state.phase =
                            ContainerPhase::Running { process: process.clone(), started_at: core.now() };
                    })?;
                }
                if slot.header.flags & proto::FLAG_ADOPTED != 0 {
                    core.tasks.spawn(watch::watch_orphan(core.clone(), container.clone()));
                }
                return Ok(());
            }
        }
    }
    if settle_by_record(core, sandbox, container).await? {
        return Ok(());
    }
    // The shim that was to start it has nothing of it: it was not started, and can be.
    if process.is_none() && !is_known && was_asked(sandbox, shim, &state) {
        return container::not_started(core, container).await;
    }
    settle_by_process(core, container, process).await
}

/// Whether its shim wrote down how it ended.
async fn settle_by_record(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    container: &Arc<Container>,
) -> Result<bool, PodError> {
    let handle = container.state().handle;
    let record = watch::read_record(sandbox, handle).map_err(PodError::io("reading an exit record"))?;
    let Some(record) = record else { return Ok(false) };
    container::ended(core, container, Some(record.status), record.finished_at).await?;
    Ok(true)
}

async fn settle_by_process(
    core: &Arc<Core>,
    container: &Arc<Container>,
    process: Option<Process>,
) -> Result<(), PodError> {
    match process {
        // Its shim is gone, and so are its pipes: it is watched until its end, whatever that will be.
        Some(process) if process_runs(&process)? => {
            core.tasks.spawn(watch::watch_orphan(core.clone(), container.clone()));
            Ok(())
        }
        _ => container::ended(core, container, None, core.now()).await,
    }
}

/// Brings what is known of a container up to date when its pod has no shim and gets none: its end is watched from here.
pub(super) async fn settle_alone(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    container: &Arc<Container>,
) -> Result<(), PodError> {
    let process = match container.state().phase {
        ContainerPhase::Created | ContainerPhase::Exited(_) => return Ok(()),
        ContainerPhase::Starting => None,
        ContainerPhase::Running { process, .. } => Some(process),
    };
    if settle_by_record(core, sandbox, container).await? {
        return Ok(());
    }
    settle_by_process(core, container, process).await
}

/// Whether a shim is the one that was there when a container was to be started.
fn was_asked(sandbox: &Sandbox, shim: &Shim, state: &ContainerState) -> bool {
    state.shim.as_ref().is_some_and(|asked| asked.pid == shim.pid()) && state.shim == sandbox.state().shim
}

fn process_runs(process: &Process) -> Result<bool, PodError> {
    Ok(PidFd::open(process).map_err(PodError::io("looking for a container"))?.is_some())
}
