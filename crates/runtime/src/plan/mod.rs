//! Deciding what a container is to be: CRI configuration and image in, OCI specification out.
//! Pure: no file is read here and no clock; what the machine is like comes as [`Machine`].

mod capabilities;
pub mod cdi;
mod masks;
pub mod mounts;
mod over;
mod resources;
pub mod seccomp;
mod user;

use std::path::{Path, PathBuf};

use cri::v1::security_profile::ProfileType;
use cri::v1::{
    ContainerConfig, IdMapping, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, Signal,
};
use serde::Deserialize;
use serde_json::{Value, json};

pub use mounts::is_bidirectional;
pub use user::User;

use crate::cgroup;
use crate::sys::namespace;
use crate::sys::users::{Range, Users};

/// Why a container cannot be what its configuration asks for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Neither image nor configuration says what to run.
    #[error("no command specified: neither the container nor its image {0:?} names one")]
    NoCommand(String),
    /// A user or group that the image does not have.
    #[error("{0}")]
    User(String),
    /// A capability that does not exist.
    #[error("unknown capability {0:?}")]
    Capability(String),
    /// A mount that makes no sense.
    #[error("mount {0:?}: {1}")]
    Mount(String, String),
    /// A device by the Container Device Interface.
    #[error("CDI device {0:?}: {1}")]
    Cdi(String, String),
    /// An AppArmor profile that cannot be applied.
    #[error("AppArmor profile {0:?}: {1}")]
    AppArmor(String, &'static str),
    /// A seccomp profile that cannot be read or understood.
    #[error("seccomp profile: {0}")]
    Seccomp(String),
}

/// The part of an image's configuration that running it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what runs where there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Where it runs.
    pub working_dir: Option<String>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// Paths that are to be volumes.
    pub volumes: Option<std::collections::BTreeMap<String, Value>>,
}

/// What the machine is like.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Version 2 of cgroups alone.
    pub unified_cgroups: bool,
    /// Whether the kernel can limit huge pages.
    pub hugetlb: bool,
    /// Capabilities that we can pass on, as bits.
    pub capabilities: u64,
    /// The lowest OOM score that we may give.
    pub lowest_oom_score: i64,
    /// Whether the kernel confines by AppArmor profiles.
    pub apparmor: bool,
    /// Why pods cannot have users of their own; `None` where they can.
    pub no_user_namespaces: Option<String>,
    /// The device nodes of the machine, for privileged containers.
    pub devices: Vec<Device>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is, and where it is to be.
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    /// Its numbers.
    pub major: i64,
    /// See [`Self::major`].
    pub minor: i64,
    /// Its permissions and owners.
    pub mode: u32,
    /// See [`Self::mode`].
    pub uid: u32,
    /// See [`Self::mode`].
    pub gid: u32,
}

/// What there is besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The container's id.
    pub id: String,
    /// Its cgroup, complete.
    pub cgroup: String,
    /// A folder that has a place for each hierarchy of version 1, and the container's folders in them, each after the
    /// place where it sees them; none where another program mounts them.
    pub cgroups: (PathBuf, Vec<(String, PathBuf)>),
    /// Where its root file system is mounted.
    pub rootfs: PathBuf,
    /// The folder with the pod's pinned namespaces and generated files.
    pub pod: PathBuf,
    /// `/proc/<pid>/ns/pid` of the namespace to join, when it is neither new nor the machine's.
    pub pid_namespace: Option<PathBuf>,
    /// The image's `/etc/passwd` and `/etc/group`, as far as they exist.
    pub passwd: String,
    /// See [`Self::passwd`].
    pub group: String,
    /// The seccomp profile that `Localhost` names, as it was read.
    pub seccomp_file: Option<String>,
    /// What `mount --bind` would follow: host devices that the configuration names.
    pub devices: Vec<(Device, String)>,
    /// What its CDI devices bring, their nodes apart.
    pub edits: Vec<cdi::Edits>,
    /// An empty folder, and those that it hides.
    pub hidden: (PathBuf, Vec<String>),
    /// The launcher, where it starts the container by itself.
    pub launcher: Option<PathBuf>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The OCI specification.
    pub spec: Value,
    /// Who the process is.
    pub user: User,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// What its processes may use.
    pub devices: cgroup::Devices,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Decides.
