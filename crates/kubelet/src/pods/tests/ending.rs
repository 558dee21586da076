//! How pods end.

use k8s_openapi::api::core::v1::PodCondition;
use serde_json::json;

use super::super::Ending;
use super::*;

fn evicted() -> Ending {
    Ending {
        reason: "Evicted".to_owned(),
        condition: Some(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            ..PodCondition::default()
        }),
        ..Ending::default()
    }
}

#[test]
fn the_status_of_a_pod_that_the_node_gave_up_comes_to_rest() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.memory.ending = Some(evicted());
    node.settle();
    assert_eq!(node.phase(), "Failed");
    let told = node.status().clone();
    assert!(told.conditions.iter().flatten().any(|one| one.type_ == "DisruptionTarget"), "{told:?}");
    for _ in 0..3 {
        node.pass(5);
        node.settle();
        assert_eq!(*node.status(), told, "each other status is another request");
    }
}

#[test]
fn what_was_lost_with_a_pod_stays_lost() {
    let mut node = Node::new(simple("Never"));
    node.broken = vec!["c".to_owned()];
    node.look();
    node.memory.ending = Some(evicted());
    node.settle();
    let lost = (node.phase().to_owned(), node.state("c"));
    assert_eq!(lost, ("Failed".to_owned(), "ContainerStatusUnknown 137".to_owned()));
    // The API server has it as failed by now, and would refuse that it waits again.
    node.settle();
    assert_eq!((node.phase().to_owned(), node.state("c")), lost);
}

#[test]
fn sidecars_are_told_at_once_and_stop_last_within_the_one_grace_period() {
    let mut node = Node::new(pod(json!({
        "terminationGracePeriodSeconds": 7,
        "initContainers": [{"name": "one", "image": "i", "restartPolicy": "Always"},
                           {"name": "two", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "i"}],
    })));
    node.settle();
    node.delete();
    node.deaf = vec!["c0".to_owned(), "two0".to_owned()];
    node.log.clear();
    let said = |node: &mut Node| {
        let said = std::mem::take(&mut node.log).into_iter().filter_map(|action| action.job());
        said.collect::<Vec<_>>()
    };
    let waiting = node.settle();
    let told = |id: &str| Job::PreStop(id.to_owned());
    let killed = |id: &str, grace| Job::Kill(id.to_owned(), grace);
    assert_eq!(said(&mut node), [killed("c0", 7), told("two0"), told("one0")]);
    assert_eq!(waiting.wake, Some(node.now + SignedDuration::from_secs(7)));
    node.pass(3);
    node.settle();
    assert_eq!(said(&mut node), [], "as long as one of the others runs");
    node.exit("c", 0);
    node.settle();
    assert_eq!(said(&mut node), [killed("two0", 4)], "three seconds are gone");
    node.pass(3);
    node.settle();
    assert_eq!(said(&mut node), [], "a time that passes is no shorter one");
    node.pass(1);
    node.settle();
    let last = said(&mut node);
    assert_eq!(last, [killed("one0", 2)], "when the time is over, nobody waits for anybody");
}

#[test]
fn a_sidecar_that_was_given_longer_gets_no_longer_than_its_pod() {
    let mut node = Node::new(pod(json!({
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "i"}],
    })));
    node.settle();
    // Its liveness probe has failed, and has a grace period of its own.
    node.memory.kills.insert("side0".to_owned(), 60);
    node.delete();
    node.log.clear();
    node.settle();
    let killed = Job::Kill("side0".to_owned(), 7);
    assert!(node.log.iter().any(|action| action.job().as_ref() == Some(&killed)), "{:?}", node.log);
}

#[test]
fn who_must_go_at_once_has_a_second_for_its_hook() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.delete();
    node.pod.metadata.deletion_grace_period_seconds = Some(0);
    node.log.clear();
    node.settle();
    let graces: Vec<_> = node
        .log
        .iter()
        .filter_map(|action| if let Action::Kill { grace, .. } = action { Some(*grace) } else { None })
        .collect();
    assert_eq!(graces, [1]);
}

#[test]
fn what_was_not_to_begin_yet_is_not_lost_when_the_pod_ends() {
    let mut node = Node::new(pod(json!({
        "terminationGracePeriodSeconds": 7,
        "initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}],
    })));
    node.settle();
    node.delete();
    node.settle();
    assert_eq!(node.phase(), "Failed");
    let states = ["a", "b", "c"].map(|name| node.state(name));
    assert_eq!(states, ["Error 137", "PodInitializing", "PodInitializing"]);
}
