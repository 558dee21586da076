//! What the runtime is told of a pod's sandbox and its containers. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::dns;
use super::env::expand;
use super::means::Means;
use super::observed::{
    CONTAINER_NAME, GRACE, HASH, MESSAGE_PATH, MESSAGE_POLICY, POD_NAME, POD_NAMESPACE, POD_UID,
    RESTART_COUNT,
};
use super::resources;
use super::spec::{PodExt, hash};
use crate::exclusive::Placement;

/// What of the node matters.
pub struct NodeConfig<'a> {
    pub cluster_dns: &'a [IpAddr],
    pub cluster_domain: &'a str,
    /// The text of the node's own `/etc/resolv.conf`; `None` where pods are to have none of it.
    pub resolv_conf: Option<&'a str>,
    /// The node's addresses.
    pub ips: Vec<String>,
    /// Where the pod's cgroup is.
    pub cgroup_parent: String,
    /// The kernel's settings that the pod has for itself.
    pub sysctls: HashMap<String, String>,
    pub log_directory: String,
}

/// What a container is not allowed to be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    UnknownUser { user: String, pod: String, container: String },
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    [(POD_NAME, pod.name()), (POD_NAMESPACE, pod.namespace()), (POD_UID, pod.uid())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The host name inside the pod.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec();
    let given = spec.and_then(|spec| spec.hostname_override.as_ref().or(spec.hostname.as_ref()));
    let name = given.map_or_else(|| pod.name(), String::as_str);
    let short = name.get(..name.len().min(63)).unwrap_or(name);
    short.trim_end_matches(['-', '.']).to_owned()
}

/// The domain of a pod that has a subdomain; whoever overrides the host name has none (KEP-4762).
pub fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec().filter(|spec| spec.hostname_override.is_none())?;
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()))
}

/// The host name that the kernel knows: with its domain, for a pod that wants it so (KEP-1797).
fn full_hostname(pod: &Pod, cluster_domain: &str) -> String {
    let wants = pod.spec().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    match domain(pod, cluster_domain).filter(|_| wants) {
        Some(domain) => format!("{}.{domain}", hostname(pod)),
        None => hostname(pod),
    }
}

/// A host name that the kernel cannot have: 64 bytes are the most.
pub fn overlong_hostname(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let name = full_hostname(pod, cluster_domain);
    let message = || {
        format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long (64 characters is the max, {} characters requested)",
            name.len()
        )
    };
    (name.len() > 64).then(message)
}

/// The sandbox.
pub fn sandbox(pod: &Pod, attempt: u32, node: &NodeConfig<'_>) -> wire::PodSandboxConfig {
    let labels = pod.metadata.labels.clone().unwrap_or_default().into_iter().chain(identity(pod)).collect();
    // In the machine's network it has the machine's name, which the runtime knows.
    let name = match pod.host_network() {
        true => String::new(),
        false => full_hostname(pod, node.cluster_domain),
    };
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname: name,
        log_directory: node.log_directory.clone(),
        dns_config: Some(dns::of_pod(pod, node)),
        port_mappings: ports(pod),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: node.cgroup_parent.clone(),
            security_context: Some(sandbox_security(pod)),
            sysctls: node.sysctls.clone(),
            overhead: None,
            resources: Some(resources::pod(pod)),
        }),
        windows: None,
    }
}

/// Where the sandbox's namespaces are chosen.
pub fn sandbox_namespaces(config: &mut wire::PodSandboxConfig) -> Option<&mut wire::NamespaceOption> {
    config.linux.as_mut()?.security_context.as_mut()?.namespace_options.as_mut()
}

