//! A pod's sandbox: namespaces pinned by bind mounts, generated files, a network and a shim. There
//! is no pause container.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use cri::v1::{
    ContainerEventType, DnsConfig, LinuxPodSandboxStatus, Namespace, NamespaceMode, NamespaceOption, PodIp,
    PodSandbox, PodSandboxConfig, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus, UserNamespace,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Core, PodError, ShimSlot, blocking};
use crate::network::{PodIps, SandboxMeta};
use crate::plan::{self, sandbox_options};
use crate::proto::{Header, op};
use crate::shim::{Enclosed, ShimError};
use crate::state::{self, SandboxPhase, SandboxState};
use crate::sys::mount;
use crate::sys::namespace::{self, Kind};
use crate::sys::process::{self, Process};
use crate::sys::users::Users;

/// One sandbox.
pub struct Sandbox {
    pub id: String,
    pub config: PodSandboxConfig,
    /// Its pinned namespaces, generated files and shim's socket.
    pub run_folder: PathBuf,
    root_folder: PathBuf,
    state: Mutex<SandboxState>,
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) shim: ShimSlot,
    /// Execs that run, by handle: who is told the wait status.
    pub(super) execs: Mutex<HashMap<u64, oneshot::Sender<i32>>>,
}

impl Sandbox {
    pub(super) fn new(core: &Core, id: String, config: PodSandboxConfig, state: SandboxState) -> Self {
        Self {
            run_folder: core.config.run_dir.join("sandboxes").join(&id),
            root_folder: core.config.root.join("sandboxes").join(&id),
            id,
            config,
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            shim: ShimSlot::default(),
            execs: Mutex::default(),
        }
    }

    /// What is known of it.
    pub fn state(&self) -> SandboxState {
        self.state.lock().clone()
    }

    /// Changes what is known of it, on disk first.
    pub(super) fn change(&self, change: impl FnOnce(&mut SandboxState)) -> Result<(), PodError> {
        let mut state = self.state.lock();
        let mut next = state.clone();
        change(&mut next);
        state::save(&self.root_folder, &next)?;
        *state = next;
        Ok(())
    }

    /// Whether containers can run in it.
    pub fn is_ready(&self) -> bool {
        self.state.lock().phase == SandboxPhase::Ready
    }

    /// Where its network namespace is pinned; `None` when it has the machine's.
    pub fn netns(&self) -> Option<PathBuf> {
        self.state.lock().own_network.then(|| self.run_folder.join(Kind::Net.name()))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run_folder.join("shim.sock")
    }

    /// Where the shim leaves exit records.
    pub(super) fn records(&self) -> PathBuf {
        self.run_folder.join("exits")
    }

    fn options(&self) -> NamespaceOption {
        sandbox_options(&self.config)
    }

    /// The users that it has for itself; `None` when it shares the machine's.
    pub fn users(&self) -> Option<Users> {
        plan::users(&self.options())
    }

    /// Where its user namespace is pinned, if it has one of its own.
    pub fn user_namespace(&self) -> Option<PathBuf> {
        self.users().map(|_| self.run_folder.join(namespace::USER))
    }

    pub(super) fn meta(&self) -> SandboxMeta {
        let meta = self.config.metadata.clone().unwrap_or_default();
        SandboxMeta {
            id: self.id.clone(),
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            annotations: self.config.annotations.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            ports: self.config.port_mappings.clone(),
            dns: self.config.dns_config.clone(),
            cgroup_parent: self.config.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default(),
        }
    }

    /// For `PodSandboxStatus`.
    pub fn status(&self) -> PodSandboxStatus {
        let state = self.state();
        let told = cri_state(&state);
        let mut ips = state.ips.into_iter();
        let network = PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        };
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: told as i32,
            created_at: state.created_at,
            network: Some(network),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: Some(self.options()) }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: state.runtime_handler,
        }
    }

    /// For `ListPodSandbox`.
    pub fn summary(&self) -> PodSandbox {
        let state = self.state();
        PodSandbox {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: cri_state(&state) as i32,
            created_at: state.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: state.runtime_handler,
        }
    }
}

fn cri_state(state: &SandboxState) -> PodSandboxState {
    match state.phase {
        SandboxPhase::Ready => PodSandboxState::SandboxReady,
        _ => PodSandboxState::SandboxNotready,
    }
}

