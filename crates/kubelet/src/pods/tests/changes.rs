//! Pods that change while they run: debugged, restarted by rule, given up, resized.

use serde_json::json;

use super::*;
use crate::pods::memory::Ending;
use crate::pods::resize::{Allocation, Progress};

#[test]
fn an_ephemeral_container_starts_beside_the_others_and_only_once() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    let ephemeral = json!([{"name": "debug", "image": "i", "targetContainerName": "c"}]);
    node.pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(ephemeral).unwrap();
    node.settle();
    assert_eq!(node.state("debug"), "running");
    assert_eq!(node.observed.instances("c").count(), 1, "the others are left alone");
    node.exit("debug", 3);
    node.settle();
    assert_eq!((node.state("debug").as_str(), node.phase()), ("Error 3", "Running"));
    assert_eq!(node.observed.instances("debug").count(), 1);
    node.observed.containers.retain(|container| container.name != "debug");
    node.settle();
    assert_eq!(node.state("debug"), "Error 3", "also when the runtime has forgotten it");
}

#[test]
fn rules_for_exit_codes_go_before_policies() {
    let rules = |operator: &str| {
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": operator, "values": [42, 43]}}]}]})
    };
    for (operator, code, phase) in [
        ("In", 42, "Running"),
        ("In", 1, "Failed"),
        ("NotIn", 42, "Failed"),
        ("NotIn", 1, "Running"),
        ("In", 0, "Succeeded"),
    ] {
        let mut node = Node::new(pod(rules(operator)));
        node.settle();
        node.exit("c", code);
        node.settle();
        assert_eq!(node.phase(), phase, "{operator} {code}");
    }
}

#[test]
fn a_containers_own_policy_goes_before_the_pods() {
    let mut node = Node::new(pod(json!({"restartPolicy": "Always", "containers": [
        {"name": "once", "image": "i", "restartPolicy": "Never"}, {"name": "c", "image": "i"}]})));
    node.settle();
    node.exit("once", 1);
    node.exit("c", 1);
    node.settle();
    assert_eq!(
        (node.state("once").as_str(), node.state("c").as_str(), node.phase()),
        ("Error 1", "running", "Running")
    );
}

#[test]
fn an_exit_may_restart_all_containers() {
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    let mut node = Node::new(pod(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "a", "image": "i"}],
        "containers": [{"name": "w", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rule},
                       {"name": "c", "image": "i"}]})));
    node.settle();
    node.exit("a", 0);
    node.settle();
    node.exit("w", 88);
    node.settle();
    assert_eq!(
        ["a", "w", "c"].map(|name| node.state(name)),
        ["running", "PodInitializing", "PodInitializing"]
    );
    assert_eq!(node.observed.sandboxes.len(), 1, "in the same sandbox");
    let removed: Vec<_> = node
        .log
        .iter()
        .filter_map(
            |action| if let Action::RemoveContainer { id } = action { Some(id.as_str()) } else { None },
        )
        .collect();
    assert_eq!(removed.last(), Some(&"w0"), "whoever began it goes last");
    node.exit("a", 0);
    node.settle();
    assert_eq!(["w", "c"].map(|name| node.state(name)), ["running", "running"]);
    assert_eq!(node.restarts(), 1);
}

#[test]
fn a_node_that_gives_a_pod_up_ends_it_in_its_own_time() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.memory.ending = Some(Ending {
        reason: "Evicted".to_owned(),
        message: "The node was low on resource: memory.".to_owned(),
        grace_seconds: Some(1),
        condition: Some(
            serde_json::from_value(json!({"type": "DisruptionTarget", "status": "True",
            "reason": "TerminationByKubelet"}))
            .unwrap(),
        ),
        refused: false,
    });
    node.settle();
    let grace =
        node.log.iter().find_map(|a| if let Action::Kill { grace, .. } = a { Some(*grace) } else { None });
    assert_eq!(grace, Some(1));
    assert_eq!((node.phase(), node.status().reason.as_deref()), ("Failed", Some("Evicted")));
    assert_eq!((node.condition("DisruptionTarget"), node.condition("Ready")), ("True", "False"));
    assert!(node.observed.sandbox().is_none());
}

