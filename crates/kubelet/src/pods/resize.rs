//! Other resources for a pod that runs (KEP-1287). Pure.
//!
//! What is *wanted* stands in the specification, what the node has *allocated* to the pod is what it runs by, and
//! *actuated* is what its containers were really given. After a restart of the kubelet the last two are read from
//! the status that the API server has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::resources;
use super::spec::PodExt;
use crate::cgroups::Limits;
use crate::volumes::empty;

/// The resources of a pod and of its containers, by name, and the sizes of its volumes in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allocation {
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, Option<ResourceRequirements>>,
    volumes: BTreeMap<String, Quantity>,
}

/// A change that was allocated and is not complete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Of the pod, when it was allocated.
    pub generation: Option<i64>,
    /// Why it does not get on.
    pub error: Option<String>,
}

/// What a worker remembers of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resize {
    pub allocated: Option<Allocation>,
    /// Why what is wanted is not allocated: `Deferred` or `Infeasible`, and a message.
    pub pending: Option<(&'static str, String)>,
    /// Since when it is deferred, by the monotonic clock.
    pub deferred: Option<Duration>,
    pub in_progress: Option<Progress>,
    /// By container id, the pod's limits included.
    pub actuated: BTreeMap<String, ResourceRequirements>,
    /// What the pod's cgroup was given; unknown before there is one.
    pub group: Option<Limits>,
    /// How large volumes in memory are that may get another size, in bytes, by name.
    pub volumes: BTreeMap<String, u64>,
}

impl Allocation {
    /// What the specification says.
    pub fn wanted(pod: &Pod) -> Self {
        let all = pod.init_containers().iter().chain(pod.containers());
        let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default().iter();
        Self {
            pod: pod.spec().and_then(|spec| spec.resources.clone()),
            containers: all.map(|c| (c.name.clone(), c.resources.clone())).collect(),
            volumes: volumes.filter_map(|v| Some((v.name.clone(), empty::limit(v)?.clone()))).collect(),
        }
    }

    /// What the node had given to the pod before this kubelet knew it; what it wants, where nothing is recorded. Volumes
    /// in memory are as large as they are `mounted`.
    pub fn recorded(pod: &Pod, mounted: &BTreeMap<String, u64>) -> Self {
        let mut recorded = Self::wanted(pod);
        let status = pod.status.as_ref();
        let lists = status.into_iter().flat_map(|s| [&s.init_container_statuses, &s.container_statuses]);
        for known in lists.flatten().flatten() {
            let (Some(requests), Some(Some(now))) =
                (&known.allocated_resources, recorded.containers.get_mut(&known.name))
            else {
                continue;
            };
            now.requests = Some(requests.clone());
            if let Some(actual) = known.resources.as_ref().filter(|_| is_running(known)) {
                now.limits = actual.limits.clone();
            }
        }
        if !mounted.is_empty() {
            let sizes = empty::sizes(&recorded.apply(pod));
            for (name, has) in mounted.iter().filter(|(name, has)| sizes.get(*name) != Some(has)) {
                recorded.volumes.insert(name.clone(), Quantity(has.to_string()));
            }
        }
        recorded
    }

    /// What each container of both had, and has.
    pub fn pairs<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a ResourceRequirements>, Option<&'a ResourceRequirements>)> {
        let both = self.containers.iter().filter_map(|(name, had)| Some((had, other.containers.get(name)?)));
        both.map(|(had, has)| (had.as_ref(), has.as_ref()))
    }

    /// Whether a container is to have another amount of a resource.
    pub fn differs(&self, pod: &Pod, resource: &str) -> bool {
        pod.init_containers().iter().chain(pod.containers()).any(|container| {
            let has = self.containers.get(&container.name).and_then(Option::as_ref);
            resources::request(container.resources.as_ref(), resource) != resources::request(has, resource)
        })
    }

    /// The pod as it runs here.
    pub fn apply<'p>(&self, pod: &'p Pod) -> Cow<'p, Pod> {
        if *self == Self::wanted(pod) {
            return Cow::Borrowed(pod);
        }
        let mut pod = pod.clone();
        if let Some(spec) = pod.spec.as_mut() {
            spec.resources = self.pod.clone();
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(resources) = self.containers.get(&container.name) {
                    container.resources = resources.clone();
                }
            }
            for volume in spec.volumes.iter_mut().flatten() {
                if let (Some(size), Some(empty)) = (self.volumes.get(&volume.name), &mut volume.empty_dir) {
                    empty.size_limit = Some(size.clone());
                }
            }
        }
        Cow::Owned(pod)
    }
}