/// Makes a sandbox. When it fails, nothing of it is left.
pub async fn run(
    core: &Arc<Core>,
    mut config: PodSandboxConfig,
    handler: String,
) -> Result<String, PodError> {
    if config.metadata.is_none() {
        return Err(PodError::Invalid("the sandbox's metadata is missing".into()));
    }
    let options = sandbox_options(&config);
    check_users(core, &options)?;
    if config.hostname.is_empty() {
        // One that is given no name has the machine's, as containerd has it.
        let name = nix::unistd::gethostname()
            .map_err(|errno| PodError::io("reading the machine's name")(errno.into()))?;
        config.hostname = name.to_string_lossy().into_owned();
    }
    let id = core.new_id();
    let asked = config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
    let state = SandboxState {
        created_at: core.now(),
        runtime_handler: handler,
        cgroup: core.cgroup_of(asked, &id),
        own_network: options.network() != NamespaceMode::Node,
        own_ipc: options.ipc() != NamespaceMode::Node,
        ips: Vec::new(),
        phase: SandboxPhase::Creating,
        shim: None,
        pid_init: None,
    };
    let sandbox = Arc::new(Sandbox::new(core, id.clone(), config, state));
    if let Err(error) = make(core, &sandbox).await {
        if let Err(left) = clear(core, &sandbox).await.and(discard(core, &sandbox).await) {
            tracing::warn!(sandbox = id, error = %left, "clearing a sandbox that failed");
        }
        return Err(error);
    }
    core.sandboxes.lock().insert(id.clone(), sandbox);
    core.announce(&id, &id, ContainerEventType::ContainerCreatedEvent);
    core.announce(&id, &id, ContainerEventType::ContainerStartedEvent);
    Ok(id)
}

/// Users of a pod's own need namespaces of its own, and a kernel that maps them.
fn check_users(core: &Core, options: &NamespaceOption) -> Result<(), PodError> {
    let refuse = |why: &str| Err(PodError::Invalid(format!("user namespace: {why}")));
    let Some(users) = plan::users(options) else {
        let asked = options.userns_options.as_ref().map(UserNamespace::mode);
        return match asked {
            None | Some(NamespaceMode::Node) => Ok(()),
            Some(_) => refuse("it can be the pod's or the node's, nothing else"),
        };
    };
    if let Some(why) = &core.machine.no_user_namespaces {
        return refuse(why);
    }
    if users.root().is_none() {
        return refuse("its mappings leave the pod without a root");
    }
    let shared = [options.network(), options.ipc(), options.pid()].contains(&NamespaceMode::Node);
    if shared { refuse("the pod's network, IPC and processes have to be its own too") } else { Ok(()) }
}

async fn make(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    let (one, two) = (sandbox.clone(), core.clone());
    // The shim starts while the network is being made.
    let pid = blocking(move || {
        prepare(&one)?;
        let _runtime = tokio::runtime::Handle::current().enter();
        let pid = crate::shim::spawn(&two.programs, &one.socket(), &one.records())?;
        failpoint::hit("runtime.sandbox.shim_spawned");
        remember_shim(&two, &one, pid)?;
        failpoint::hit("runtime.sandbox.shim_recorded");
        Ok(pid)
    })
    .await?;
    let (cgroups, cgroup) = (core.cgroups.clone(), core.shim_cgroup(&sandbox.id));
    let sheltered = tokio::task::spawn_blocking(move || cgroups.shelter(pid, &cgroup));
    let isolate = {
        let sandbox = sandbox.clone();
        blocking(move || isolate(&sandbox))
    };
    isolate.await?;
    failpoint::hit("runtime.sandbox.isolated");
    let PodIps(ips) = match sandbox.netns() {
        Some(netns) => core.config.network.setup(&netns, &sandbox.meta()).await?,
        None => PodIps::default(),
    };
    failpoint::hit("runtime.sandbox.networked");
    super::watch::connect(core, sandbox).await?;
    failpoint::hit("runtime.sandbox.connected");
    sheltered
        .await
        .map_err(|e| PodError::io("moving the shim")(io::Error::other(e)))?
        .map_err(PodError::io("moving the shim into its cgroup"))?;
    sandbox.change(|state| {
        state.ips = ips.iter().map(ToString::to_string).collect();
        state.phase = SandboxPhase::Ready;
    })?;
    failpoint::hit("runtime.sandbox.ready");
    Ok(())
}

