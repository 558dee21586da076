//! What a kubelet has before it begins: a kernel that fits its configuration, its turns at pulling and at telling, its
//! plugins, its share of the machine, its runtime.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use client::rate::Rate;
use cri::v1::CgroupDriver;
use tokio::sync::Semaphore;

use crate::cgroups::{Cgroups, Units};
use crate::configuration::{Fields, Verify};
use crate::counts::Counts;
use crate::machine::Machine;
use crate::node::kernel;
use crate::pods::admission::sysctls::Sysctls;
use crate::pods::{Pods, means, userns};
use crate::runtime::{Runtime, RuntimeError};
use crate::{Config, Configuration, KubeletError, Shared, claims, devices, node, plugins};

/// What `eventRecordQPS` and `eventBurst` come to in a client of upstream's where they are 0.
const LEAST_EVENTS: (i32, u32) = (5, 10);

/// How many events are written.
pub fn event_rate(fields: &Fields) -> Rate {
    let per_second = if fields.event_record_qps == 0 { LEAST_EVENTS.0 } else { fields.event_record_qps };
    let burst = u32::try_from(fields.event_burst).ok().filter(|burst| *burst > 0);
    Rate::new(f64::from(per_second), burst.unwrap_or(LEAST_EVENTS.1))
}

/// `protectKernelDefaults`: the kernel's settings are wanted as they are to be, or made so.
pub fn prepare_kernel(config: &Config) -> Result<(), KubeletError> {
    let root = Path::new(kernel::ROOT);
    if config.configuration.fields.protect_kernel_defaults {
        return kernel::check(root).map_err(KubeletError::Kernel);
    }
    if config.owns_machine {
        kernel::set(root);
    }
    Ok(())
}

/// The machine's cgroups, if the configuration is for such. Version 1 is refused only by whoever says so in so many
/// words: here it is a version as good as the other. They are made by whom the runtime wants them from.
pub async fn cgroups(config: &Config, runtime: &Runtime) -> Result<Cgroups, KubeletError> {
    let configuration = &config.configuration;
    let fields = &configuration.fields;
    let found = Cgroups::detect(means::period(fields))
        .map_err(|source| KubeletError::Machine { path: "/proc/self/mountinfo", source })?;
    if let Some(why) = refused(configuration, found.version()) {
        return Err(KubeletError::Kernel(why.to_owned()));
    }
    if !by_systemd(runtime.cgroup_driver, &fields.cgroup_driver) {
        return Ok(found);
    }
    let units = Units::find(&config.shutdown.bus, found.version() == 2).await;
    Ok(found.by(units.map_err(|error| KubeletError::Systemd(error.to_string()))?))
}

/// Whether systemd makes cgroups: what the runtime says counts more than what is configured.
fn by_systemd(told: Option<CgroupDriver>, configured: &str) -> bool {
    let told = told.map(|driver| if driver == CgroupDriver::Systemd { "systemd" } else { "cgroupfs" });
    if let Some(told) = told.filter(|told| *told != configured) {
        tracing::info!(told, configured, "the container runtime says who makes cgroups");
    }
    told.unwrap_or(configured) == "systemd"
}

fn refused(configuration: &Configuration, version: u8) -> Option<&'static str> {
    let fields = &configuration.fields;
    if fields.system_cgroups == "/" {
        return Some("system container cannot be root (\"/\")");
    }
    if version != 1 {
        return None;
    }
    if configuration.named.contains("failCgroupV1") && fields.fail_cgroup_v1 {
        return Some("kubelet is configured to not run on a host using cgroup v1");
    }
    (fields.single_process_oom_kill == Some(false)).then_some(
        "invalid configuration: singleProcessOOMKill must not be explicitly set to false when using cgroup v1",
    )
}

/// How many users a pod has that has its own.
pub fn ids_per_pod(fields: &Fields) -> u32 {
    fields.user_namespaces.ids_per_pod.and_then(|ids| u32::try_from(ids).ok()).unwrap_or(userns::LENGTH)
}

/// `serializeImagePulls` and `maxParallelImagePulls`.
pub fn turns(configuration: &Configuration) -> Option<Semaphore> {
    let fields = &configuration.fields;
    let most = match fields.serialize_image_pulls {
        true => Some(1),
        false => fields.max_parallel_image_pulls.and_then(|most| usize::try_from(most).ok()),
    };
    most.map(Semaphore::new)
}

/// Which images that are there a pod has to show credentials for.
pub fn verify(configuration: &Configuration) -> Result<Verify, KubeletError> {
    let fields = &configuration.fields;
    let list = &fields.preloaded_images_verification_allowlist;
    Verify::new(&fields.image_pull_credentials_verification_policy, list).map_err(KubeletError::Verify)
}

/// Lets plugins register.
pub fn serve_plugins(shared: &Arc<Shared>) -> Result<(), KubeletError> {
    devices::serve(&shared.exclusive.devices)?;
    let mut handlers = shared.exclusive.handlers();
    handlers.insert("DRAPlugin", Arc::new(claims::Registered(shared.claims.clone())));
    let registry = shared.config.root_dir.join("plugins_registry");
    shared.tasks.spawn(plugins::follow(registry, handlers, shared.tasks.clone()));
    shared.tasks.spawn(claims::run(shared.claims.clone()));
    Ok(())
}

