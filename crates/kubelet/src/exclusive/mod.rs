//! What a container has for itself: devices of plugins, processors, and memory of NUMA nodes. A pod is taken only if
//! all its containers get theirs, near to each other if that is wanted, and what they got is theirs until the pod is
//! over.
//!
//! Knows who is asked and in which order; what is asked for is known to [`crate::devices`], [`crate::cpus`] and
//! [`crate::memory`], what is near to what to [`crate::topology`]. `share` keeps everybody else off.
//!
//! Invariant: one pod at a time is served, so that two that compete for the last of something do not each get a part.

mod error;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::TaskGroup;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use kinds::gates::Gate;
use tokio::sync::Mutex;

use crate::Config;
use crate::configuration::Fields;
use crate::counts::{Meter, table};
use crate::cpus::Cpus;
use crate::devices::{AllocateError, Devices, Needs};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::node::allocatable;
use crate::plugins::{Handler, Handlers};
use crate::pods::admission::Refusal;
use crate::pods::spec::PodExt;
use crate::pods::{has_own_resources, is_fixed, qos};
use crate::topology::{self, Hint, Policy, merge};
use error::AdmitError;
pub use error::ExclusiveError;
pub use share::{Placement, run};

/// Nobody has a wish.
const ANYWHERE: Hint = Hint { affinity: None, preferred: false };

/// See the module.
pub struct Exclusive {
    /// Of plugins.
    pub devices: Arc<Devices>,
    /// Processors.
    pub cpus: Cpus,
    /// By NUMA node.
    pub memory: Memory,
    placing: topology::Settings,
    /// Whether pods that have resources as a whole take part (`PodLevelResourceManagers`).
    by_pod: bool,
    turn: Mutex<()>,
    shares: share::Shares,
    meter: Meter,
}

impl Exclusive {
    /// As it was when the last kubelet ended.
    ///
    /// # Errors
    /// [`ExclusiveError`], when the files that say so cannot be understood, or the settings do not fit the machine.
    pub fn load(
        config: &Config,
        machine: &Machine,
        meter: &Meter,
        tasks: &TaskGroup,
    ) -> Result<Self, ExclusiveError> {
        let fields = &config.configuration.fields;
        let plain = fields.cpu_manager_policy == "none"
            && fields.memory_manager_policy == "None"
            && fields.topology_manager_policy == "none";
        // Who gives nothing away does not care what the machine is made of.
        let parts = match plain {
            true => topology::Machine::default(),
            false => topology::Machine::read(Path::new("/sys/devices/system"), machine.memory)?,
        };
        let capacity = allocatable::capacity(machine, config.max_pods, 0);
        let reserved = allocatable::reserved(&capacity, fields, &config.eviction);
        let reserved = reserved.map_err(ExclusiveError::Placing)?;
        let root = &config.root_dir;
        std::fs::create_dir_all(root)
            .map_err(|source| ExclusiveError::Folder { path: root.clone(), source })?;
        let devices = Devices::load(root, meter.clone(), tasks)?;
        Self::of(root, fields, &parts, &reserved, devices)
    }

    /// Of a machine that is made of these parts.
    fn of(
        root: &Path,
        fields: &Fields,
        parts: &topology::Machine,
        reserved: &allocatable::Amounts,
        devices: Arc<Devices>,
    ) -> Result<Self, ExclusiveError> {
        let placing = topology::Settings::new(fields, parts).map_err(ExclusiveError::Placing)?;
        let cpu = reserved.get("cpu").copied().unwrap_or(0);
        Ok(Self {
            meter: devices.meter.clone(),
            devices,
            cpus: Cpus::load(root, fields, parts, cpu, placing.policy)?,
            memory: Memory::load(root, fields, parts, reserved)?,
            placing,
            by_pod: fields.gates.has(Gate::PodLevelResourceManagers),
            turn: Mutex::default(),
            shares: share::Shares::default(),
        })
    }

