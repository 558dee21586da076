//! The status of one container. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ImageVolumeStatus, Pod, ResourceRequirements, VolumeMount, VolumeMountStatus,
    VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Maker;
use crate::pods::observed::{Instance, State};
use crate::pods::plan::is_started;
use crate::pods::spec::{PodExt, is_sidecar};

/// Why a container waits, and ended before, that begins anew because all do (KEP-5532).
pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";

/// Ends the statuses of a pod that is over: what nobody has seen end is lost, and what never was to begin still waits
/// (upstream's `TerminatePod`).
pub(super) fn lose(pod: &Pod, init: &mut [ContainerStatus], main: &mut [ContainerStatus]) {
    let waits = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        let ended = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
        state.is_none_or(|state| state.running.is_none() && state.terminated.is_none()) && !ended
    };
    let through = |(container, status): (&Container, &ContainerStatus)| {
        if is_sidecar(container) { !waits(status) } else { status.ready }
    };
    let initialized = pod.init_containers().iter().zip(&*init).next_back().is_none_or(through);
    if initialized || !main.iter().all(waits) {
        main.iter_mut().for_each(lost);
    }
    // Of the init containers, those up to the last that began; the first was to begin in any case.
    let begun = init.iter().rposition(|status| !waits(status)).unwrap_or(0);
    init.iter_mut().take(begun + 1).for_each(lost);
}

/// A container of a pod that is over and that nobody has seen end.
fn lost(status: &mut ContainerStatus) {
    let state = status.state.get_or_insert_default();
    if state.terminated.is_some() {
        return;
    }
    *state = ContainerState {
        terminated: Some(lost_state(
            "ContainerStatusUnknown",
            "The container could not be located when the pod was terminated",
        )),
        ..ContainerState::default()
    };
    status.ready = false;
    status.started = Some(false);
}

/// The end of a container that nobody has seen.
fn lost_state(reason: &str, message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..ContainerStateTerminated::default()
    }
}

/// Whether a container waits for nothing but its turn.
pub(super) fn is_being_made(reason: &str) -> bool {
    matches!(reason, "ContainerCreating" | "PodInitializing")
}

/// Whether a container was made and is about to run.
fn is_starting(instance: &Instance, waiting: Option<&ContainerStateWaiting>) -> bool {
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    instance.state == State::Created && reason.is_none_or(is_being_made)
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn waits(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_none_or(|state| state.running.is_none() && state.terminated.is_none())
}

/// How the container ended that was there before the one with this id.
fn ended_before(old: &ContainerStatus, id: &str) -> Option<ContainerStateTerminated> {
    let terminated = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let is_other = old.container_id.as_deref().is_some_and(|known| known != id);
    terminated(&old.state).filter(|_| is_other).or_else(|| terminated(&old.last_state))
}

fn time(nanoseconds: i64) -> Option<Time> {
    // The API has seconds.
    Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).ok().filter(|_| nanoseconds > 0).map(Time)
}