#[test]
fn a_refused_pod_has_no_containers_at_all() {
    let mut node = Node::new(simple("Always"));
    let reason = "OutOfcpu".to_owned();
    node.memory.ending =
        Some(Ending { reason, message: "no".to_owned(), refused: true, ..Ending::default() });
    node.settle();
    assert_eq!((node.phase(), node.status().reason.as_deref()), ("Failed", Some("OutOfcpu")));
    assert!(node.status().container_statuses.is_none() && node.log.is_empty());
}

#[test]
fn running_containers_are_resized_in_place_or_restarted_as_their_policy_says() {
    let resources = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "1", "memory": "64Mi"}});
    let mut node =
        Node::new(pod(json!({"restartPolicy": "Always", "containers": [{"name": "c", "image": "i",
        "resources": resources("100m", "16Mi"),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                         {"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]})));
    node.settle();
    let set = |node: &mut Node, cpu: &str, memory: &str| {
        let spec = node.pod.spec.as_mut().unwrap();
        spec.containers[0].resources = serde_json::from_value(resources(cpu, memory)).unwrap();
        node.memory.resize.allocated = Some(Allocation::wanted(&node.pod));
        node.memory.resize.in_progress = Some(Progress { generation: Some(2), error: None });
    };
    set(&mut node, "200m", "16Mi");
    let first = node.look();
    assert!(matches!(first.actions.as_slice(), [Action::Resize { .. }]), "{first:?}");
    assert_eq!(node.condition("PodResizeInProgress"), "True");
    assert!(node.settle().resized);
    let status = &node.status().container_statuses.as_ref().unwrap()[0];
    let requests = status.resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!((requests["cpu"].0.as_str(), status.restart_count), ("200m", 0));
    set(&mut node, "200m", "32Mi");
    node.settle();
    assert_eq!(node.restarts(), 1, "memory needs a restart here");
}

#[test]
fn volumes_in_memory_get_other_sizes_though_no_container_changes() {
    let volumes = |size: &str| json!([{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]);
    let mut node =
        Node::new(pod(json!({"restartPolicy": "Always", "volumes": volumes("10000"), "containers": [
        {"name": "c", "image": "i"}]})));
    // As the mount has them, in whole pages.
    node.memory.resize.volumes = [("v".to_owned(), 12288)].into();
    node.settle();
    assert!(!node.log.iter().any(|action| matches!(action, Action::Resize { .. })), "{:?}", node.log);
    let mounted = node.memory.resize.volumes.clone();
    assert_eq!(Allocation::recorded(&node.pod, &mounted), Allocation::wanted(&node.pod));
    node.pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes("1Mi")).unwrap();
    // A kubelet that begins anew finds it as it was before.
    let recorded = Allocation::recorded(&node.pod, &mounted);
    let size = recorded.apply(&node.pod).spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].clone();
    assert_eq!(size.empty_dir.unwrap().size_limit.unwrap().0, "12288");
    node.memory.resize.in_progress = Some(Progress { generation: Some(2), error: None });
    node.log.clear();
    assert!(node.settle().resized);
    assert!(matches!(node.log.as_slice(), [Action::Resize { containers, .. }] if containers.is_empty()));
    assert_eq!(node.memory.resize.volumes["v"], 1 << 20);
}

#[test]
fn a_pods_cgroup_grows_before_what_is_started_in_it_and_shrinks_after_what_ends() {
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    let mut node =
        Node::new(pod(json!({"restartPolicy": "Always", "containers": [{"name": "c", "image": "i",
        "resources": resources("100m"),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]})));
    node.settle();
    for cpu in ["200m", "50m"] {
        node.log.clear();
        let spec = node.pod.spec.as_mut().unwrap();
        spec.containers[0].resources = serde_json::from_value(resources(cpu)).unwrap();
        node.memory.resize.in_progress = Some(Progress { generation: Some(2), error: None });
        node.settle();
        node.pass(15);
        assert!(node.settle().resized, "{cpu}");
        let place = |is: fn(&Action) -> bool| node.log.iter().position(is).unwrap();
        let [killed, resized, started] = [
            place(|action| matches!(action, Action::Kill { .. })),
            place(|action| matches!(action, Action::Resize { .. })),
            place(|action| matches!(action, Action::Start { .. })),
        ];
        assert!(killed < resized && killed < started, "{cpu}: {:?}", node.log);
        assert!(cpu == "50m" || resized < started, "{cpu}: {:?}", node.log);
        assert_eq!(node.memory.resize.group, Some(resources::pod_limits(&node.pod)));
    }
}

#[test]
fn a_limit_of_the_pod_as_a_whole_reaches_its_cgroup_and_whoever_has_none() {
    let limits = |memory: &str| json!({"limits": {"memory": memory, "cpu": "1"}});
    let mut node = Node::new(pod(json!({"restartPolicy": "Always", "resources": limits("64Mi"),
        "containers": [{"name": "free", "image": "i"},
            {"name": "own", "image": "i", "resources": {"limits": {"memory": "16Mi", "cpu": "100m"}}}]})));
    node.settle();
    let limit = |node: &Node, name: &str| {
        resources::container(&node.pod, &node.pod.container(name).unwrap(), 0).memory_limit_in_bytes >> 20
    };
    assert_eq!((limit(&node, "free"), limit(&node, "own")), (64, 16));
    node.log.clear();
    node.pod.spec.as_mut().unwrap().resources = serde_json::from_value(limits("128Mi")).unwrap();
    node.memory.resize.in_progress = Some(Progress { generation: Some(2), error: None });
    assert!(node.settle().resized);
    let resized = node.log.iter().find_map(|action| match action {
        Action::Resize { containers, .. } => Some(containers.iter().map(|c| c.1.clone()).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(resized, Some(vec!["free".to_owned()]));
    assert_eq!((limit(&node, "free"), node.restarts()), (128, 0));
    let shown = &node.status().container_statuses.as_ref().unwrap()[0].resources;
    assert_eq!(shown.clone().unwrap_or_default().limits, None, "it has none of its own");
}

#[test]
fn all_containers_begin_anew_and_know_how_they_ended() {
    let mut node = Node::new(pod(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]}]})));
    node.settle();
    node.exit("i", 0);
    node.settle();
    assert_eq!(node.condition("AllContainersRestarting"), "False");
    node.exit("s", 42);
    node.look();
    assert_eq!(node.condition("AllContainersRestarting"), "True");
    node.settle();
    node.exit("i", 0);
    node.settle();
    assert_eq!(node.condition("AllContainersRestarting"), "False");
    let status = node.status();
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    for container in all {
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!((container.restart_count, last.is_some()), (1, true), "{}", container.name);
    }
}

#[test]
fn a_sidecar_lets_all_begin_anew_unless_they_are_done() {
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always",
            "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]}],
        "containers": [{"name": "c", "image": "i"}]});
    let mut node = Node::new(pod(spec.clone()));
    node.settle();
    node.exit("s", 42);
    node.settle();
    assert_eq!((node.state("c").as_str(), node.restarts(), node.phase()), ("running", 1, "Running"));

    let mut node = Node::new(pod(spec));
    node.settle();
    node.exit("c", 0);
    node.pass(1);
    node.exit("s", 42);
    node.settle();
    assert_eq!(node.phase(), "Succeeded");
}

#[test]
fn what_a_pod_asks_for_is_its_worst_time_and_then_what_it_says_itself() {
    let ask = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut one = pod(json!({
        "initContainers": [{"name": "a", "image": "i", "resources": ask("3")},
                           {"name": "s", "image": "i", "restartPolicy": "Always", "resources": ask("1")},
                           {"name": "b", "image": "i", "resources": ask("2500m")}],
        "containers": [{"name": "c", "image": "i", "resources": ask("500m")}, {"name": "d", "image": "i", "resources": ask("500m")}],
        "overhead": {"cpu": "100m"},
    }));
    let cpu = |pod: &Pod| resources::pod_requests(pod)["cpu"].0.clone();
    assert_eq!(cpu(&one), "3600m", "the sidecar runs while b does");
    one.spec.as_mut().unwrap().resources = serde_json::from_value(ask("2")).unwrap();
    assert_eq!(cpu(&one), "2100m");
    assert_eq!(resources::qos(&one), "Burstable");
}

#[test]
fn containers_may_start_once_volumes_are_there_and_still_may_for_the_next_kubelet() {
    let mut node = Node::new(simple("Always"));
    let first = node.look().actions;
    first.into_iter().filter(|action| action.job() != Some(Job::Volumes)).for_each(|action| node.act(action));
    node.look();
    assert_eq!(node.condition("PodReadyToStartContainers"), "False");
    node.act(Action::MountVolumes);
    node.look();
    assert_eq!(node.condition("PodReadyToStartContainers"), "True");
    node.memory = Memory::default();
    node.look();
    assert_eq!(node.condition("PodReadyToStartContainers"), "True");
}

#[test]
fn an_image_that_changes_before_its_container_starts_is_fetched_anew() {
    let with = |image: &str| {
        let object = json!({"initContainers": [{"name": "i", "image": "x"}],
                            "containers": [{"name": "c", "image": image}]});
        pod(object)
    };
    let mut node = Node::new(with("old"));
    node.settle();
    assert_eq!((node.state("i").as_str(), node.memory.images["c"].image.as_str()), ("running", "old"));
    node.pod.spec = with("new").spec;
    node.exit("i", 0);
    let next: Vec<_> = node.look().actions.iter().filter_map(Action::job).collect();
    assert_eq!(next, [Job::Image("c".to_owned())], "and no start");
    node.settle();
    assert_eq!(node.state("c"), "running");
}

#[test]
fn another_image_is_pulled_at_once_whatever_became_of_the_first() {
    let mut node = Node::new(simple("Always"));
    node.broken.push("c".to_owned());
    node.settle();
    node.pass(1);
    assert!(node.look().actions.is_empty(), "it backs off");
    node.broken.clear();
    let containers = node.pod.spec.as_mut().map(|spec| &mut spec.containers).unwrap();
    containers[0].image = Some("other".to_owned());
    node.settle();
    assert_eq!(node.state("c"), "running");
}

#[test]
fn a_container_in_a_back_off_starts_at_once_when_its_image_or_resources_change() {
    for changed in [json!({"image": "other"}), json!({"resources": {"requests": {"cpu": "2m"}}})] {
        let mut node = Node::new(simple("Always"));
        node.settle();
        for _ in 0..2 {
            node.exit("c", 1);
            node.settle();
        }
        assert_eq!(node.state("c"), "CrashLoopBackOff");
        let container = &mut node.pod.spec.as_mut().unwrap().containers[0];
        let mut now = serde_json::to_value(&*container).unwrap();
        now.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        *container = serde_json::from_value(now).unwrap();
        node.settle();
        assert_eq!(node.state("c"), "running", "{changed}");
        // The next pause is a first one.
        node.exit("c", 1);
        node.settle();
        assert_eq!(node.state("c"), "CrashLoopBackOff", "{changed}");
        node.pass(11);
        node.settle();
        assert_eq!(node.state("c"), "running", "{changed}");
    }
}

#[test]
fn a_container_starts_anew_with_its_new_image_whatever_its_policy() {
    for policy in ["Never", "OnFailure", "Always"] {
        let mut node = Node::new(simple(policy));
        node.settle();
        node.observed.containers[0].hash = "of the first image".to_owned();
        node.pod.spec.as_mut().unwrap().containers[0].image = Some("other".to_owned());
        let ended = node.look();
        ended.actions.into_iter().for_each(|action| node.act(action));
        node.look();
        assert_eq!(node.phase(), "Running", "{policy}: it is not over");
        node.settle();
        assert_eq!((node.state("c").as_str(), node.restarts()), ("running", 1), "{policy}");
        // What it comes to by itself is for good.
        node.exit("c", 0);
        node.settle();
        assert_eq!(node.phase(), if policy == "Always" { "Running" } else { "Succeeded" }, "{policy}");
    }
}
