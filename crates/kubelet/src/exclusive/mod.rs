//! What a container has for itself: devices of plugins. A pod is taken only if all its containers get theirs, and
//! what they got is theirs until the pod is over.
//!
//! Knows who is asked and in which order; what is asked for is known to [`crate::devices`].
//!
//! Invariant: one pod at a time is served, so that two that compete for the last of something do not each get a part.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::{SharedClock, TaskGroup};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use tokio::sync::Mutex;

use crate::checkpoint::CheckpointError;
use crate::devices::{AllocateError, Devices, Needs};
use crate::plugins::{Handler, Handlers};
use crate::pods::admission::Refusal;
use crate::pods::spec::PodExt;

/// See the module.
pub struct Exclusive {
    /// Of plugins.
    pub devices: Arc<Devices>,
    turn: Mutex<()>,
}

impl Exclusive {
    /// As it was when the last kubelet ended.
    ///
    /// # Errors
    /// [`CheckpointError`], when the files that say so cannot be understood.
    pub fn load(root: &Path, clock: SharedClock, tasks: &TaskGroup) -> Result<Self, CheckpointError> {
        Ok(Self { devices: Devices::load(root, clock, tasks)?, turn: Mutex::default() })
    }

    /// Gives a new pod's containers what they ask for, or nothing at all.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        if !self.devices.concerns(pod) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let given = self.give(pod).await;
        given.map_err(|error| {
            self.release(pod.uid());
            unexpected(&error)
        })
    }

    async fn give(&self, pod: &Pod) -> Result<(), AllocateError> {
        for container in pod.init_containers().iter().chain(pod.containers()) {
            self.devices.allocate(pod, container, None).await?;
        }
        Ok(())
    }

    /// What a container is started with.
    ///
    /// # Errors
    /// [`AllocateError`].
    pub async fn start(&self, pod: &Pod, container: &Container) -> Result<Needs, AllocateError> {
        if self.devices.lacks(pod, container) {
            let _turn = self.turn.lock().await;
            self.devices.allocate(pod, container, None).await?;
        }
        self.devices.pre_start(pod, container).await?;
        Ok(self.devices.needs(pod.uid(), &container.name))
    }

    /// A pod is over: what it had can be given to others.
    pub fn release(&self, uid: &str) {
        self.devices.release(uid);
    }

    /// What pods have that are not there any more can be given to others.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.devices.retain(is_known);
    }

    /// What a pod's status says of what its containers have.
    pub fn statuses(&self, pod: &Pod) -> BTreeMap<String, Vec<ResourceStatus>> {
        self.devices.health(pod)
    }

    /// Who takes which plugins.
    pub fn handlers(&self) -> Handlers {
        let devices: Arc<dyn Handler> = Arc::new(DevicePlugins(self.devices.clone()));
        BTreeMap::from([("DevicePlugin", devices)])
    }
}

/// As upstream says what it did not expect.
fn unexpected(error: &AllocateError) -> Refusal {
    Refusal {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Allocate failed due to {error}, which is unexpected"),
    }
}

/// Device plugins that register by a socket of their own.
struct DevicePlugins(Arc<Devices>);

#[tonic::async_trait]
impl Handler for DevicePlugins {
    fn validate(&self, name: &str, versions: &[String]) -> Result<(), String> {
        crate::devices::validate(name, versions).map_err(|error| error.to_string())
    }

    async fn register(&self, name: &str, endpoint: &Path, _: &[String]) -> Result<(), String> {
        self.0.connect(name, endpoint).await.map_err(|error| error.to_string())
    }

    fn deregister(&self, name: &str, _: &Path) {
        self.0.disconnect(name, None);
    }
}
