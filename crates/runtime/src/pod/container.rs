//! One container, from its making to its removal.

mod ending;
mod make;
mod start;
mod status;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1::{ContainerConfig, LinuxContainerResources};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::attach::Hub;
use super::{Core, PodError, blocking};
use crate::images::text;
use crate::proto::{self, Header, op};
use crate::shim::{Descriptors, Enclosed};
use crate::state::{self, ContainerPhase, ContainerState};
use crate::sys::process::Process;
use ending::{clean, discard};
pub(super) use ending::{end, ended, not_started, remove_any};
pub use ending::{remove, stop};
pub use make::create;
use start::program;
pub use start::start;
pub use status::spec;

/// The runtime's own hold on a container's ends: output that its shim can no longer read stays
/// readable, and stdin stays open.
#[derive(Default, Clone)]
pub struct Held {
    pub stdout: Option<Arc<OwnedFd>>,
    pub stderr: Option<Arc<OwnedFd>>,
    pub stdin: Option<Arc<OwnedFd>>,
    pub master: Option<Arc<OwnedFd>>,
}

impl Held {
    /// What a shim sent.
    pub fn from_reply(fds: &mut Descriptors) -> Self {
        let mut take = |bit| fds.take(bit).map(Arc::new);
        Self {
            stdout: take(proto::HAS_STDOUT),
            stderr: take(proto::HAS_STDERR),
            stdin: take(proto::HAS_STDIN_KEPT),
            master: take(proto::HAS_TTY),
        }
    }
}

/// One container.
pub struct Container {
    pub id: String,
    pub sandbox: String,
    pub config: ContainerConfig,
    pub run_folder: PathBuf,
    root_folder: PathBuf,
    state: watch::Sender<ContainerState>,
    turn: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
    resources: Mutex<Option<LinuxContainerResources>>,
    pub(super) hub: Hub,
}

impl Container {
    pub(super) fn new(core: &Core, id: String, config: ContainerConfig, state: ContainerState) -> Self {
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        Self {
            run_folder: core.config.run_dir.join("containers").join(&id),
            root_folder: core.config.root.join("containers").join(&id),
            sandbox: state.sandbox.clone(),
            id,
            config,
            state: watch::Sender::new(state),
            turn: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            resources: Mutex::new(resources),
            hub: Hub::default(),
        }
    }

    /// What is known of it.
    pub fn state(&self) -> ContainerState {
        self.state.borrow().clone()
    }

    /// Changes what is known of it, on disk first.
    pub(super) fn change(&self, change: impl FnOnce(&mut ContainerState)) -> Result<(), PodError> {
        let mut next = self.state();
        change(&mut next);
        state::save(&self.root_folder, &next)?;
        self.state.send_replace(next);
        Ok(())
    }

    /// Changes what is known of a start, which its shim knows too: where that cannot be written down, it is known all the
    /// same, and a runtime that starts later asks the shim.
    pub(super) fn know(&self, change: impl FnOnce(&mut ContainerState)) {
        let mut next = self.state();
        change(&mut next);
        if let Err(error) = state::save(&self.root_folder, &next) {
            tracing::error!(
                container = self.id,
                error = text(&error),
                "a container's state is not written down"
            );
        }
        self.state.send_replace(next);
    }

    pub(super) fn hold(&self, held: Held) {
        *self.held.lock() = held;
    }

    /// Our ends of its pipes or terminal.
    pub fn held(&self) -> Held {
        self.held.lock().clone()
    }

    /// Where its writable layer is.
    pub fn upper(&self) -> PathBuf {
        self.root_folder.join("upper")
    }

    /// Its mounted root.
    pub fn rootfs(&self) -> PathBuf {
        self.run_folder.join("rootfs")
    }

    /// Its present limits.
    pub fn resources(&self) -> LinuxContainerResources {
        self.resources.lock().clone().unwrap_or_default()
    }

    /// Its first process, while it runs.
    pub fn process(&self) -> Option<Process> {
        match self.state().phase {
            ContainerPhase::Running { process, .. } => Some(process),
            _ => None,
        }
    }

    /// Its first process, or why it has none.
    pub fn need_process(&self) -> Result<Process, PodError> {
        self.process().ok_or_else(|| PodError::State(format!("container {} is not running", self.id)))
    }

    /// Waits until it has ended.
    pub(super) async fn wait_ended(&self) {
        let mut states = self.state.subscribe();
        // The sender lives in self.
        let _ = states.wait_for(|state| matches!(state.phase, ContainerPhase::Exited(_))).await;
    }

    /// Opens its log file for appending; `None` when it has none.
    pub fn open_log(&self) -> io::Result<Option<OwnedFd>> {
        let path = self.state().log_path;
        if path.is_empty() {
            return Ok(None);
        }
        let path = Path::new(&path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let options = File::options().create(true).append(true).open(path);
        options.map(|file| Some(file.into()))
    }
}

/// Has the shim write to a fresh log file, after the old one was moved away.
pub async fn reopen_log(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    container.need_process()?;
    let sandbox = core.need_sandbox(&container.sandbox)?;
    let log = container.open_log().map_err(PodError::io("opening the log"))?;
    let shim = super::watch::connect(core, &sandbox).await?;
    let header = Header { kind: op::REOPEN, handle: container.state().handle, ..Header::default() };
    shim.ask(header, &[], Enclosed::default().maybe(proto::HAS_LOG, log.as_ref())).await?;
    Ok(())
}

/// Changes a container's limits.
pub async fn update(
    core: &Arc<Core>,
    container: &Arc<Container>,
    wanted: LinuxContainerResources,
) -> Result<(), PodError> {
    let _turn = container.turn.lock().await;
    let ready = matches!(container.state().phase, ContainerPhase::Created)
        && program(core, &*core.need_sandbox(&container.sandbox)?).is_none();
    if ready || container.process().is_some() {
        let (core, cgroup, wanted) = (core.clone(), container.state().cgroup, wanted.clone());
        blocking(move || core.cgroups.update(&cgroup, &wanted).map_err(PodError::io("changing limits")))
            .await?;
    }
    let mut resources = container.resources.lock();
    let now = resources.get_or_insert_default();
    let set = |to: &mut i64, from: i64| {
        if from != 0 {
            *to = from;
        }
    };
    set(&mut now.cpu_shares, wanted.cpu_shares);
    set(&mut now.cpu_quota, wanted.cpu_quota);
    set(&mut now.cpu_period, wanted.cpu_period);
    set(&mut now.memory_limit_in_bytes, wanted.memory_limit_in_bytes);
    set(&mut now.memory_swap_limit_in_bytes, wanted.memory_swap_limit_in_bytes);
    now.unified.extend(wanted.unified);
    for (to, from) in [(&mut now.cpuset_cpus, wanted.cpuset_cpus), (&mut now.cpuset_mems, wanted.cpuset_mems)]
    {
        if !from.is_empty() {
            *to = from;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cri::v1::Signal;

    use super::*;

    #[test]
    fn signals_have_the_protocols_numbers() {
        assert_eq!(status::cri_signal(15), Signal::Sigterm as i32);
        assert_eq!(status::cri_signal(37), Signal::Sigrtminplus3 as i32);
        assert_eq!(status::cri_signal(63), Signal::Sigrtmaxminus1 as i32);
    }
}