pub(super) fn remember_shim(core: &Core, sandbox: &Sandbox, pid: i32) -> Result<(), PodError> {
    let start_time =
        process::start_time(pid).map_err(PodError::io("looking at the shim"))?.ok_or(ShimError::Gone)?;
    sandbox.change(|state| state.shim = Some(Process { pid, start_time, boot: core.boot.clone() }))
}

/// Records and folders.
fn prepare(sandbox: &Sandbox) -> Result<(), PodError> {
    let failed = || PodError::io("making the sandbox's folders");
    fs::create_dir_all(&sandbox.root_folder).map_err(failed())?;
    failpoint::hit("runtime.sandbox.begun");
    state::save_config(&sandbox.root_folder, &sandbox.config)?;
    sandbox.change(|_| {})?;
    failpoint::hit("runtime.sandbox.recorded");
    fs::create_dir_all(sandbox.records()).map_err(failed())?;
    if !sandbox.config.log_directory.is_empty() {
        fs::create_dir_all(&sandbox.config.log_directory).map_err(PodError::io("making the log folder"))?;
    }
    Ok(())
}

/// Generated files, shared memory, namespaces.
fn isolate(sandbox: &Sandbox) -> Result<(), PodError> {
    let folder = &sandbox.run_folder;
    let failed = || PodError::io("writing the sandbox's files");
    fs::write(folder.join("hostname"), format!("{}\n", sandbox.config.hostname)).map_err(failed())?;
    let resolv = match &sandbox.config.dns_config {
        Some(dns) => resolv_conf(dns),
        None => fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|error| {
            tracing::debug!(%error, "the machine has no resolver configuration to pass on");
            String::new()
        }),
    };
    fs::write(folder.join("resolv.conf"), resolv).map_err(failed())?;
    let state = sandbox.state();
    let mut plan = namespace::Plan { users: sandbox.users(), ..namespace::Plan::default() };
    if let Some(users) = &plan.users {
        for name in ["hostname", "resolv.conf"] {
            users.give_to_root(&folder.join(name)).map_err(failed())?;
        }
    }
    if state.own_ipc {
        let shm = folder.join("shm");
        fs::create_dir_all(&shm).map_err(failed())?;
        let (uid, gid) = plan.users.as_ref().and_then(Users::root).unwrap_or((0, 0));
        let options = format!("mode=1777,size=65536k,uid={uid},gid={gid}");
        mount::tmpfs(&shm, &options).map_err(PodError::io("mounting /dev/shm"))?;
        plan.kinds.push(Kind::Ipc);
        failpoint::hit("runtime.sandbox.shm_mounted");
    }
    if state.own_network {
        plan.kinds.extend([Kind::Net, Kind::Uts]);
        plan.hostname = Some(sandbox.config.hostname.clone()).filter(|name| !name.is_empty());
    }
    let sysctls = sandbox.config.linux.iter().flat_map(|linux| linux.sysctls.iter());
    plan.sysctls = sysctls.map(|(name, value)| (name.clone(), value.clone())).collect();
    namespace::create(&plan, folder).map_err(PodError::io("making the sandbox's namespaces"))
}

/// What `/etc/resolv.conf` says.
fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// Stops a sandbox and everything in it. One that is stopped, or unknown, is stopped already.
pub async fn stop(core: &Arc<Core>, id: &str) -> Result<(), PodError> {
    let Some(sandbox) = core.sandbox(id) else { return Ok(()) };
    let _turn = sandbox.turn.lock().await;
    stop_now(core, &sandbox).await
}