pub fn plan(
    pod: &PodSandboxConfig,
    config: &ContainerConfig,
    image: &ImageConfig,
    machine: &Machine,
    around: &Surroundings,
) -> Result<Plan, PlanError> {
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.clone().unwrap_or_default();
    let user = user::resolve(&context, image.user.as_deref().unwrap_or(""), &around.passwd, &around.group)?;
    let resources = linux.resources.unwrap_or_default();

    let mut process = json!({
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": groups(&user, around)},
        "args": command(config, image)?,
        "env": environment(config, image, &user, pod, &around.edits),
        "cwd": working_dir(config, image),
        "capabilities": capabilities::plan(&context, machine.capabilities)?,
        "oomScoreAdj": resources.oom_score_adj.clamp(machine.lowest_oom_score.max(-1000), 1000),
    });
    if let Some(profile) = apparmor(&context, machine)? {
        insert(&mut process, "apparmorProfile", json!(profile));
    }
    // An explicit false is misread as a wish by libcontainer.
    if context.no_new_privs && !context.privileged {
        insert(&mut process, "noNewPrivileges", json!(true));
    }
    let masks = masks::plan(&context, around);
    let mut linux = json!({
        "namespaces": namespaces(pod, &context, machine, around),
        "cgroupsPath": around.cgroup,
        "resources": resources::plan(&resources, context.privileged, machine, &around.devices),
        "maskedPaths": masks.paths,
        "readonlyPaths": if context.privileged { Vec::new() } else { context.readonly_paths.clone() },
        "devices": resources::devices(context.privileged, machine, &around.devices),
        "rootfsPropagation": mounts::propagation(config),
    });
    if !context.privileged
        && let Some(profile) = seccomp::plan(&context, around.seccomp_file.as_deref())?
    {
        insert(&mut linux, "seccomp", profile);
    }
    let mut mounts = mounts::plan(pod, config, &context, machine, around)?;
    mounts.extend(cdi::mounts(&around.edits));
    mounts.extend(masks.mounts);
    let over = over::plan(&mut mounts, around);
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": around.rootfs, "readonly": context.readonly_rootfs},
        "mounts": mounts,
        "hooks": cdi::hooks(&around.edits, over),
        "annotations": annotations(pod, config, &around.id),
        "linux": linux,
    });
    let stop_signal = stop_signal(config, image);
    let devices = resources::rules(context.privileged, &around.devices);
    Ok(Plan { spec, user, stop_signal, devices })
}

/// The user's groups and those that its devices need.
fn groups(user: &User, around: &Surroundings) -> Vec<u32> {
    let mut groups = user.groups.clone();
    groups.extend(around.edits.iter().flat_map(|edits| &edits.additional_gids));
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The profile to confine by. Where the kernel has none of them, only who asks for one by name is refused: the
/// default is what everybody gets.
fn apparmor(context: &LinuxContainerSecurityContext, machine: &Machine) -> Result<Option<String>, PlanError> {
    let Some(profile) = &context.apparmor else { return Ok(None) };
    if profile.profile_type() != ProfileType::Localhost || context.privileged {
        return Ok(None);
    }
    let name = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
    if !machine.apparmor {
        return Err(PlanError::AppArmor(name.to_owned(), "this machine's kernel has no AppArmor"));
    }
    Ok(Some(name.to_owned()))
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

/// The CRI's `command` replaces the entrypoint and, with it, the image's arguments.
fn command(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let mut args: Vec<String> = config.command.clone();
    let mut tail = config.args.clone();
    if args.is_empty() {
        args = image.entrypoint.clone().unwrap_or_default();
        if tail.is_empty() {
            tail = image.cmd.clone().unwrap_or_default();
        }
    }
    args.append(&mut tail);
    if args.is_empty() {
        let image = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        return Err(PlanError::NoCommand(image));
    }
    Ok(args)
}

/// The image's variables, then the container's; the last of a name counts, at its first place.
fn environment(
    config: &ContainerConfig,
    image: &ImageConfig,
    user: &User,
    pod: &PodSandboxConfig,
    edits: &[cdi::Edits],
) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    if !pod.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", pod.hostname));
    }
    let given =
        config.envs.iter().map(|pair| format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value)));
    let devices = edits.iter().flat_map(|edits| edits.env.iter().cloned());
    for pair in image.env.iter().flatten().cloned().chain(given).chain(devices) {
        let name = pair.split('=').next().unwrap_or("").to_owned();
        match env.iter_mut().find(|have| have.split('=').next() == Some(name.as_str())) {
            Some(have) => *have = pair,
            None => env.push(pair),
        }
    }
    // The last, as runc has it: some who read what is printed believe it.
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    env
}

