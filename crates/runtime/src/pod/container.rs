//! One container, from its making to its removal.

mod status;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use cri::v1::security_profile::ProfileType;
use cri::v1::{ContainerConfig, ContainerEventType, LinuxContainerResources, NamespaceMode};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;

use super::attach::Hub;
use super::sandbox::Sandbox;
use super::{Core, PodError, blocking, device, rootfs, volumes};
use crate::images::{Image, ImageError, Wanted};
use crate::plan::{self, Surroundings};
use crate::proto::{self, Header, op};
use crate::shim::{Descriptors, Enclosed, ShimError};
use crate::state::{self, ContainerPhase, ContainerState, Exit};
use crate::sys::lean::Lean;
use crate::sys::process::{PidFd, Process};
use crate::sys::{mount, pipe};

/// How long after SIGKILL a container may take to be gone before that is an error.
const DEATH: Duration = Duration::from_secs(30);

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
    async fn wait_ended(&self) {
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

/// Makes a container. When it fails, nothing of it is left.
pub async fn create(core: &Arc<Core>, sandbox_id: &str, config: ContainerConfig) -> Result<String, PodError> {
    let sandbox = core.need_sandbox(sandbox_id)?;
    if !sandbox.is_ready() {
        return Err(PodError::State(format!("sandbox {} is not ready", sandbox.id)));
    }
    if config.metadata.is_none() {
        return Err(PodError::Invalid("the container's metadata is missing".into()));
    }
    let pid_namespace = pid_namespace(core, &sandbox, &config).await?;
    let id = core.new_id();
    let (one, two, name) = (core.clone(), sandbox.clone(), id.clone());
    let container = blocking(move || {
        let made = make(&one, &two, &name, config, pid_namespace);
        if made.is_err() {
            let cgroup = cgroup_of(&two, &name);
            let removed =
                one.cgroups.remove(&cgroup).map_err(PodError::io(format!("removing cgroup {cgroup}")));
            if let Err(error) = removed.and(discard(&one, &name)) {
                tracing::warn!(container = name, %error, "clearing a container that failed");
            }
        }
        made
    })
    .await?;
    core.containers.lock().insert(id.clone(), Arc::new(container));
    core.announce(&id, &sandbox.id, ContainerEventType::ContainerCreatedEvent);
    Ok(id)
}

/// The pid namespace to join, where it is neither the container's own nor the machine's.
async fn pid_namespace(
    core: &Arc<Core>,
    sandbox: &Arc<Sandbox>,
    config: &ContainerConfig,
) -> Result<Option<PathBuf>, PodError> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.clone()).unwrap_or_default();
    let pid = match options.pid() {
        NamespaceMode::Container | NamespaceMode::Node => return Ok(None),
        NamespaceMode::Target => core.need_container(&options.target_id)?.need_process()?.pid,
        NamespaceMode::Pod => match sandbox.state().pid_init {
            Some(init) => init.pid,
            None => {
                let shim = super::watch::connect(core, sandbox).await?;
                let ask = Header { kind: op::PIDNS, ..Header::default() };
                let users = sandbox.user_namespace().map(File::open).transpose();
                let users =
                    users.map_err(PodError::io("opening the pod's user namespace"))?.map(OwnedFd::from);
                let enclosed = Enclosed::default().maybe(proto::HAS_INPUT, users.as_ref());
                let pid = shim.ask(ask, &[], enclosed).await?.header.a as i32;
                let start_time = crate::sys::process::start_time(pid)
                    .map_err(PodError::io("looking at the pid namespace's first process"))?
                    .ok_or(ShimError::Gone)?;
                sandbox.change(|state| {
                    state.pid_init = Some(Process { pid, start_time, boot: core.boot.clone() });
                })?;
                pid
            }
        },
    };
    Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))))
}

fn find_image(core: &Core, config: &ContainerConfig) -> Result<Image, PodError> {
    let spec = config.image.clone().unwrap_or_default();
    let names = [&spec.image_ref, &spec.image].into_iter().filter(|name| !name.is_empty());
    for name in names {
        if let Some(image) = core.images.find(&Wanted::parse(name)?)? {
            return Ok(image);
        }
    }
    Err(ImageError::NotFound(spec.image).into())
}

