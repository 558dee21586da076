//! Pods by example: a runtime that does at once what is planned, and what is seen of the pod then.

mod changes;
mod clock;
mod ending;
mod names;
mod outdated;
mod starting;
mod waking;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, PodStatus, ResourceStatus, Secret};
use serde_json::json;

use super::config::{self, NodeConfig, Prepared};
use super::dns;
use super::env::{self, Sources};
use super::fetched::Fetched;
use super::fields::Surroundings;
use super::images::{Decision, credentials, decide};
use super::memory::{CrashPause, Health, Job, Memory, Outcome};
use super::observed::{Instance, Observed, Sandbox, State};
use super::plan::{Action, Plan, View, plan};
use super::resources;
use super::spec::{PodExt, crash_key};
use super::status::{NodeFacts, generate};
use crate::cgroups::KeptMemory;
use crate::volumes::empty;

fn pod(spec: serde_json::Value) -> Pod {
    let object = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
        "spec": spec,
        "status": {"phase": "Pending"},
    });
    serde_json::from_value(object).unwrap()
}

fn simple(restart_policy: &str) -> Pod {
    pod(json!({"restartPolicy": restart_policy, "terminationGracePeriodSeconds": 7,
               "containers": [{"name": "c", "image": "i"}]}))
}

/// A worker without a world: what it plans, is done.
struct Node {
    pod: Pod,
    removed: bool,
    observed: Observed,
    memory: Memory,
    now: Timestamp,
    counter: i64,
    /// Images that cannot be pulled.
    broken: Vec<String>,
    /// The ids of containers that are killed and do not end.
    deaf: Vec<String>,
    /// What containers have for themselves.
    exclusive: BTreeMap<String, Vec<ResourceStatus>>,
    log: Vec<Action>,
}