fn working_dir(config: &ContainerConfig, image: &ImageConfig) -> String {
    let wanted = [config.working_dir.as_str(), image.working_dir.as_deref().unwrap_or("")];
    wanted.into_iter().find(|dir| !dir.is_empty()).unwrap_or("/").to_owned()
}

/// Network, host name and IPC are the pod's, whatever the container says; its processes are its own matter.
fn namespaces(
    pod: &PodSandboxConfig,
    context: &LinuxContainerSecurityContext,
    machine: &Machine,
    around: &Surroundings,
) -> Vec<Value> {
    let options = context.namespace_options.clone().unwrap_or_default();
    let shared = sandbox_options(pod);
    let mut list = vec![json!({"type": "mount"})];
    let pinned = |kind: &str, name: &str| json!({"type": kind, "path": around.pod.join(name)});
    if users(&shared).is_some() {
        list.push(pinned("user", namespace::USER));
    }
    if shared.network() != NamespaceMode::Node {
        list.push(pinned("network", "net"));
        list.push(pinned("uts", "uts"));
    }
    if shared.ipc() != NamespaceMode::Node {
        list.push(pinned("ipc", "ipc"));
    }
    match (options.pid(), &around.pid_namespace) {
        (NamespaceMode::Node, _) => {}
        (_, Some(path)) => list.push(json!({"type": "pid", "path": path})),
        (_, None) => list.push(json!({"type": "pid"})),
    }
    if machine.unified_cgroups && !context.privileged {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

/// A pod's own namespaces.
pub fn sandbox_options(pod: &PodSandboxConfig) -> NamespaceOption {
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.and_then(|context| context.namespace_options.clone()).unwrap_or_default()
}

/// The users that a pod has for itself; `None` when it shares the machine's.
pub fn users(options: &NamespaceOption) -> Option<Users> {
    let asked = options.userns_options.as_ref().filter(|asked| asked.mode() == NamespaceMode::Pod)?;
    let ranges = |mappings: &[IdMapping]| {
        let range =
            |row: &IdMapping| Range { inside: row.container_id, outside: row.host_id, length: row.length };
        mappings.iter().map(range).collect()
    };
    Some(Users { uids: ranges(&asked.uids), gids: ranges(&asked.gids) })
}

/// The annotations that CRI tools know containerd by.
fn annotations(pod: &PodSandboxConfig, config: &ContainerConfig, id: &str) -> Value {
    let meta = pod.metadata.clone().unwrap_or_default();
    let name = config.metadata.as_ref().map(|meta| meta.name.clone()).unwrap_or_default();
    json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": name,
        "io.kubernetes.cri.container-id": id,
        "io.kubernetes.cri.sandbox-name": meta.name,
        "io.kubernetes.cri.sandbox-namespace": meta.namespace,
        "io.kubernetes.cri.sandbox-uid": meta.uid,
    })
}

fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> i32 {
    const SIGTERM: i32 = 15;
    match config.stop_signal() {
        Signal::RuntimeDefault => image.stop_signal.as_deref().and_then(signal_number).unwrap_or(SIGTERM),
        // The names are the protocol's own: SIGNAL_SIGTERM, SIGNAL_SIGRTMINPLUS3.
        signal => signal.as_str_name().strip_prefix("SIGNAL_").and_then(signal_number).unwrap_or(SIGTERM),
    }
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `SIGRTMINPLUS3`.
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: &[&str] = &[
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper).replace("PLUS", "+").replace("MINUS", "-");
    let name = match name.as_str() {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return Some(at as i32 + 1);
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    name.strip_prefix("RTMIN")
        .and_then(offset)
        .map(|n| 34 + n)
        .or_else(|| name.strip_prefix("RTMAX").and_then(offset).map(|n| 64 + n))
        .filter(|number| (34..=64).contains(number))
}

/// Where a pod's generated files are shown in its containers.
pub fn generated_files(pod: &Path) -> [(PathBuf, &'static str); 2] {
    [(pod.join("hostname"), "/etc/hostname"), (pod.join("resolv.conf"), "/etc/resolv.conf")]
}

#[cfg(test)]
mod tests {
    use cri::v1::{ImageSpec, KeyValue};

    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["default".into()]),
            env: Some(vec!["PATH=/image".into(), "A=image".into()]),
            working_dir: Some("/work".into()),
            stop_signal: Some("SIGQUIT".into()),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn the_command_follows_upstreams_table() {
        let with = |command: &[&str], args: &[&str]| ContainerConfig {
            command: command.iter().map(|s| s.to_string()).collect(),
            args: args.iter().map(|s| s.to_string()).collect(),
            ..ContainerConfig::default()
        };
        let table: [(&[&str], &[&str], &[&str]); 4] = [
            (&[], &[], &["/entry", "default"]),
            (&[], &["mine"], &["/entry", "mine"]),
            (&["run"], &[], &["run"]),
            (&["run"], &["mine"], &["run", "mine"]),
        ];
        for (cmd, args, expected) in table {
            assert_eq!(command(&with(cmd, args), &image()).unwrap(), expected);
        }
        let nothing = ContainerConfig {
            image: Some(ImageSpec { image: "x".into(), ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(command(&nothing, &ImageConfig::default()), Err(PlanError::NoCommand("x".into())));
    }

    #[test]
    fn later_variables_win_in_their_first_place() {
        let config = ContainerConfig {
            envs: vec![KeyValue { key: "A".into(), value: b"mine".to_vec() }],
            ..ContainerConfig::default()
        };
        let env = environment(
            &config,
            &image(),
            &User { home: "/root".into(), ..User::default() },
            &PodSandboxConfig::default(),
            &[],
        );
        assert_eq!(env, ["PATH=/image", "A=mine", "HOME=/root"]);
    }

    #[test]
    fn signals_by_any_name() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("9", 9),
            ("quit", 3),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAXMINUS1", 63),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        assert_eq!(signal_number("NOSUCH"), None);
        assert_eq!(stop_signal(&ContainerConfig::default(), &image()), 3);
        let asked = ContainerConfig { stop_signal: Signal::Sigusr1 as i32, ..ContainerConfig::default() };
        assert_eq!(stop_signal(&asked, &image()), 10);
    }

    #[test]
    fn a_profile_that_the_kernel_cannot_apply_is_refused() {
        let profile = |kind: ProfileType| LinuxContainerSecurityContext {
            apparmor: Some(cri::v1::SecurityProfile {
                profile_type: kind as i32,
                localhost_ref: "localhost/mine".into(),
            }),
            ..Default::default()
        };
        let (without, with) = (Machine::default(), Machine { apparmor: true, ..Machine::default() });
        let error = apparmor(&profile(ProfileType::Localhost), &without).unwrap_err().to_string();
        assert!(error.contains("\"mine\"") && error.contains("no AppArmor"), "{error}");
        assert_eq!(apparmor(&profile(ProfileType::Localhost), &with), Ok(Some("mine".into())));
        assert_eq!(apparmor(&profile(ProfileType::RuntimeDefault), &without), Ok(None));
    }

    #[test]
    fn a_container_without_wishes_is_confined() {
        let machine = Machine { capabilities: u64::MAX, ..Machine::default() };
        let around = Surroundings { id: "c1".into(), pod: "/run/pod".into(), ..Surroundings::default() };
        let spec =
            plan(&PodSandboxConfig::default(), &ContainerConfig::default(), &image(), &machine, &around)
                .unwrap()
                .spec;
        let kinds: Vec<_> = spec["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["mount", "network", "uts", "ipc", "pid"]);
        assert_eq!(spec["process"]["cwd"], "/work");
        assert!(spec["process"].get("noNewPrivileges").is_none());
        assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(spec["process"]["oomScoreAdj"], 0);
    }
}