fn make(
    core: &Core,
    sandbox: &Sandbox,
    id: &str,
    config: ContainerConfig,
    pid_namespace: Option<PathBuf>,
) -> Result<Container, PodError> {
    let image = find_image(core, &config)?;
    let spec = config.image.clone().unwrap_or_default();
    // A kubelet asks for the id that it has found, and says beside it what the pod asks for.
    let asked = if spec.user_specified_image.is_empty() { spec.image } else { spec.user_specified_image };
    let mut config = config;
    volumes::resolve(core, &mut config)?;
    // Not what a client says of the pod again: what it was made by.
    let pod = &sandbox.config;
    let log_path = match (pod.log_directory.is_empty(), config.log_path.is_empty()) {
        (false, false) => Path::new(&pod.log_directory).join(&config.log_path).display().to_string(),
        _ => String::new(),
    };
    let state = ContainerState {
        sandbox: sandbox.id.clone(),
        created_at: core.now(),
        image_ref: image.digest(&asked).to_owned(),
        image_id: image.id.clone(),
        image_name: image.called(&asked).unwrap_or_default(),
        handle: core.new_handle(),
        cgroup: cgroup_of(sandbox, id),
        log_path,
        stop_signal: 15,
        user: (0, 0, Vec::new()),
        shim: None,
        phase: ContainerPhase::Created,
    };
    let container = Container::new(core, id.to_owned(), config, state);
    mount_root(core, sandbox, &container, &image)?;
    failpoint::hit("runtime.container.root_mounted");
    let planned = decide(core, sandbox, &container, &image, pid_namespace)?;
    let json = serde_json::to_vec(&planned.spec).map_err(|e| PodError::Invalid(e.to_string()))?;
    fs::write(container.run_folder.join("config.json"), json).map_err(PodError::io("writing config.json"))?;
    failpoint::hit("runtime.container.planned");
    // Other programs make their own.
    if program(core, sandbox).is_none() {
        let (cgroup, limits) = (container.state().cgroup, container.resources());
        let made = core.cgroups.make(&cgroup, &limits, &planned.devices);
        made.map_err(PodError::io(format!("making cgroup {cgroup}")))?;
        failpoint::hit("runtime.container.cgroup_made");
    }
    state::save_config(&container.root_folder, &container.config)?;
    failpoint::hit("runtime.container.config_saved");
    container.change(|state| {
        state.stop_signal = planned.stop_signal;
        state.user = (planned.user.uid, planned.user.gid, planned.user.groups.clone());
    })?;
    failpoint::hit("runtime.container.made");
    Ok(container)
}

fn cgroup_of(sandbox: &Sandbox, id: &str) -> String {
    format!("{}/{id}", sandbox.state().cgroup)
}

fn mount_root(core: &Core, sandbox: &Sandbox, container: &Container, image: &Image) -> Result<(), PodError> {
    let (upper, work, rootfs) = (container.upper(), container.root_folder.join("work"), container.rootfs());
    for folder in [&upper, &work, &rootfs] {
        fs::create_dir_all(folder).map_err(PodError::io(format!("making {}", folder.display())))?;
    }
    if let Some(users) = sandbox.users() {
        users.give_to_root(&upper).map_err(PodError::io("giving the writable layer to the pod's root"))?;
    }
    let layers = core.images.layer_folders(image);
    if layers.is_empty() {
        return mount::bind(&upper, &rootfs).map_err(PodError::io("mounting an image without layers"));
    }
    let failed = || PodError::io("mounting the image");
    let Some(namespace) = sandbox.user_namespace() else {
        let lower: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
        return mount::overlay(&rootfs, &lower, &upper, &work).map_err(failed());
    };
    let mapped =
        volumes::MappedLayers::new(&layers, &volumes::root_layers(&container.run_folder), &namespace);
    let mapped = mapped.map_err(PodError::io("mapping the image's owners to the pod's users"))?;
    mount::overlay(&rootfs, &mapped.paths(), &upper, &work).map_err(failed())
}

/// What the container's devices bring by their vendors' files.
fn cdi_edits(core: &Core, config: &ContainerConfig) -> Result<Vec<plan::cdi::Edits>, PodError> {
    if config.cdi_devices.is_empty() {
        return Ok(Vec::new());
    }
    let specs = crate::cdi::read(&core.config.cdi_dirs).map_err(PodError::io("reading files of devices"))?;
    let names: Vec<String> = config.cdi_devices.iter().map(|device| device.name.clone()).collect();
    Ok(plan::cdi::resolve(&specs, &names)?)
}