impl Node {
    fn new(pod: Pod) -> Self {
        Self {
            pod,
            removed: false,
            observed: Observed::default(),
            memory: Memory::default(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            counter: 0,
            broken: Vec::new(),
            deaf: Vec::new(),
            exclusive: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn look(&mut self) -> Plan {
        self.memory.note_exits(&self.observed, self.now);
        self.memory.note_images(&self.pod);
        let view = View {
            pod: &self.pod,
            removed: self.removed,
            observed: &self.observed,
            as_of: self.memory.ended,
            memory: &self.memory,
            now: self.now,
        };
        let decided = plan(&view);
        let host_ips = ["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let status = generate(
            &view,
            &decided,
            &NodeFacts {
                host_ips: &host_ips,
                runtime_name: "knarr",
                recursive_read_only: true,
                exclusive: &self.exclusive,
            },
        );
        self.memory.note_stopping(decided.stopping, self.now);
        if !self.memory.frozen {
            self.memory.frozen = decided.over && self.pod.metadata.deletion_timestamp.is_some();
            self.memory.status = Some(status.clone());
        }
        self.memory.acknowledged = self.memory.status.clone();
        self.pod.status = self.memory.status.clone();
        decided
    }

    /// Until nothing is left to do.
    fn settle(&mut self) -> Plan {
        for _ in 0..100 {
            let decided = self.look();
            if decided.actions.is_empty() || decided.done {
                return decided;
            }
            for action in decided.actions {
                self.act(action);
            }
        }
        panic!("it does not settle: {:?}", self.log);
    }

    fn nanos(&mut self) -> i64 {
        self.counter += 1;
        i64::try_from(self.now.as_nanosecond()).unwrap() + self.counter
    }

    fn act(&mut self, action: Action) {
        self.log.push(action.clone());
        let job = action.job();
        let mut failure = None;
        match action {
            Action::MountVolumes => self.memory.mounted = Some(None),
            Action::CreateSandbox { attempt } => {
                let (id, created_at) = (format!("s{attempt}"), self.nanos());
                let ips = vec!["10.1.0.2".to_owned()];
                self.observed.sandboxes.insert(0, Sandbox { id, attempt, ready: true, created_at, ips });
                self.memory.resize.group = Some(resources::pod_limits(&self.pod));
            }
            Action::StopSandbox { id } => {
                self.observed.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.ready = false)
            }
            Action::RemoveSandbox { id } => {
                self.observed.sandboxes.retain(|s| s.id != id);
                self.observed.containers.retain(|c| c.sandbox != id);
            }
            Action::EnsureImage { container } if self.broken.contains(&container) => {
                failure = Some(("ErrImagePull".to_owned(), "no such image".to_owned()));
                let image = self.pod.container(&container).unwrap().image.clone().unwrap_or_default();
                self.memory.unfetched.insert(container, image);
            }
            Action::EnsureImage { container } => {
                let image = self.pod.container(&container).unwrap().image.clone().unwrap_or_default();
                let reference = "sha256:1".to_owned();
                self.memory.images.insert(container, Fetched { image, reference });
            }
            Action::Start { container, sandbox, restarts, crashed } => {
                self.memory.images.remove(&container);
                if crashed {
                    let pauses = (Duration::from_secs(10), Duration::from_secs(300));
                    let key = crash_key(&self.pod.container(&container).unwrap());
                    let before = self.memory.pauses.get(&key).copied();
                    let pause = CrashPause::next(before, self.now, pauses);
                    self.memory.pauses.insert(key, pause);
                }
                let at = self.nanos();
                let instance = Instance {
                    id: format!("{container}{restarts}"),
                    name: container,
                    sandbox,
                    restarts,
                    state: State::Running,
                    created_at: at,
                    started_at: at,
                    ..Instance::default()
                };
                let given = resources::given_in(&self.pod, &self.pod.container(&instance.name).unwrap());
                self.memory.resize.actuated.insert(instance.id.clone(), given);
                self.observed.containers.insert(0, instance);
            }
            Action::Kill { id, grace, .. } if self.deaf.contains(&id) => {
                self.memory.kills.insert(id, grace);
            }
            Action::Kill { id, replaces, .. } => {
                self.memory.replaced.extend(replaces.then(|| id.clone()));
                self.exit_id(&id, if replaces { 0 } else { 137 });
            }
            Action::PreStop { id, .. } => {
                self.memory.prepared.insert(id);
            }
            Action::RemoveContainer { id } => self.observed.containers.retain(|c| c.id != id),
            Action::TellBackOff { container, failed_at } => {
                self.memory.told.insert(container, failed_at);
            }
            Action::Resize { containers, .. } => {
                for (id, name) in containers {
                    let given = resources::given_in(&self.pod, &self.pod.container(&name).unwrap());
                    self.memory.resize.actuated.insert(id, given);
                }
                self.memory.resize.group = Some(resources::pod_limits(&self.pod));
                if !self.memory.resize.volumes.is_empty() {
                    self.memory.resize.volumes = empty::sizes(&self.pod);
                }
            }
            Action::Retire { logs } => {
                self.memory.retired = true;
                self.memory.stripped |= logs;
            }
            Action::Cleanup => self.memory.cleaned = true,
            Action::Delete => self.memory.deleted = true,
        }
        if let Some(job) = job {
            self.memory.finish(&job, Outcome { failure }, self.now);
        }
    }

    fn exit_id(&mut self, id: &str, code: i32) {
        let at = self.nanos();
        let instance = self.observed.containers.iter_mut().find(|c| c.id == id).unwrap();
        (instance.state, instance.exit_code, instance.finished_at) = (State::Exited, code, at);
    }

    fn exit(&mut self, name: &str, code: i32) {
        let id = self.observed.latest(name).unwrap().id.clone();
        self.exit_id(&id, code);
    }

    /// A pod of one container that has crashed twice and waits.
    fn crashing() -> Self {
        let mut node = Self::new(simple("Always"));
        node.settle();
        for _ in 0..2 {
            node.exit("c", 1);
            node.settle();
        }
        assert_eq!(node.state("c"), "CrashLoopBackOff");
        node
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn delete(&mut self) {
        let object = json!({"deletionTimestamp": self.now.to_string(), "deletionGracePeriodSeconds": 7, "name": "p", "namespace": "n", "uid": "u"});
        self.pod.metadata = serde_json::from_value(object).unwrap();
    }

    fn status(&self) -> &PodStatus {
        self.memory.status.as_ref().unwrap()
    }

    fn phase(&self) -> &str {
        self.status().phase.as_deref().unwrap()
    }

    fn condition(&self, name: &str) -> &str {
        let conditions = self.status().conditions.as_ref().unwrap();
        &conditions.iter().find(|condition| condition.type_ == name).unwrap().status
    }

    fn state(&self, name: &str) -> String {
        let status = self.status();
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let found = lists.into_iter().flatten().flatten().find(|status| status.name == name).unwrap();
        let state = found.state.as_ref().unwrap();
        match (&state.waiting, &state.running, &state.terminated) {
            (Some(waiting), _, _) => waiting.reason.clone().unwrap(),
            (_, Some(_), _) => "running".to_owned(),
            (_, _, Some(end)) => format!("{} {}", end.reason.as_deref().unwrap(), end.exit_code),
            _ => panic!("no state"),
        }
    }

    fn restarts(&self) -> i32 {
        self.status().container_statuses.as_ref().unwrap()[0].restart_count
    }
}

#[test]
fn a_pod_runs_and_is_ready() {
    let mut node = Node::new(simple("Always"));
    let first = node.look();
    let names: Vec<_> = first.actions.iter().filter_map(Action::job).collect();
    assert_eq!(names, [Job::Volumes, Job::Sandbox, Job::Image("c".into())], "all at once");
    assert_eq!((node.phase(), node.state("c").as_str()), ("Pending", "ContainerCreating"));
    node.settle();
    assert_eq!((node.phase(), node.state("c").as_str()), ("Running", "running"));
    for condition in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    {
        assert_eq!(node.condition(condition), "True", "{condition}");
    }
    let status = node.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.2"));
    assert_eq!(status.host_ip.as_deref(), Some("10.0.0.1"));
    let host_ips: Vec<_> = status.host_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    assert_eq!(host_ips, ["10.0.0.1", "fd00::1"]);
    assert_eq!(status.container_statuses.as_ref().unwrap()[0].container_id.as_deref(), Some("knarr://c0"));
}

#[test]
fn restarts_follow_the_policy() {
    for (policy, code, phase, state) in [
        ("Always", 0, "Running", "running"),
        ("Always", 1, "Running", "running"),
        ("OnFailure", 1, "Running", "running"),
        ("OnFailure", 0, "Succeeded", "Completed 0"),
        ("Never", 0, "Succeeded", "Completed 0"),
        ("Never", 3, "Failed", "Error 3"),
    ] {
        let mut node = Node::new(simple(policy));
        node.settle();
        node.exit("c", code);
        node.settle();
        assert_eq!((node.phase(), node.state("c").as_str()), (phase, state), "{policy} {code}");
        let over = phase != "Running";
        assert_eq!(node.observed.sandbox().is_none(), over, "{policy} {code}");
        if over {
            assert_eq!(node.condition("Ready"), "False");
            assert_eq!(node.status().pod_ip.as_deref(), Some("10.1.0.2"), "it keeps its address");
        }
    }
}

#[test]
fn a_container_that_crashes_waits_longer_each_time() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.exit("c", 1);
    node.settle();
    assert_eq!(node.restarts(), 1, "the first restart is immediate");
    for pause in [10, 20, 40] {
        node.exit("c", 1);
        let waiting = node.settle();
        assert_eq!(node.state("c"), "CrashLoopBackOff");
        assert_eq!(node.condition("Ready"), "False");
        assert!(waiting.wake.is_some());
        node.pass(pause - 1);
        node.settle();
        assert_eq!(node.state("c"), "CrashLoopBackOff", "{pause}");
        node.pass(2);
        node.settle();
        assert_eq!(node.state("c"), "running", "{pause}");
    }
    let told = node.log.iter().filter(|action| matches!(action, Action::TellBackOff { .. })).count();
    assert_eq!(told, 3, "each crash is told once");
    assert_eq!(node.observed.instances("c").count(), 2, "older ones are removed");
    let last = node.status().container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 1);
}

#[test]
fn init_containers_run_one_by_one_and_sidecars_go_on() {
    let mut node = Node::new(pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}],
    })));
    node.settle();
    assert_eq!(
        ["a", "side", "b", "c"].map(|name| node.state(name)),
        ["running", "PodInitializing", "PodInitializing", "PodInitializing"]
    );
    assert_eq!(node.condition("Initialized"), "False");
    node.exit("a", 0);
    node.settle();
    assert_eq!(
        ["a", "side", "b", "c"].map(|name| node.state(name)),
        ["Completed 0", "running", "running", "PodInitializing"]
    );
    node.exit("b", 0);
    node.settle();
    assert_eq!(
        (node.state("c").as_str(), node.phase(), node.condition("Ready")),
        ("running", "Running", "True")
    );
    node.exit("side", 1);
    node.settle();
    assert_eq!(node.state("side"), "running", "a sidecar is restarted");
    node.exit("c", 0);
    node.settle();
    assert_eq!((node.phase(), node.state("side").as_str()), ("Succeeded", "Error 137"));
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let mut node =
        Node::new(pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "a", "image": "i"}],
                                        "containers": [{"name": "c", "image": "i"}]})));
    node.settle();
    node.exit("a", 2);
    node.settle();
    assert_eq!((node.phase(), node.state("a").as_str()), ("Failed", "Error 2"));
    assert!(node.observed.latest("c").is_none());
}

