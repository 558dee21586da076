//! Which statuses may wait for the next one.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::pods::spec::PodExt;

/// How long a status may wait that tells no more than that the pod is being made: mostly it runs before that.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a status tells of nothing but a step on the way to a pod that runs, to somebody who knows `known`.
pub fn is_step(pod: &Pod, known: Option<&PodStatus>, status: &PodStatus) -> bool {
    !pod.is_deleting() && known.is_none_or(is_made) && is_made(status)
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
    fresh && matches!(reason, Some("ContainerCreating" | "PodInitializing"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
}
