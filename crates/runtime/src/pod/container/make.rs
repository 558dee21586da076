//! Making a container: its root, its plan, its cgroup and its record.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::failpoint;
use cri::v1::security_profile::ProfileType;
use cri::v1::{ContainerConfig, ContainerEventType, LinuxContainerSecurityContext, NamespaceMode};

use super::start::program;
use super::{Container, discard};
use crate::images::{Image, ImageError, Wanted};
use crate::plan::{self, Surroundings};
use crate::pod::sandbox::Sandbox;
use crate::pod::{Core, PodError, blocking, device, named_device, rootfs, volumes, watch};
use crate::proto::{self, Header, op};
use crate::shim::{Enclosed, ShimError};
use crate::state::{self, ContainerPhase, ContainerState};
use crate::sys::mount;
use crate::sys::process::Process;

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
                let shim = watch::connect(core, sandbox).await?;
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
        let found = named_device(Path::new(&wanted.host_path), &wanted.container_path);
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
    let cgroup = container.state().cgroup;
    let around = Surroundings {
        id: container.id.clone(),
        cgroups: seen_cgroups(core, sandbox, &cgroup)?,
        cgroup,
        rootfs: root.clone(),
        pod: sandbox.run_folder.clone(),
        pid_namespace,
        passwd: rootfs::read(&root, "/etc/passwd").map_err(look())?,
        group: rootfs::read(&root, "/etc/group").map_err(look())?,
        seccomp_file,
        devices,
        edits,
        hidden: hidden(core, sandbox, context)?,
        launcher: program(core, sandbox).is_none().then(|| core.programs.launcher.clone()),
    };
    let planned = plan::plan(&sandbox.config, config, &image_config, &core.machine, &around)?;
    let cwd = planned.spec.pointer("/process/cwd").and_then(|cwd| cwd.as_str()).unwrap_or("/");
    let volumes = image_config.volumes.iter().flatten().map(|(path, _)| path.as_str());
    let owner = sandbox.users().and_then(|users| users.root());
    for folder in volumes.chain([cwd]) {
        rootfs::make_folder(&root, folder, owner)
            .map_err(PodError::io(format!("making {folder} in the container")))?;
    }
    let places = plan::mounts::places(&planned.spec);
    // A socket or device is mounted over a file, too.
    let is_file = |source: &Path| source.exists() && !source.is_dir();
    let places = places.iter().map(|(place, source)| (*place, source.is_some_and(is_file)));
    rootfs::make_places(&root, places, owner).map_err(look())?;
    Ok(planned)
}

/// An empty folder, and which of the masked paths are folders that it can hide: those of the kernel's file systems, which
/// are in the container as they are here. Programs of other makers do it their own way.
fn hidden(
    core: &Core,
    sandbox: &Sandbox,
    context: Option<&LinuxContainerSecurityContext>,
) -> Result<(PathBuf, Vec<String>), PodError> {
    let empty = core.config.run_dir.join("empty");
    if program(core, sandbox).is_some() {
        return Ok((empty, Vec::new()));
    }
    make_shown(&empty)?;
    let masked = context.iter().flat_map(|context| &context.masked_paths);
    let folders = masked
        .filter(|path| (path.starts_with("/proc/") || path.starts_with("/sys/")) && Path::new(path).is_dir());
    Ok((empty, folders.cloned().collect()))
}

/// What a container sees of its cgroups of version 1, and a folder of places for that: one for all containers, where a
/// file system of each one's own would cost memory, and could be written to. Programs of other makers do it their own way.
fn seen_cgroups(
    core: &Core,
    sandbox: &Sandbox,
    cgroup: &str,
) -> Result<(PathBuf, Vec<(String, PathBuf)>), PodError> {
    let places = core.config.run_dir.join("cgroups");
    if program(core, sandbox).is_some() {
        return Ok((places, Vec::new()));
    }
    let seen = core.cgroups.seen(cgroup);
    if !seen.is_empty() {
        make_shown(&places)?;
    }
    for name in seen.iter().filter_map(|(place, _)| Path::new(place).file_name()) {
        make_shown(&places.join(name))?;
    }
    Ok((places, seen))
}

/// Makes a folder that containers see, unless it is there.
fn make_shown(folder: &Path) -> Result<(), PodError> {
    match fs::DirBuilder::new().mode(0o555).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(PodError::io(format!("making {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}