#[test]
fn an_image_that_cannot_be_pulled_backs_off() {
    let mut node = Node::new(simple("Always"));
    node.broken.push("c".to_owned());
    node.settle();
    assert_eq!(node.state("c"), "ErrImagePull");
    node.pass(3);
    node.settle();
    assert_eq!(node.state("c"), "ImagePullBackOff");
    node.broken.clear();
    node.pass(8);
    node.settle();
    assert_eq!(node.state("c"), "running");
}

#[test]
fn deletion_kills_tells_removes_and_then_deletes() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.delete();
    node.log.clear();
    let last = node.settle();
    assert!(last.done);
    assert_eq!(
        node.log,
        [
            Action::Kill {
                id: "c0".into(),
                container: "c".into(),
                grace: 7,
                why: "Stopping container c".into(),
                replaces: false,
            },
            Action::StopSandbox { id: "s0".into() },
            Action::RemoveSandbox { id: "s0".into() },
            Action::Cleanup,
            Action::Delete,
        ]
    );
    assert_eq!((node.phase(), node.state("c").as_str()), ("Failed", "Error 137"));
}

#[test]
fn nothing_is_removed_before_the_api_server_knows_the_end() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.delete();
    node.exit("c", 0);
    node.look();
    node.memory.acknowledged = None;
    let view = View {
        pod: &node.pod,
        removed: false,
        observed: &node.observed,
        as_of: node.memory.ended,
        memory: &node.memory,
        now: node.now,
    };
    assert_eq!(plan(&view).actions, [Action::StopSandbox { id: "s0".into() }]);
}

