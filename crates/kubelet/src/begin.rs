//! What a kubelet has before it begins: its turns at pulling, its plugins, its share of the machine, its runtime.

use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use tokio::sync::Semaphore;

use crate::configuration::Verify;
use crate::counts::Counts;
use crate::machine::Machine;
use crate::pods::Pods;
use crate::runtime::Runtime;
use crate::{Config, Configuration, KubeletError, Shared, claims, devices, node, plugins};

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

/// The runtime may start after the kubelet: it is waited for, but a wrong endpoint is an error at once.
pub async fn connect(
    config: &Config,
    counts: &Arc<Counts>,
    tasks: &TaskGroup,
) -> Result<Runtime, KubeletError> {
    let images = &config.configuration.fields.image_service_endpoint;
    let images = Some(images.as_str()).filter(|endpoint| !endpoint.is_empty());
    loop {
        match Runtime::connect(&config.cri_endpoint, images, counts, &config.clock).await {
            Ok(runtime) => return Ok(runtime),
            Err(error @ cri::ConnectError::NotUnix(_)) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "the container runtime does not answer yet");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    () = tasks.shutdown().wait() => return Err(error.into()),
                }
            }
        }
    }
}