/// Reads what the plan needs to know, and plans.
fn decide(
    core: &Core,
    sandbox: &Sandbox,
    container: &Container,
    image: &Image,
    pid_namespace: Option<PathBuf>,
) -> Result<plan::Plan, PodError> {
    let mounts = volumes::mount_all(core, sandbox, &container.run_folder, &container.config.mounts)?;
    let (config, root) = (ContainerConfig { mounts, ..container.config.clone() }, container.rootfs());
    let config = &config;
    let image_config = core.images.config(image)?;
    let look = || PodError::io("looking into the image");
    let mut devices = Vec::new();
    for wanted in &config.devices {
        let found = device(Path::new(&wanted.host_path), &wanted.container_path);
        let found = found.map_err(PodError::io(format!("device {}", wanted.host_path)))?;
        let found =
            found.ok_or_else(|| PodError::Invalid(format!("{} is not a device", wanted.host_path)))?;
        devices.push((found, wanted.permissions.clone()));
    }
    let edits = cdi_edits(core, config)?;
    for node in edits.iter().flat_map(|edits| &edits.device_nodes) {
        let found = device(Path::new(node.on_machine()), &node.path);
        let found = found.map_err(PodError::io(format!("device {}", node.on_machine())))?;
        let found =
            found.ok_or_else(|| PodError::Invalid(format!("{} is not a device", node.on_machine())))?;
        devices.push(node.applied(found));
    }
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let seccomp_file = match context.and_then(|context| context.seccomp.as_ref()) {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => {
            let path = &profile.localhost_ref;
            Some(fs::read_to_string(path).map_err(PodError::io(format!("seccomp profile {path}")))?)
        }
        _ => None,
    };
    for mount in config.mounts.iter().filter(|mount| !mount.host_path.is_empty()) {
        volumes::make_source(Path::new(&mount.host_path))?;
    }
    let around = Surroundings {
        id: container.id.clone(),
        cgroup: container.state().cgroup,
        rootfs: root.clone(),
        pod: sandbox.run_folder.clone(),
        pid_namespace,
        passwd: rootfs::read(&root, "/etc/passwd").map_err(look())?,
        group: rootfs::read(&root, "/etc/group").map_err(look())?,
        seccomp_file,
        devices,
        edits,
    };
    let planned = plan::plan(&sandbox.config, config, &image_config, &core.machine, &around)?;
    let cwd = planned.spec.pointer("/process/cwd").and_then(|cwd| cwd.as_str()).unwrap_or("/");
    let volumes = image_config.volumes.iter().flatten().map(|(path, _)| path.as_str());
    let owner = sandbox.users().and_then(|users| users.root());
    for folder in volumes.chain([cwd]) {
        rootfs::make_folder(&root, folder, owner)
            .map_err(PodError::io(format!("making {folder} in the container")))?;
    }
    Ok(planned)
}

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
            container.change(|state| {
                // A short-lived process may have been reported dead already.
                if matches!(state.phase, ContainerPhase::Starting) {
                    state.phase = ContainerPhase::Running { process, started_at };
                }
            })?;
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
            clean(core, &container).await?;
            container.change(|state| state.phase = ContainerPhase::Exited(exit))?;
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
    let shim = super::watch::connect(core, sandbox).await?;
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
fn program(core: &Core, sandbox: &Sandbox) -> Option<serde_json::Value> {
    let path = core.config.handlers.get(&sandbox.state().runtime_handler)?;
    Some(json!({"path": path, "root": core.launcher_state()}))
}

/// A container has ended; `status` is its wait status, if anybody saw it. Doing it again changes nothing.
pub(super) async fn ended(
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
pub(super) async fn not_started(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
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
fn outcome(status: Option<i32>, oom: bool) -> (i32, &'static str) {
    let Some(status) = status else { return (255, "Unknown") };
    let code = if status & 0x7f == 0 { (status >> 8) & 0xff } else { 128 + (status & 0x7f) };
    match code {
        0 => (0, "Completed"),
        code if oom => (code, "OOMKilled"),
        code => (code, "Error"),
    }
}

/// Kills what is left in its cgroup and takes mounts and cgroup away.
async fn clean(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
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
    for _ in 0..1000 {
        let left =
            core.cgroups.processes(cgroup).map_err(PodError::io(format!("reading cgroup {cgroup}")))?;
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(error) => return Err(PodError::io(format!("killing process {pid}"))(error.into())),
            }
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
pub(super) async fn end(core: &Arc<Core>, container: &Arc<Container>) -> Result<(), PodError> {
    put_away(core, container).await.map(drop)
}

/// Removes a container, stopping it first. An unknown one is removed already.
pub async fn remove(core: &Arc<Core>, id: &str) -> Result<(), PodError> {
    let Some(container) = core.container(id) else { return Ok(()) };
    let _turn = put_away(core, &container).await?;
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
    core.announce(&container.id, &container.sandbox, ContainerEventType::ContainerDeletedEvent);
    core.containers.lock().remove(&container.id);
    let core = core.clone();
    blocking(move || {
        core.collect_layers();
        Ok(())
    })
    .await
}

/// Unmounts and removes its folders; the record goes last.
fn discard(core: &Core, id: &str) -> Result<(), PodError> {
    let run = core.config.run_dir.join("containers").join(id);
    mount::detach(&run.join("rootfs")).map_err(PodError::io("unmounting the container's root"))?;
    volumes::unmount_all(&run)?;
    remove_folder(&run)?;
    failpoint::hit("runtime.container.folder_removed");
    remove_folder(&core.config.root.join("containers").join(id))
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
    fn ends_get_the_codes_that_shells_use() {
        assert_eq!(outcome(Some(0), false), (0, "Completed"));
        assert_eq!(outcome(Some(3 << 8), false), (3, "Error"));
        assert_eq!(outcome(Some(9), false), (137, "Error"));
        assert_eq!(outcome(Some(9), true), (137, "OOMKilled"));
        assert_eq!(outcome(None, true), (255, "Unknown"));
    }

    #[test]
    fn signals_have_the_protocols_numbers() {
        assert_eq!(status::cri_signal(15), Signal::Sigterm as i32);
        assert_eq!(status::cri_signal(37), Signal::Sigrtminplus3 as i32);
        assert_eq!(status::cri_signal(63), Signal::Sigrtmaxminus1 as i32);
    }
}