#[test]
fn a_pod_that_is_gone_from_the_api_is_killed_and_forgotten() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.removed = true;
    assert!(node.settle().done);
    assert!(node.observed.sandboxes.is_empty());
    assert!(!node.log.contains(&Action::Delete));
}

#[test]
fn a_pod_is_not_active_for_longer_than_it_may() {
    let mut node = Node::new(pod(
        json!({"activeDeadlineSeconds": 30, "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}),
    ));
    node.settle();
    node.pass(29);
    assert!(node.settle().wake.is_some());
    node.pass(2);
    node.settle();
    assert_eq!((node.phase(), node.status().reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
    node.pass(1000);
    node.settle();
    assert_eq!(
        (node.phase(), node.status().reason.as_deref()),
        ("Failed", Some("DeadlineExceeded")),
        "it stays so"
    );
}

#[test]
fn probes_decide_on_readiness_and_life() {
    let mut node = Node::new(pod(json!({"containers": [{"name": "c", "image": "i",
        "startupProbe": {"tcpSocket": {"port": 1}}, "readinessProbe": {"tcpSocket": {"port": 1}}, "livenessProbe": {"tcpSocket": {"port": 1}}}]})));
    node.settle();
    assert_eq!((node.phase(), node.condition("Ready")), ("Running", "False"));
    let health = |ready, unhealthy| Health { id: "c0".into(), started: true, ready, unhealthy };
    node.memory.health.insert("c".into(), health(true, None));
    node.settle();
    assert_eq!(node.condition("Ready"), "True");
    node.memory.health.insert("c".into(), health(true, Some("liveness")));
    node.settle();
    assert!(node.log.contains(&Action::Kill {
        id: "c0".into(),
        container: "c".into(),
        grace: 30,
        why: "Container c failed liveness probe, will be restarted".into(),
        replaces: false,
    }));
    assert_eq!((node.restarts(), node.condition("Ready")), (1, "False"));
}

#[test]
fn a_sandbox_that_broke_is_made_anew() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.observed.sandboxes[0].ready = false;
    node.settle();
    assert_eq!(node.observed.sandbox().unwrap().id, "s1");
    assert_eq!(node.observed.latest("c").unwrap().sandbox, "s1");
    assert_eq!(node.restarts(), 1);
}

#[test]
fn a_restarted_kubelet_finds_its_pods() {
    let mut node = Node::new(simple("Always"));
    node.settle();
    node.memory = Memory::default();
    node.log.clear();
    node.settle();
    assert_eq!(node.log, [Action::MountVolumes], "containers are left alone");
    let mut fresh = Node::new(node.pod.clone());
    fresh.settle();
    assert_eq!(fresh.restarts(), 1, "a runtime that forgot everything does not make the count forget");
}

#[test]
fn environments_are_expanded_and_refer() {
    let pod = pod(json!({"serviceAccountName": "sa", "containers": [{"name": "c", "image": "i",
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
        "env": [
            {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(NOPE)$$(A)$(P_k)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}}]}]}));
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {}, "data": {"k": "v"}})).unwrap();
    let secret: Secret = serde_json::from_value(json!({"metadata": {}, "data": {"k": "cw=="}})).unwrap();
    let mut sources = Sources::default();
    sources.config_maps.insert("cm".into(), Some(map.into()));
    sources.secrets.insert("s".into(), Some(secret.into()));
    let ips = ["10.1.0.2".to_owned()];
    let host_ips = ["h".to_owned(), "h6".to_owned()];
    let allocatable = BTreeMap::from([("memory".to_owned(), 1 << 30)]);
    let known = Surroundings { pod: &pod, pod_ips: &ips, host_ips: &host_ips, allocatable: &allocatable };
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let env = env::build(container, &known, &sources, &Default::default()).unwrap();
    let text: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(known.field("status.hostIPs").unwrap(), "h,h6");
    assert_eq!(text, ["P_k=v", "A=1", "B=1$(NOPE)$(A)v", "NAME=p", "CPU=2", "MEM=64", "S=s"]);
    sources.secrets.insert("s".into(), None);
    let error = env::build(container, &known, &sources, &Default::default()).unwrap_err();
    assert_eq!(error.to_string(), "secret \"s\" not found");
}