fn ports(pod: &Pod) -> Vec<wire::PortMapping> {
    let sidecars = pod.init_containers().iter().filter(|container| super::spec::is_sidecar(container));
    let ports = sidecars.chain(pod.containers()).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.is_some_and(|port| port > 0) && !pod.host_network())
        .map(|port| wire::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => wire::Protocol::Udp as i32,
                Some("SCTP") => wire::Protocol::Sctp as i32,
                _ => wire::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn namespaces(pod: &Pod) -> wire::NamespaceOption {
    let spec = pod.spec();
    let flag =
        |of: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<bool>| spec.and_then(of).unwrap_or(false);
    let mode = |host: bool| if host { wire::NamespaceMode::Node } else { wire::NamespaceMode::Pod };
    let pid = match (flag(|s| s.host_pid), flag(|s| s.share_process_namespace)) {
        (true, _) => wire::NamespaceMode::Node,
        (_, true) => wire::NamespaceMode::Pod,
        _ => wire::NamespaceMode::Container,
    };
    wire::NamespaceOption {
        network: mode(flag(|s| s.host_network)) as i32,
        pid: pid as i32,
        ipc: mode(flag(|s| s.host_ipc)) as i32,
        target_id: String::new(),
        userns_options: None,
    }
}

fn container_namespaces(pod: &Pod, target: &str) -> wire::NamespaceOption {
    let mut options = namespaces(pod);
    if !target.is_empty() && options.pid == wire::NamespaceMode::Container as i32 {
        options.pid = wire::NamespaceMode::Target as i32;
        options.target_id = target.to_owned();
    }
    options
}

fn seccomp(profile: Option<&SeccompProfile>) -> wire::SecurityProfile {
    use wire::security_profile::ProfileType;
    let kind = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => ProfileType::RuntimeDefault,
        Some("Localhost") => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    let localhost_ref = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
    wire::SecurityProfile { profile_type: kind as i32, localhost_ref }
}

fn int(value: Option<i64>) -> Option<wire::Int64Value> {
    value.map(|value| wire::Int64Value { value })
}

/// The groups that containers get beside their own.
fn groups(pod: &Pod) -> Vec<i64> {
    let security = pod.security();
    let fs_group = security.and_then(|security| security.fs_group);
    let more =
        security.and_then(|security| security.supplemental_groups.as_ref()).into_iter().flatten().copied();
    fs_group.into_iter().chain(more).collect()
}

fn groups_policy(pod: &Pod) -> i32 {
    match pod.security().and_then(|security| security.supplemental_groups_policy.as_deref()) {
        Some("Strict") => wire::SupplementalGroupsPolicy::Strict as i32,
        _ => wire::SupplementalGroupsPolicy::Merge as i32,
    }
}

fn sandbox_security(pod: &Pod) -> wire::LinuxSandboxSecurityContext {
    let security = pod.security();
    let all = pod.init_containers().iter().chain(pod.containers());
    let mut contexts = all.filter_map(|container| container.security_context.as_ref());
    wire::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: int(security.and_then(|security| security.run_as_user)),
        run_as_group: int(security.and_then(|s| s.run_as_user.and(s.run_as_group))),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged: contexts.any(|context| context.privileged == Some(true)),
        seccomp: Some(seccomp(security.and_then(|security| security.seccomp_profile.as_ref()))),
        ..Default::default()
    }
}

/// What was found out before a container is made.
pub struct Prepared {
    pub env: Vec<(String, String)>,
    pub mounts: Vec<wire::Mount>,
    pub devices: Vec<wire::Device>,
    /// The image's reference.
    pub image_ref: String,
    /// The image's user: a number, or a name.
    pub image_user: (Option<i64>, String),
    pub restarts: u32,
    /// The id of the container whose processes an ephemeral one sees; empty for its own.
    pub target: String,
    /// The users that the pod has for itself.
    pub users: Option<wire::UserNamespace>,
    /// What the node makes of its resources.
    pub means: Means,
    /// What its devices ask to be said to the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Names of CDI devices.
    pub cdi: Vec<String>,
    /// Where it runs.
    pub placement: Placement,
}

/// A container.
pub fn container(
    pod: &Pod,
    spec: &Container,
    prepared: Prepared,
) -> Result<wire::ContainerConfig, ConfigError> {
    let mut security = container_security(pod, spec, &prepared)?;
    if let Some(options) = security.namespace_options.as_mut() {
        options.userns_options.clone_from(&prepared.users);
    }
    let lookup =
        |name: &str| prepared.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let words = |list: &Option<Vec<String>>| list.iter().flatten().map(|word| expand(word, lookup)).collect();
    let image = spec.image.clone().unwrap_or_default();
    let annotations: BTreeMap<&str, String> = BTreeMap::from([
        (HASH, hash(spec)),
        (RESTART_COUNT, prepared.restarts.to_string()),
        (MESSAGE_PATH, message_path(spec).to_owned()),
        (MESSAGE_POLICY, spec.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned())),
        (GRACE, pod.grace().to_string()),
    ]);
    Ok(wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: spec.name.clone(), attempt: prepared.restarts }),
        image: Some(wire::ImageSpec {
            image: prepared.image_ref.clone(),
            user_specified_image: image,
            ..Default::default()
        }),
        command: words(&spec.command),
        args: words(&spec.args),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        envs: prepared
            .env
            .iter()
            .map(|(key, value)| wire::KeyValue { key: key.clone(), value: value.clone().into() })
            .collect(),
        mounts: prepared.mounts.into_iter().map(|mount| mapped(mount, prepared.users.as_ref())).collect(),
        devices: prepared.devices,
        labels: identity(pod).into_iter().chain([(CONTAINER_NAME.to_owned(), spec.name.clone())]).collect(),
        annotations: prepared
            .annotations
            .into_iter()
            .chain(annotations.into_iter().map(|(key, value)| (key.to_owned(), value)))
            .collect(),
        cdi_devices: prepared.cdi.into_iter().map(|name| wire::CdiDevice { name }).collect(),
        log_path: format!("{}/{}.log", spec.name, prepared.restarts),
        stdin: spec.stdin.unwrap_or(false),
        stdin_once: spec.stdin_once.unwrap_or(false),
        tty: spec.tty.unwrap_or(false),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(prepared.placement.apply(prepared.means.container(pod, spec))),
            security_context: Some(security),
        }),
        stop_signal: stop_signal(spec),
        ..Default::default()
    })
}