impl Maker<'_> {
    fn id(&self, instance: &Instance) -> String {
        format!("{}://{}", self.node.runtime_name, instance.id)
    }

    fn terminated(&self, instance: &Instance) -> ContainerStateTerminated {
        let fallback = if instance.exit_code == 0 { "Completed" } else { "Error" };
        let reason = if instance.reason.is_empty() { fallback } else { &instance.reason };
        ContainerStateTerminated {
            container_id: Some(self.id(instance)),
            exit_code: instance.exit_code,
            finished_at: time(instance.finished_at),
            message: Some(instance.message.clone()).filter(|message| !message.is_empty()),
            reason: Some(reason.to_owned()),
            signal: None,
            started_at: time(instance.started_at),
        }
    }

    pub(super) fn container(&self, container: &Container, init: bool) -> ContainerStatus {
        let old = self.before.and_then(|status| {
            let lists = [
                &status.init_container_statuses,
                &status.container_statuses,
                &status.ephemeral_container_statuses,
            ];
            lists.into_iter().flatten().flatten().find(|status| status.name == container.name)
        });
        let waiting = self.plan.waiting.get(&container.name).map(|waiting| ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: waiting.message.clone(),
        });
        let mut instances = self.view.observed.instances(&container.name);
        let status = match (instances.next(), instances.next()) {
            (Some(latest), Some(previous)) if is_starting(latest, waiting.as_ref()) => {
                // Until it runs, what was said of the one before it still holds.
                let id = self.id(previous);
                let said = old.filter(|old| old.container_id.as_ref() == Some(&id) && !runs(old)).cloned();
                let seen = || self.present(container, init, old, (previous, instances.next()), None);
                ContainerStatus { ready: false, ..said.unwrap_or_else(seen) }
            }
            (Some(latest), previous) => self.present(container, init, old, (latest, previous), waiting),
            (None, _) => self.absent(container, old),
        };
        let exclusive = self.node.exclusive.get(&container.name).filter(|_| !init).cloned();
        let known = status.allocated_resources_status;
        ContainerStatus { allocated_resources_status: exclusive.or(known), ..status }
    }

    /// A container that the runtime has, as its latest instance and the one before it are.
    fn present(
        &self,
        container: &Container,
        init: bool,
        old: Option<&ContainerStatus>,
        (latest, previous): (&Instance, Option<&Instance>),
        waiting: Option<ContainerStateWaiting>,
    ) -> ContainerStatus {
        let has = container.resources.clone().unwrap_or_default();
        let actual = match latest.state {
            State::Running => self.memory().resize.actuated.get(&latest.id).cloned(),
            _ => None,
        };
        // Who has no limits shows none, although the pod's hold for it.
        let actual = actual.map(|actual| ResourceRequirements {
            limits: actual.limits.filter(|_| has.limits.is_some()),
            ..actual
        });
        // Whoever began anew with all others has none before it any more: only the status still knows of one.
        let mut last = previous
            .filter(|previous| previous.state == State::Exited)
            .map(|p| self.terminated(p))
            .or_else(|| ended_before(old?, &self.id(latest)));
        let mut state = ContainerState::default();
        match (latest.state, waiting) {
            (State::Running, _) => {
                state.running = Some(ContainerStateRunning { started_at: time(latest.started_at) })
            }
            (State::Exited, None) => state.terminated = Some(self.terminated(latest)),
            (State::Exited, Some(waiting)) => {
                state.waiting = Some(waiting);
                last = Some(self.terminated(latest));
            }
            (State::Created | State::Unknown, waiting) => {
                let creating =
                    || ContainerStateWaiting { reason: Some("ContainerCreating".to_owned()), message: None };
                state.waiting = Some(waiting.unwrap_or_else(creating));
            }
        }
        let started = is_started(self.memory(), container, latest);
        let ready = match init && !is_sidecar(container) {
            true => latest.state == State::Exited && latest.exit_code == 0,
            false => started && self.is_ready(container, latest),
        };
        ContainerStatus {
            name: container.name.clone(),
            container_id: Some(self.id(latest)),
            image: if latest.image.is_empty() || latest.image.starts_with("sha256:") {
                container.image.clone().unwrap_or_default()
            } else {
                latest.image.clone()
            },
            image_id: latest.image_id.clone(),
            state: Some(state),
            last_state: last.map(|terminated| ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            }),
            ready,
            restart_count: i32::try_from(latest.restarts).unwrap_or(i32::MAX),
            started: Some(started),
            allocated_resources: has.requests.clone(),
            resources: Some(actual.unwrap_or(has)),
            user: latest.user.clone(),
            stop_signal: latest.stop_signal.clone(),
            volume_mounts: self.mounts(container, &latest.volumes),
            ..ContainerStatus::default()
        }
    }

    /// `images`: the ids of the images that volumes are, by where they are mounted.
    fn mounts(&self, container: &Container, images: &[(String, String)]) -> Option<Vec<VolumeMountStatus>> {
        let recursive = |mount: &VolumeMount| {
            let wanted = mount.recursive_read_only.as_deref();
            let enabled =
                wanted == Some("Enabled") || wanted == Some("IfPossible") && self.node.recursive_read_only;
            if enabled { "Enabled".to_owned() } else { "Disabled".to_owned() }
        };
        let image_of = |mount: &VolumeMount| {
            let found = images.iter().find(|(path, _)| *path == mount.mount_path);
            found.map(|(_, image)| image.clone())
        };
        let mounts = container.volume_mounts.iter().flatten().map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
            recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| recursive(mount)),
            volume_status: image_of(mount)
                .map(|image_ref| VolumeStatus { image: Some(ImageVolumeStatus { image_ref }) }),
        });
        Some(mounts.collect::<Vec<_>>()).filter(|mounts| !mounts.is_empty())
    }

    /// A container that the runtime does not have (yet, or any more).
    fn absent(&self, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
        if let Some(old) = old.filter(|old| self.begins_anew() && !waits(old)) {
            return self.reset(container, old);
        }
        let ended = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some()));
        if let Some(ended) = ended.filter(|_| !self.plan.waiting.contains_key(&container.name)) {
            return ended.clone();
        }
        let many = !self.view.pod.init_containers().is_empty();
        let default = if many { "PodInitializing" } else { "ContainerCreating" };
        let waiting = self.plan.waiting.get(&container.name);
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(
                        waiting.map_or_else(|| default.to_owned(), |waiting| waiting.reason.clone()),
                    ),
                    message: waiting.and_then(|waiting| waiting.message.clone()),
                }),
                ..ContainerState::default()
            }),
            last_state: old.and_then(|old| self.gone(old)),
            // One that ran and that the runtime forgot counts as restarted.
            restart_count: old.map_or(0, |old| old.restart_count + i32::from(old.container_id.is_some())),
            started: Some(false),
            volume_mounts: self.mounts(container, &[]),
            ..ContainerStatus::default()
        }
    }

    /// Whether all containers begin anew, or did when they were looked at last.
    fn begins_anew(&self) -> bool {
        let conditions = self.before.and_then(|before| before.conditions.as_ref());
        self.plan.restarting_all
            || conditions
                .into_iter()
                .flatten()
                .any(|one| one.type_ == "AllContainersRestarting" && one.status == "True")
    }

    /// A container that was removed so that it begins anew with all others.
    fn reset(&self, container: &Container, old: &ContainerStatus) -> ContainerStatus {
        const WHY: &str = "The container is removed because RestartAllContainers in place";
        let waiting =
            ContainerStateWaiting { reason: Some(RESTARTING_ALL.to_owned()), message: Some(WHY.to_owned()) };
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
            last_state: Some(ContainerState {
                terminated: Some(lost_state(RESTARTING_ALL, WHY)),
                ..ContainerState::default()
            }),
            restart_count: old.restart_count + 1,
            started: Some(false),
            volume_mounts: self.mounts(container, &[]),
            ..ContainerStatus::default()
        }
    }

    /// How a container ended of which nothing is left.
    fn gone(&self, old: &ContainerStatus) -> Option<ContainerState> {
        let state = old.state.as_ref();
        let ran = runs(old);
        let unseen = || {
            let message = "The container could not be located when the pod was deleted.  The container used to be Running";
            lost_state("ContainerStatusUnknown", message)
        };
        let seen = state.and_then(|state| state.terminated.clone());
        let terminated = seen.or_else(|| ran.then(unseen));
        match terminated {
            Some(terminated) => {
                Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
            }
            None => old.last_state.clone(),
        }
    }

    fn is_ready(&self, container: &Container, instance: &Instance) -> bool {
        let health = self.memory().health.get(&container.name).filter(|health| health.id == instance.id);
        container.readiness_probe.is_none() || health.is_some_and(|health| health.ready)
    }
}