#[test]
fn resources_become_cgroup_settings() {
    let of = |resources: serde_json::Value| {
        pod(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}))
    };
    for (resources, class, score, parent) in [
        (json!({}), "BestEffort", 1000, "/r/kubepods/besteffort/podu"),
        (json!({"requests": {"memory": "256Mi"}}), "Burstable", 750, "/r/kubepods/burstable/podu"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed", -997, "/r/kubepods/podu"),
    ] {
        let pod = of(resources);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(resources::qos(&pod), class);
        assert_eq!(resources::oom_score(&pod, container, 1 << 30), score);
        assert_eq!(resources::cgroup_parent("/r/", &pod), parent);
    }
    assert_eq!(
        (resources::shares(0), resources::shares(500), resources::quota(5), resources::quota(0)),
        (2, 512, 1000, 0)
    );
    let asked = resources::Asked { burstable_cpu: 1500, burstable_memory: 5, guaranteed_memory: 7 };
    let groups = |kept| -> Vec<_> {
        let groups = resources::class_groups("/r", &asked, kept, None).into_iter();
        groups.map(|(group, given)| (group, given.cpu_shares, given.kept)).collect()
    };
    let none = KeptMemory::default();
    let [all, first, last] = resources::cgroup_roots("/r");
    assert_eq!(groups(None), [(first.clone(), Some(1536), none), (last.clone(), Some(2), none)]);
    let (min, low) = (
        KeptMemory { never_taken: Some(12), taken_last: None },
        KeptMemory { never_taken: None, taken_last: Some(5) },
    );
    let wanted = [(all, None, min), (first, Some(1536), low), (last, Some(2), none)];
    assert_eq!(groups(Some((7, 5))), wanted);
    let most: Vec<_> = resources::class_groups("/r", &asked, None, Some([9, 8]))
        .into_iter()
        .map(|(_, given)| given.memory)
        .collect();
    assert_eq!(most, [Some(9), Some(8)]);
}