/// Lets the workers of pods look again when something that they have is different.
pub async fn tell_pods(shared: Arc<Shared>, pods: Pods) {
    loop {
        let uids = tokio::select! {
            uids = shared.exclusive.devices.concerned() => uids,
            uids = shared.claims.concerned() => uids,
        };
        uids.iter().for_each(|uid| pods.wake(uid));
    }
}

/// What pods may set of the kernel, and what is set for them.
pub fn sysctls(config: &Config, machine: &Machine) -> Result<Sysctls, KubeletError> {
    let fields = &config.configuration.fields;
    let sysctls =
        Sysctls::new(&machine.kernel_version, &fields.allowed_unsafe_sysctls, &fields.default_pod_sysctls);
    sysctls.map_err(KubeletError::Sysctls)
}

/// What pods can be given of the node.
pub fn given(machine: &Machine, config: &Config) -> Result<node::allocatable::Amounts, KubeletError> {
    let fields = &config.configuration.fields;
    let pods = node::allocatable::pods(machine, config.max_pods, fields.pods_per_core);
    let disk = nix::sys::statvfs::statvfs(&config.root_dir).map(|disk| disk.blocks() * disk.fragment_size());
    let mut capacity = node::allocatable::capacity(machine, pods, disk.unwrap_or(0));
    if disk.is_err() {
        // How large it is nobody knows: then it refuses nobody.
        capacity.remove("ephemeral-storage");
    }
    node::allocatable::allocatable(&capacity, fields, &config.eviction).map_err(KubeletError::Reserved)
}

/// How often a runtime is tried that does not answer yet, and how long it is waited for before that is told again.
const TRY: Duration = Duration::from_millis(20);
const TELL: Duration = Duration::from_secs(10);

/// The runtime may start after the kubelet: it is waited for, but a wrong endpoint is an error at once.
pub async fn connect(
    config: &Config,
    counts: &Arc<Counts>,
    tasks: &TaskGroup,
) -> Result<Runtime, KubeletError> {
    let images = &config.configuration.fields.image_service_endpoint;
    let images = Some(images.as_str()).filter(|endpoint| !endpoint.is_empty());
    let patience = (&config.clock, config.configuration.fields.runtime_request_timeout);
    let mut told = config.clock.monotonic();
    loop {
        match Runtime::connect(&config.cri_endpoint, images, counts, patience).await {
            Ok(runtime) => return Ok(runtime),
            Err(error @ RuntimeError::Connect(cri::ConnectError::NotUnix(_))) => return Err(error.into()),
            Err(error) => {
                let now = config.clock.monotonic();
                if now.saturating_sub(told) >= TELL {
                    told = now;
                    tracing::warn!(%error, "the container runtime is waited for");
                }
                tokio::select! {
                    () = tokio::time::sleep(TRY) => {}
                    () = tasks.shutdown().wait() => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::configuration::Source;

    #[test]
    fn some_machines_are_refused_by_whoever_says_so() {
        let refused = |text: &str, version| {
            let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
            let source = Source { path: PathBuf::from("/k"), text: format!("{head}{text}\n") };
            let configuration = Configuration::merge(&[source], serde_json::Map::new()).unwrap().0;
            refused(&configuration, version).is_some()
        };
        assert!(!refused("maxPods: 5", 1) && !refused("failCgroupV1: true", 2));
        assert!(refused("failCgroupV1: true", 1) && refused("singleProcessOOMKill: false", 1));
        assert!(!refused("failCgroupV1: false", 1) && !refused("singleProcessOOMKill: true", 1));
        assert!(
            refused("cgroupRoot: /\nsystemCgroups: /", 1) && refused("cgroupRoot: /\nsystemCgroups: /", 2)
        );
        assert!(!refused("cgroupRoot: /\nsystemCgroups: /rest", 1));
    }

    #[test]
    fn the_runtime_says_who_makes_cgroups() {
        let (systemd, ours) = (Some(CgroupDriver::Systemd), Some(CgroupDriver::Cgroupfs));
        assert!(by_systemd(systemd, "cgroupfs") && by_systemd(None, "systemd"));
        assert!(!by_systemd(ours, "systemd") && !by_systemd(None, "cgroupfs"));
    }

    #[test]
    fn events_have_the_rate_that_is_named() {
        let rate = |qps: i32, burst: i32| {
            let flags = [("eventRecordQPS", qps), ("eventBurst", burst)];
            let flags = flags.map(|(name, value)| (name.to_owned(), serde_json::json!(value)));
            let fields = Configuration::merge(&[], serde_json::Map::from_iter(flags)).unwrap().0.fields;
            let rate = event_rate(&fields);
            [(); 4].map(|()| rate.reserve(Duration::ZERO).as_millis())
        };
        assert_eq!(rate(2, 2), [0, 0, 500, 1000]);
        assert_eq!(rate(0, 1), [0, 200, 400, 600]);
    }
}