/// What a running container has, as its status says; as its specification does, if that says nothing.
pub fn reported(pod: &Pod, name: &str, id: &str) -> ResourceRequirements {
    let status = pod.status.as_ref();
    let mut lists = status.into_iter().flat_map(|s| [&s.init_container_statuses, &s.container_statuses]);
    let of_this = |known: &&ContainerStatus| {
        known.name == name && known.container_id.as_deref().is_some_and(|known| known.ends_with(id))
    };
    let known = lists.find_map(|list| list.iter().flatten().find(of_this));
    let specified = || pod.container(name).and_then(|container| container.resources.clone());
    let own = known.and_then(|known| known.resources.clone()).or_else(specified);
    resources::given(reported_of_pod(pod).as_ref(), own.as_ref())
}

/// What a pod as a whole has, as its status says while it runs; as its specification does otherwise.
pub fn reported_of_pod(pod: &Pod) -> Option<ResourceRequirements> {
    let specified = resources::of_pod(pod)?;
    let told = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running"));
    Some(told.and_then(|status| status.resources.as_ref()).unwrap_or(specified).clone())
}

/// What the cgroup of a pod has that runs already, as the pod's status says.
pub fn reported_group(pod: &Pod) -> Limits {
    let mut known = pod.clone();
    if let Some(spec) = known.spec.as_mut() {
        spec.resources = reported_of_pod(pod);
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let status = pod.status.as_ref();
            let mut lists =
                status.into_iter().flat_map(|s| [&s.init_container_statuses, &s.container_statuses]);
            let of_this = |known: &&ContainerStatus| known.name == container.name && is_running(known);
            let told = lists.find_map(|list| list.iter().flatten().find(of_this)?.resources.clone());
            if let Some(told) = told {
                container.resources = Some(told);
            }
        }
    }
    resources::pod_limits(&known)
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// Whether a running container has to be given other resources, and whether that needs a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    InPlace,
    Restart,
}

/// Compares what a container has with what is allocated to it.
pub fn change(
    policies: Option<&Vec<k8s_openapi::api::core::v1::ContainerResizePolicy>>,
    has: &ResourceRequirements,
    wants: &ResourceRequirements,
) -> Change {
    let mut change = Change::None;
    for name in ["cpu", "memory"] {
        let same = resources::limit(Some(has), name) == resources::limit(Some(wants), name)
            && resources::request(Some(has), name) == resources::request(Some(wants), name);
        if same {
            continue;
        }
        let restart = policies
            .into_iter()
            .flatten()
            .any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer");
        if restart {
            return Change::Restart;
        }
        change = Change::InPlace;
    }
    change
}

/// The words of an event: what is wanted, by container.
pub fn summary(pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let list = |of: &[k8s_openapi::api::core::v1::Container]| -> Vec<serde_json::Value> {
        of.iter().map(|c| serde_json::json!({"name": c.name, "resources": c.resources})).collect()
    };
    let mut containers = serde_json::Map::new();
    if !pod.init_containers().is_empty() {
        containers.insert("initContainers".into(), list(pod.init_containers()).into());
    }
    containers.insert("containers".into(), list(pod.containers()).into());
    containers.insert("generation".into(), generation.into());
    if !error.is_empty() {
        containers.insert("error".into(), error.into());
    }
    serde_json::Value::Object(containers).to_string()
}