fn node_config(dns: &[IpAddr]) -> NodeConfig<'_> {
    NodeConfig {
        cluster_dns: dns,
        cluster_domain: "cluster.local",
        resolv_conf: Some(
            "# old\nnameserver 9.9.9.9\nsearch example.com\nsearch . example.org.\noptions ndots:1 rotate ndots:3\n",
        ),
        ips: vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()],
        cgroup_parent: "/kubepods/podu".to_owned(),
        sysctls: [("net.core.somaxconn".to_owned(), "9".to_owned())].into(),
        log_directory: "/logs".to_owned(),
    }
}

#[test]
fn names_are_resolved_as_the_policy_says() {
    let servers = ["10.96.0.10".parse().unwrap()];
    let node = node_config(&servers);
    let dns = |spec| dns::of_pod(&pod(spec), &node);
    let cluster = dns(json!({"dnsPolicy": "ClusterFirst", "containers": []}));
    assert_eq!(cluster.servers, ["10.96.0.10"]);
    assert_eq!(
        cluster.searches,
        ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"]
    );
    assert_eq!(cluster.options, ["ndots:5"]);
    assert_eq!(
        dns(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true, "containers": []})).servers,
        ["9.9.9.9"]
    );
    assert_eq!(
        dns(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true, "containers": []})).servers,
        ["10.96.0.10"]
    );
    let of_node = dns(json!({"dnsPolicy": "Default", "containers": []}));
    assert_eq!(of_node.searches, ["example.org"]);
    assert_eq!(of_node.options, ["rotate", "ndots:3"]);
    let none = dns(
        json!({"dnsPolicy": "None", "containers": [], "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}}),
    );
    assert_eq!((none.servers, none.options), (vec!["1.1.1.1".to_owned()], vec!["ndots:2".to_owned()]));
    // A node may keep its own servers to itself (`resolvConf: ""`).
    let node = NodeConfig { resolv_conf: None, ..node };
    let dns = |spec| dns::of_pod(&pod(spec), &node);
    let alone = dns(json!({"dnsPolicy": "Default", "containers": []}));
    assert_eq!(
        (alone.servers, alone.searches),
        (vec!["127.0.0.1".to_owned(), "::1".to_owned()], vec![".".to_owned()])
    );
    let cluster = dns(json!({"dnsPolicy": "ClusterFirst", "containers": []}));
    assert_eq!(cluster.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
}

#[test]
fn whoever_must_not_be_root_is_not() {
    let pod = pod(
        json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c", "image": "i", "command": ["$(A)"]}]}),
    );
    let spec = &pod.spec.as_ref().unwrap().containers[0];
    let made = |image_user| {
        let env = vec![("A".to_owned(), "sh".to_owned())];
        let prepared = Prepared {
            env,
            mounts: vec![],
            devices: vec![],
            image_ref: "r".into(),
            image_user,
            restarts: 2,
            target: String::new(),
            users: None,
            means: crate::pods::means::Means { memory: 1, quota: true, ..Default::default() },
            annotations: BTreeMap::new(),
            cdi: Vec::new(),
            placement: crate::exclusive::Placement::default(),
        };
        config::container(&pod, spec, prepared)
    };
    let good = made((Some(5), String::new())).unwrap();
    assert_eq!(good.stop_signal, 0, "it is left to the runtime");
    assert_eq!((good.command, good.log_path.as_str()), (vec!["sh".to_owned()], "c/2.log"));
    for (user, words) in [
        ((Some(0), String::new()), "image will run as root"),
        ((None, String::new()), "image will run as root"),
        ((None, "web".to_owned()), "non-numeric user (web)"),
    ] {
        assert!(made(user).unwrap_err().to_string().contains(words));
    }
}

#[test]
fn stop_signals_have_the_protocols_names() {
    for (name, signal) in [
        ("SIGUSR1", cri::v1::Signal::Sigusr1),
        ("SIGRTMIN", cri::v1::Signal::Sigrtmin),
        ("SIGRTMIN+3", cri::v1::Signal::Sigrtminplus3),
        ("SIGRTMAX-14", cri::v1::Signal::Sigrtmaxminus14),
    ] {
        let container = json!({"name": "c", "lifecycle": {"stopSignal": name}});
        let container = serde_json::from_value(container).unwrap();
        assert_eq!(config::stop_signal(&container), signal as i32, "{name}");
    }
}

#[test]
fn images_are_pulled_by_policy_with_the_credentials_of_their_registry() {
    for (policy, present, decision) in [
        ("Always", true, Decision::Pull),
        ("IfNotPresent", true, Decision::Use),
        ("IfNotPresent", false, Decision::Pull),
        ("Never", true, Decision::Use),
        ("Never", false, Decision::Refuse),
    ] {
        assert_eq!(decide(policy, present), decision, "{policy} {present}");
    }
    let config = r#"{"auths":{"reg.example:5000":{"auth":"dTpw"},"https://index.docker.io/v1/":{"username":"d","password":"q"}}}"#;
    let secret = Secret {
        data: Some([(".dockerconfigjson".to_owned(), k8s_openapi::ByteString(config.into()))].into()),
        ..Secret::default()
    };
    let of = |image| -> Vec<(String, String)> {
        let found = credentials(image, std::slice::from_ref(&secret)).into_iter();
        found.map(|(auth, _)| (auth.username, auth.password)).collect()
    };
    assert_eq!(of("reg.example:5000/a/b:1"), [("u".into(), "p".into())]);
    assert_eq!(of("nginx"), [("d".into(), "q".into())]);
    assert_eq!(of("quay.io/x"), []);
}

#[test]
fn all_credentials_that_fit_are_tried_the_most_particular_first() {
    let secret = |auths: serde_json::Value| Secret {
        data: Some(
            [(
                ".dockerconfigjson".to_owned(),
                k8s_openapi::ByteString(json!({"auths": auths}).to_string().into()),
            )]
            .into(),
        ),
        ..Secret::default()
    };
    let user = |name: &str| json!({"username": name, "password": "p"});
    let broken = Secret {
        data: Some([(".dockerconfigjson".to_owned(), k8s_openapi::ByteString(b"no json".to_vec()))].into()),
        ..Secret::default()
    };
    let secrets = [
        broken,
        secret(json!({"r.io": user("host"), "*.example.com": user("glob"), "docker.io": user("hub")})),
        secret(json!({"https://r.io/v2/team": user("team"), "r.io": user("second")})),
    ];
    for (image, users) in [
        ("r.io/team/x:1", vec!["team", "host", "second"]),
        ("r.io/other", vec!["host", "second"]),
        ("a.example.com/x", vec!["glob"]),
        ("a.b.example.com/x", vec![]),
        ("library/nginx", vec!["hub"]),
    ] {
        let found = credentials(image, &secrets).into_iter().map(|(auth, _)| auth.username);
        assert_eq!(found.collect::<Vec<_>>(), users, "{image}");
    }
}