pub(super) async fn stop_now(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    if sandbox.state().phase == SandboxPhase::Stopped {
        return Ok(());
    }
    sandbox.change(|state| state.phase = SandboxPhase::Stopping)?;
    failpoint::hit("runtime.sandbox.stopping");
    for container in core.containers_of(&sandbox.id) {
        super::container::end(core, &container).await?;
    }
    clear(core, sandbox).await?;
    failpoint::hit("runtime.sandbox.cleared");
    sandbox.change(|state| {
        state.phase = SandboxPhase::Stopped;
        state.shim = None;
        state.pid_init = None;
    })?;
    failpoint::hit("runtime.sandbox.stopped");
    core.announce(&sandbox.id, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
    Ok(())
}

/// Takes the network, the shim, the mounts and the cgroups away. What is not there is fine.
pub(super) async fn clear(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    if let Some(netns) = sandbox.netns() {
        core.config.network.teardown(&netns, &sandbox.meta()).await?;
    }
    failpoint::hit("runtime.sandbox.disconnected");
    end_shim(core, sandbox).await?;
    failpoint::hit("runtime.sandbox.shim_ended");
    let (core, sandbox) = (core.clone(), sandbox.clone());
    blocking(move || {
        for name in ["shm", Kind::Net.name(), Kind::Ipc.name(), Kind::Uts.name(), namespace::USER] {
            mount::detach(&sandbox.run_folder.join(name))
                .map_err(PodError::io(format!("unmounting the sandbox's {name}")))?;
        }
        failpoint::hit("runtime.sandbox.unmounted");
        let cgroups = [core.shim_cgroup(&sandbox.id), own_cgroup(&core, &sandbox)];
        for cgroup in cgroups.iter().filter(|cgroup| !cgroup.is_empty()) {
            core.cgroups.remove(cgroup).map_err(PodError::io(format!("removing cgroup {cgroup}")))?;
        }
        Ok(())
    })
    .await
}

/// The pod's cgroup is the kubelet's to remove, unless we chose it.
fn own_cgroup(core: &Core, sandbox: &Sandbox) -> String {
    let cgroup = sandbox.state().cgroup;
    if cgroup == core.cgroup_of("", &sandbox.id) { cgroup } else { String::new() }
}

async fn end_shim(core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    let mut link = sandbox.shim.lock().await;
    link.closed = true;
    let shim = link.shim.take();
    let state = sandbox.state();
    let Some(known) = state.shim else { return Ok(()) };
    let handle = process::PidFd::open(&known).map_err(PodError::io("finding the shim"))?;
    let init = match &state.pid_init {
        Some(init) => {
            process::PidFd::open(init).map_err(PodError::io("finding the pid namespace's first process"))?
        }
        None => None,
    };
    if let Some(shim) = shim {
        match shim.ask(Header { kind: op::SHUTDOWN, ..Header::default() }, &[], Enclosed::default()).await {
            Ok(_) | Err(ShimError::Gone) => {}
            Err(error) => tracing::warn!(sandbox = sandbox.id, %error, "a shim has to be killed"),
        }
    }
    for handle in [handle, init].into_iter().flatten() {
        let gone = tokio::time::timeout(Duration::from_millis(500), handle.ended());
        if gone.await.is_err() {
            handle.signal(libc::SIGKILL).map_err(PodError::io("killing the shim"))?;
            handle.ended().await.map_err(PodError::io("waiting for the shim's end"))?;
        }
    }
    wait_until_left(core, &core.shim_cgroup(&sandbox.id)).await
}

/// A process leaves its cgroup when it is reaped, a moment after its end.
async fn wait_until_left(core: &Arc<Core>, cgroup: &str) -> Result<(), PodError> {
    for _ in 0..200 {
        let (here, name) = (core.clone(), cgroup.to_owned());
        let left =
            blocking(move || here.cgroups.processes(&name).map_err(PodError::io("reading a cgroup"))).await?;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Removes a sandbox and its containers, stopping them first. An unknown one is removed already.
pub async fn remove(core: &Arc<Core>, id: &str) -> Result<(), PodError> {
    let Some(sandbox) = core.sandbox(id) else { return Ok(()) };
    let _turn = sandbox.turn.lock().await;
    stop_now(core, &sandbox).await?;
    for container in core.containers_of(&sandbox.id) {
        super::container::remove_any(core, &container).await?;
    }
    failpoint::hit("runtime.sandbox.emptied");
    discard(core, &sandbox).await?;
    failpoint::hit("runtime.sandbox.removed");
    // Whoever is told asks at once, and is not to find it any more.
    core.sandboxes.lock().remove(&sandbox.id);
    core.announce_of(&sandbox.id, Some(&sandbox), ContainerEventType::ContainerDeletedEvent);
    Ok(())
}

/// Removes its folders; the record goes last.
pub(super) async fn discard(_core: &Arc<Core>, sandbox: &Arc<Sandbox>) -> Result<(), PodError> {
    let sandbox = sandbox.clone();
    blocking(move || {
        for folder in [&sandbox.run_folder, &sandbox.root_folder] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PodError::io(format!("removing {}", folder.display()))(error));
                }
                _ => {}
            }
            failpoint::hit("runtime.sandbox.folder_removed");
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_upstreams_order() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(resolv_conf(&dns), "search a.svc svc\nnameserver 10.0.0.10\noptions ndots:5\n");
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