    /// Gives a new pod's containers what they ask for, or nothing at all.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let begun = self.meter.clock.monotonic();
        let given = self.admit_one(pod).await;
        self.meter.counts.count(&table::PLACEMENTS, &[]);
        let took = self.meter.clock.monotonic().saturating_sub(begun);
        self.meter.counts.observe(&table::PLACEMENT, &[], took.as_secs_f64() * 1000.0);
        given
    }

    async fn admit_one(&self, pod: &Pod) -> Result<(), Refusal> {
        if !self.devices.concerns(pod) && !self.cpus.concerns(pod) && !self.memory.concerns(pod) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let given = self.give(pod).await;
        self.shares.change();
        given.map_err(|error| {
            self.release(pod.uid());
            error.refusal()
        })
    }

    /// Gives a pod that a kubelet took before what is not known of it any more. It runs, whatever comes of it.
    pub async fn admit_again(&self, pod: &Pod) {
        if !self.cpus.concerns(pod) && !self.memory.concerns(pod) {
            return;
        }
        let _turn = self.turn.lock().await;
        if self.is_whole(pod) {
            if let Err(error) = self.place_whole(pod, ANYWHERE) {
                tracing::warn!(pod = %pod.described(), %error, "a pod that runs has nothing for itself");
            }
            return self.shares.change();
        }
        for container in pod.init_containers().iter().chain(pod.containers()) {
            if let Err(error) = self.place(pod, container, ANYWHERE) {
                tracing::warn!(pod = %pod.described(), container = container.name, %error, "a container that runs has nothing for itself");
            }
        }
        self.shares.change();
    }

    async fn give(&self, pod: &Pod) -> Result<(), AdmitError> {
        let placing = &self.placing;
        let is_whole = self.is_whole(pod);
        let of_pod = match placing.policy != Policy::None && placing.whole_pods {
            true => Some(self.best(
                "pod",
                pod,
                &[
                    self.devices.pod_hints(pod, &placing.numa.nodes),
                    self.cpus.pod_hints(pod),
                    self.memory.pod_hints(pod),
                ],
            )?),
            false => None,
        };
        if let Some(place) = of_pod.filter(|_| is_whole) {
            self.place_whole(pod, place)?;
        }
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let place = match (placing.policy, of_pod) {
                (Policy::None, _) => ANYWHERE,
                (_, Some(place)) => place,
                (_, None) => self.best(
                    "container",
                    pod,
                    &[
                        self.devices.hints(pod, container, &placing.numa.nodes),
                        self.cpus.hints(pod, container),
                        self.memory.hints(pod, container),
                    ],
                )?,
            };
            self.devices.allocate(pod, container, place.affinity).await?;
            if !is_whole {
                self.place(pod, container, place)?;
            }
        }
        Ok(())
    }

    /// Whether a pod gets processors and memory once, and its containers theirs of these.
    fn is_whole(&self, pod: &Pod) -> bool {
        let placing = &self.placing;
        self.by_pod && has_own_resources(pod) && placing.policy != Policy::None && placing.whole_pods
    }

    fn best(&self, scope: &str, pod: &Pod, providers: &[topology::Hints]) -> Result<Hint, AdmitError> {
        let (place, fits) = merge(self.placing.policy, &self.placing.numa, providers);
        // Only this policy promises that all is on one node.
        if self.placing.policy == Policy::SingleNumaNode {
            let row = if fits { &table::ALIGNED } else { &table::ALIGNED_ERRORS };
            self.meter.counts.count(row, &["numa_node", scope]);
        }
        if !fits {
            self.meter.counts.count(&table::PLACEMENT_ERRORS, &[]);
            let by_pod = self.placing.whole_pods;
            return Err(match self.by_pod && has_own_resources(pod) {
                true => AdmitError::WholeTopology { by_pod },
                false => AdmitError::Topology,
            });
        }
        Ok(place)
    }

    fn place(&self, pod: &Pod, container: &Container, place: Hint) -> Result<(), AdmitError> {
        let cpus = self.cpus.allocate(pod, container, place.affinity);
        self.note(&cpus, (&table::CPU_PINNING, &table::CPU_PINNING_ERRORS));
        for boundary in self.cpus.boundaries() {
            let row = match &cpus {
                Ok(true) => &table::ALIGNED,
                Ok(false) => continue,
                Err(_) => &table::ALIGNED_ERRORS,
            };
            self.meter.counts.count(row, &[boundary, "container"]);
        }
        self.count("cpu", "node", &cpus);
        cpus?;
        let memory = self.memory.allocate(pod, container, place);
        self.note(&memory, (&table::MEMORY_PINNING, &table::MEMORY_PINNING_ERRORS));
        self.count("memory", "node", &memory);
        memory?;
        Ok(())
    }

    fn place_whole(&self, pod: &Pod, place: Hint) -> Result<(), AdmitError> {
        let cpus = self.cpus.allocate_whole(pod, place.affinity);
        self.note(&cpus, (&table::CPU_PINNING, &table::CPU_PINNING_ERRORS));
        self.count("cpu", "pod", &cpus);
        let cpus = cpus?;
        let memory = self.memory.allocate_whole(pod, place);
        self.note(&memory, (&table::MEMORY_PINNING, &table::MEMORY_PINNING_ERRORS));
        self.count("memory", "pod", &memory);
        let memory = memory?;
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let own = if is_fixed(container) { "pod_exclusive" } else { "pod_shared" };
            let of_cpus = if self.cpus.has_own(pod, container) { "pod_exclusive" } else { "pod_shared" };
            for (kind, given, how) in [("cpu", cpus, of_cpus), ("memory", memory, own)] {
                if given {
                    self.meter.counts.count(&table::ASSIGNMENTS, &[how, kind]);
                }
            }
        }
        Ok(())
    }

    /// Counts what was given, and of what: of the node's, or of a pod's.
    fn count<E>(&self, kind: &str, source: &str, given: &Result<bool, E>) {
        if !self.by_pod {
            return;
        }
        match given {
            Ok(true) => {
                self.meter.counts.count(&table::ALLOCATIONS, &[kind, source]);
                if source == "node" {
                    self.meter.counts.count(&table::ASSIGNMENTS, &["node_exclusive", kind]);
                }
            }
            Ok(false) => {}
            Err(_) => self.meter.counts.count(&table::ALLOCATION_ERRORS, &[kind, source]),
        }
    }

    /// Counts whether a container that was to have something for itself got it.
    fn note<E>(&self, given: &Result<bool, E>, (asked, failed): (&table::Row, &table::Row)) {
        if !matches!(given, Ok(false)) {
            self.meter.counts.count(asked, &[]);
        }
        if given.is_err() {
            self.meter.counts.count(failed, &[]);
        }
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
        self.memory.release(uid);
        if self.cpus.release(uid) {
            self.shares.change();
        }
    }

    /// What pods have that are not there any more can be given to others.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.devices.retain(&is_known);
        self.memory.retain(&is_known);
        if self.cpus.retain(&is_known) {
            self.shares.change();
        }
    }

    /// Why a pod cannot be given other resources while it runs, as metrics and as messages say it; `changes` says
    /// whether one is to change.
    pub fn fixed(&self, pod: &Pod, changes: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
        match qos(pod) == "Guaranteed" {
            true if self.cpus.is_static() && changes("cpu") => Some((
                "guaranteed_pod_cpu_manager_static_policy",
                "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"",
            )),
            true if self.memory.is_static() && changes("memory") => Some((
                "guaranteed_pod_memory_manager_static_policy",
                "Resize is infeasible for Guaranteed Pods alongside Memory Manager policy \"Static\"",
            )),
            _ => None,
        }
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