/// The users that a container's pod has for itself.
pub fn users(container: &wire::ContainerConfig) -> Option<wire::UserNamespace> {
    let security = container.linux.as_ref()?.security_context.as_ref()?;
    security.namespace_options.as_ref()?.userns_options.clone()
}

/// A mount whose files belong to the pod's own users.
fn mapped(mount: wire::Mount, users: Option<&wire::UserNamespace>) -> wire::Mount {
    match users {
        Some(users) if mount.image.is_none() => {
            wire::Mount { uid_mappings: users.uids.clone(), gid_mappings: users.gids.clone(), ..mount }
        }
        _ => mount,
    }
}

/// Where a container leaves its last words.
pub fn message_path(spec: &Container) -> &str {
    spec.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log")
}

/// The signal that a container asks to be stopped by; 0 leaves it to the runtime.
pub fn stop_signal(spec: &Container) -> i32 {
    let name = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    // The protocol has no signs in its names: SIGNAL_SIGRTMINPLUS3.
    let named = |name: &str| format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS"));
    name.and_then(|name| wire::Signal::from_str_name(&named(name))).map_or(0, |signal| signal as i32)
}

fn container_security(
    pod: &Pod,
    spec: &Container,
    prepared: &Prepared,
) -> Result<wire::LinuxContainerSecurityContext, ConfigError> {
    let (own, of_pod) = (spec.security_context.as_ref(), pod.security());
    let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|pod| pod.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or(of_pod.and_then(|pod| pod.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or(of_pod.and_then(|pod| pod.run_as_non_root));
    if non_root == Some(true) {
        check_user(pod, spec, user, &prepared.image_user)?;
    }
    let (number, name) = &prepared.image_user;
    let privileged = own.and_then(|own| own.privileged).unwrap_or(false);
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let profile = own
        .and_then(|own| own.seccomp_profile.as_ref())
        .or(of_pod.and_then(|pod| pod.seccomp_profile.as_ref()));
    let usual = prepared.means.seccomp();
    let profile = profile.or(usual.as_ref());
    let unmasked = privileged || own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| {
        if unmasked { Vec::new() } else { list.iter().map(|&path| path.to_owned()).collect() }
    };
    let uid = user.or(*number);
    Ok(wire::LinuxContainerSecurityContext {
        capabilities: capabilities.map(|capabilities| wire::Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(container_namespaces(pod, &prepared.target)),
        run_as_user: int(uid),
        run_as_group: int(group),
        run_as_username: if uid.is_none() { name.clone() } else { String::new() },
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem).unwrap_or(false),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(if privileged { seccomp(None) } else { seccomp(profile) }),
        ..Default::default()
    })
}

/// What containers do not see of the kernel; upstream's lists.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn check_user(
    pod: &Pod,
    spec: &Container,
    user: Option<i64>,
    image_user: &(Option<i64>, String),
) -> Result<(), ConfigError> {
    let (pod, container) = (pod.described(), spec.name.clone());
    match (user, image_user) {
        (Some(0), _) => Err(ConfigError::RunsAsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, (Some(0), _)) => Err(ConfigError::ImageRunsAsRoot { pod, container }),
        (None, (Some(_), _)) => Ok(()),
        (None, (None, name)) if name.is_empty() => Err(ConfigError::ImageRunsAsRoot { pod, container }),
        (None, (None, name)) => Err(ConfigError::UnknownUser { user: name.clone(), pod, container }),
    }
}

/// The content of `/etc/hosts`.
pub fn hosts(pod: &Pod, ips: &[String], cluster_domain: &str, of_node: Option<&str>) -> String {
    let mut text = match of_node {
        Some(node) => format!("# Kubernetes-managed hosts file (host network).\n{node}"),
        None => "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned(),
    };
    if of_node.is_none() {
        let name = hostname(pod);
        for ip in ips {
            match domain(pod, cluster_domain) {
                Some(domain) => text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases = pod.spec().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    text
}
