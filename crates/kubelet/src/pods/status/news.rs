//! Which statuses may wait for the next one, which mostly comes soon.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::container::is_being_made;
use crate::pods::observed::{Observed, State};
use crate::pods::spec::{PodExt, hash};

/// How long a status may wait that tells of nothing but a step on the way.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a status tells of nothing but a step on the way, to somebody who knows `known`.
pub fn may_wait(pod: &Pod, observed: &Observed, known: Option<&PodStatus>, status: &PodStatus) -> bool {
    is_step(pod, known, status) || is_exchange(pod, observed, known)
}

/// Whether a status tells of nothing but a step on the way to a pod that runs, to somebody who knows `known`.
fn is_step(pod: &Pod, known: Option<&PodStatus>, status: &PodStatus) -> bool {
    !pod.is_deleting() && known.is_none_or(is_made) && is_made(status)
}

/// Whether a container was ended because the pod says something else of it now, and who knows `known` still sees it run:
/// mostly the next one runs in a moment, and neither was the pod unready in between for anybody else.
fn is_exchange(pod: &Pod, observed: &Observed, known: Option<&PodStatus>) -> bool {
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let lists =
        known.into_iter().flat_map(|status| [&status.container_statuses, &status.init_container_statuses]);
    !pod.is_deleting()
        && lists.flatten().flatten().filter(runs).any(|status| {
            let (latest, container) = (observed.latest(&status.name), pod.container(&status.name));
            latest.zip(container).is_some_and(|(latest, container)| {
                latest.state == State::Exited && !latest.hash.is_empty() && latest.hash != hash(&container)
            })
        })
}

/// Whether a pod with such a status is being made: nothing of it runs or ran, and nothing stands in its way.
fn is_made(status: &PodStatus) -> bool {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let resized = |type_: &str| type_.starts_with("PodResize");
    matches!(status.phase.as_deref(), None | Some("Pending"))
        && status.reason.is_none()
        && status.message.is_none()
        && lists.into_iter().flatten().flatten().all(is_awaited)
        && !status.conditions.iter().flatten().any(|condition| resized(&condition.type_))
}

fn is_awaited(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let fresh = container.last_state.as_ref().is_none_or(|state| state.terminated.is_none());
    fresh && reason.is_some_and(is_being_made)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::observed::Instance;

    fn step(known: Value, status: Value) -> bool {
        let of = |value: Value| serde_json::from_value::<PodStatus>(value).unwrap();
        is_step(&Pod::default(), Some(&of(known)), &of(status))
    }

    fn with(state: Value) -> Value {
        let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        json!({"phase": "Pending", "containerStatuses": [container]})
    }

    #[test]
    fn a_pod_that_is_being_made_is_no_news() {
        let fresh = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
        let creating = with(json!({"waiting": {"reason": "ContainerCreating"}}));
        assert!(step(fresh.clone(), creating.clone()));
        assert!(step(creating.clone(), creating.clone()));
        let deleted =
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}));
        assert!(!is_step(&deleted.unwrap(), None, &serde_json::from_value(creating.clone()).unwrap()));
        for news in [
            with(json!({"running": {}})),
            with(json!({"terminated": {"exitCode": 0}})),
            with(json!({"waiting": {"reason": "ErrImagePull"}})),
            json!({"phase": "Running"}),
            json!({"phase": "Pending", "reason": "Unschedulable"}),
            json!({"phase": "Pending", "conditions": [{"type": "PodResizePending", "status": "True"}]}),
        ] {
            assert!(!step(fresh.clone(), news.clone()), "{news}");
            // What is over is news, too.
            assert!(!step(news.clone(), creating.clone()), "{news}");
        }
    }

    #[test]
    fn a_container_that_is_exchanged_is_no_news_yet() {
        let pod = |deleted: Option<&str>| -> Pod {
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": deleted},
                "spec": {"containers": [{"name": "c", "image": "new"}]}}))
            .unwrap()
        };
        let known = |state: Value| -> PodStatus { serde_json::from_value(with(state)).unwrap() };
        let ended = |hash: &str| Observed {
            containers: vec![Instance {
                name: "c".to_owned(),
                state: State::Exited,
                hash: hash.to_owned(),
                ..Instance::default()
            }],
            ..Observed::default()
        };
        let now = hash(&pod(None).container("c").unwrap());
        let running = known(json!({"running": {}}));
        assert!(is_exchange(&pod(None), &ended("old"), Some(&running)));
        assert!(!is_exchange(&pod(None), &ended(&now), Some(&running)), "it ended by itself");
        assert!(!is_exchange(
            &pod(None),
            &ended("old"),
            Some(&known(json!({"terminated": {"exitCode": 0}})))
        ));
        assert!(!is_exchange(&pod(None), &ended("old"), None));
        assert!(!is_exchange(&pod(Some("2020-01-01T00:00:00Z")), &ended("old"), Some(&running)));
        let mut next = ended("old");
        next.containers
            .insert(0, Instance { name: "c".to_owned(), state: State::Running, ..Instance::default() });
        assert!(!is_exchange(&pod(None), &next, Some(&running)), "the next one is there");
    }
}
