//! Every failpoint of a node, hit at least once: the process that comes there is killed, or the pod's shim while it is
//! there. Whatever it was: once the node is up again its pod comes right, has run once, and leaves nothing.
//!
//! The places are read from the sources, so that one that is new is walked without being named here. A round is one
//! pod's life with an image of its own, and several places, of which each is hit in turn.
//! `KNARR_CHAOS_GROUP` sets how many places share a round; with 1 each has one of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::footprint::{footprint, idle, kill, pid_of, runs, shims};
use super::places::{has_shim, is_of_pulls, places};
use super::registry::Registry;
use super::runs::number;
use super::{Target, node_with_a_witness};
use crate::cluster::Cluster;
use crate::image;

/// How many places share a round.
const GROUP: u64 = 8;
/// How long anything may take that comes true by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the kubelet keeps, it keeps of pods that have processors for themselves.
const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cpuManagerPolicy: static
reservedSystemCPUs: '0'
";

/// What happens at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// The process that comes there is killed.
    Process,
    /// The shims are, while it is there.
    Shim,
}

/// Which end a pod comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself.
    Done,
    /// It is deleted while it runs, and does as it is asked.
    Deleted,
    /// It is deleted, and does not listen.
    Killed,
    /// Its object is deleted while no kubelet runs.
    Orphaned,
}

impl End {
    /// The end that comes by a place.
    fn of(place: &str) -> Self {
        match place {
            "runtime.container.killed" => Self::Killed,
            place if place.starts_with("kubelet.orphan") => Self::Orphaned,
            "runtime.container.asked_to_stop" => Self::Deleted,
            place if place.starts_with("kubelet.stop_container") => Self::Deleted,
            // The object of one that is done is gone at once.
            place if place.starts_with("kubelet.cleanup") || place.starts_with("kubelet.delete") => {
                Self::Deleted
            }
            _ => Self::Done,
        }
    }
}

struct Walk {
    cluster: Cluster,
    /// What the kubelet is told.
    #[expect(dead_code, reason = "kept for as long as somebody reads it")]
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    target: Target,
    witness: PathBuf,
    registry: Registry,
    /// What the node holds without pods, once it had one.
    before: BTreeMap<&'static str, usize>,
    /// How often anything was started again.
    revived: usize,
}

impl Walk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("kubelet.yaml");
        std::fs::write(&config, KUBELET).unwrap();
        let (cluster, witness) = node_with_a_witness(&["--kubelet-config", config.to_str().unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let target = Target { kubeconfig: cluster.kubeconfig() };
        let before = BTreeMap::new();
        let registry = Registry::start(&cluster);
        let mut walk = Self { cluster, folder, runtime, target, witness, registry, before, revived: 0 };
        let pods = walk.pods();
        let made = pod("first", "docker.io/library/busybox:test", &walk.witness, End::Killed, false);
        walk.runtime.block_on(pods.create(&PostParams::default(), &made)).unwrap();
        let get = |walk: &Self| walk.runtime.block_on(pods.get_opt("first")).unwrap();
        walk.until("a pod to run", &[], |walk| get(walk).is_some_and(|pod| is(&pod, "Running")));
        walk.runtime.block_on(pods.delete("first", &DeleteParams::default())).unwrap();
        walk.until("it to go", &[], |walk| get(walk).is_none());
        // One of the other quality of service.
        walk.mirrored("first", &[]);
        let mut before = None;
        walk.until("a node without pods", &[], |walk| {
            before = idle(&walk.cluster);
            before.is_some()
        });
        walk.before = before.unwrap();
        walk
    }

    fn pods(&self) -> Api<Pod> {
        let client = self.runtime.block_on(self.target.client());
        Api::namespaced(client, "default")
    }

    /// The places that were hit and are held: the shims die, and whoever waits goes on.
    fn strike_held(&self, shim_places: &[String]) {
        for place in shim_places {
            let mark = self.cluster.failpoints().join(format!("{place}.hit"));
            if mark.exists() {
                shims(&self.cluster.dir().join("data")).into_iter().for_each(kill);
                std::fs::remove_file(&mark).unwrap();
            }
        }
    }

    /// Waits until something is so; meanwhile whoever died is started again.
    fn until(&mut self, what: &str, held: &[String], mut done: impl FnMut(&Self) -> bool) {
        let since = Instant::now();
        loop {
            self.strike_held(held);
            if ["runtime", "agent"].into_iter().any(|process| !runs(&self.cluster, process)) {
                self.revived += 1;
                self.cluster.again();
            }
            if done(self) {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "waited in vain for {what}\n{:?}\n{}",
                self.runtime.block_on(self.pods().list(&Default::default())).map(|list| list.items),
                self.cluster.logs()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One pod's life, in which `places` are hit. Those to which nobody came, because the way was another one after what
    /// happened at the others.
    fn round(&mut self, name: &str, places: &[String], blow: Blow, end: End) -> Vec<String> {
        let armed = self.cluster.failpoints();
        let held: Vec<String> = if blow == Blow::Shim { places.to_vec() } else { Vec::new() };
        let mark = if blow == Blow::Shim { "hold" } else { "" };
        places.iter().for_each(|place| std::fs::write(armed.join(place), mark).unwrap());
        if places.iter().any(|place| place.starts_with("runtime.recover")) {
            pid_of(&self.cluster, "runtime").into_iter().for_each(kill);
        }
        let mut image = format!("docker.io/library/{name}:test");
        let archive = image::busybox_with(self.cluster.dir(), &image, name);
        let pulls = places.iter().any(|place| is_of_pulls(place));
        if pulls {
            image = self.registry.serve(&archive, name);
        }
        self.until("the image", &held, |walk| {
            let command = if pulls { ["image", "pull", &image] } else { ["image", "import", &archive] };
            walk.cluster.run_knarr(&command).status.success()
        });
        let mut succeeded = false;
        let pods = self.pods();
        let own_users = places.iter().any(|place| place.starts_with("kubelet.users"));
        let made = pod(name, &image, &self.witness, end, own_users);
        if places.iter().any(|place| place.starts_with("kubelet.mirror")) {
            self.mirrored(name, &held);
        }
        self.runtime.block_on(pods.create(&PostParams::default(), &made)).unwrap();
        let get = |walk: &Self| walk.runtime.block_on(pods.get_opt(name)).unwrap();
        // Without its shim a container may not come to run, which is its pod's end.
        let begun = |pod: &Pod| is(pod, "Running") || blow == Blow::Shim && is_over(pod);
        self.until("the pod to run", &held, |walk| get(walk).is_some_and(|pod| begun(&pod)));
        // Beside the test, which has to let go of whoever is held on the way.
        let mut asked: Option<JoinHandle<bool>> = None;
        self.until("a command in it", &held, |walk| {
            let answer = match asked.take() {
                Some(running) if !running.is_finished() => {
                    asked = Some(running);
                    return false;
                }
                answered => answered.is_some_and(|answered| answered.join().unwrap()),
            };
            if answer || get(walk).is_none_or(|pod| !is(&pod, "Running")) {
                return true;
            }
            asked = Some(walk.ask(name));
            false
        });
        if end == End::Done {
            std::fs::write(self.witness.join(format!("{name}.end")), "").unwrap();
            self.until("the pod to be done", &held, |walk| get(walk).is_some_and(|pod| is_over(&pod)));
            let pod = get(self).unwrap();
            // Nobody saw how a container ended whose shim died with it.
            assert!(blow == Blow::Shim || is(&pod, "Succeeded"), "{places:?}: {:?}", pod.status);
            succeeded = is(&pod, "Succeeded");
        }
        if end == End::Orphaned {
            pid_of(&self.cluster, "agent").into_iter().for_each(kill);
            self.runtime.block_on(pods.delete(name, &DeleteParams::default().grace_period(0))).unwrap();
        } else {
            self.runtime.block_on(pods.delete(name, &DeleteParams::default())).unwrap();
        }
        self.until("the pod to go", &held, |walk| get(walk).is_none());
        self.until("the image to go", &held, |walk| {
            walk.cluster.run_knarr(&["image", "rm", &image]).status.success()
        });
        let since = Instant::now();
        self.until("the node to be as it was", &held, |walk| {
            let (now, before) = (footprint(&walk.cluster), &walk.before);
            if now != *before && since.elapsed() > PATIENCE / 2 {
                eprintln!("after {places:?}: {now:?} is not yet {before:?}");
                std::thread::sleep(Duration::from_secs(5));
            }
            now == *before
        });
        // Not before: a pod that was done is gone from the API at once, and the node clears away what is left of it.
        let missed = places.iter().filter(|place| armed.join(place).exists()).cloned().collect();
        let ran = std::fs::read_to_string(self.witness.join(name)).unwrap_or_default().lines().count();
        let fits = ran == 1 || blow == Blow::Shim && ran == 0 && !succeeded;
        assert!(fits, "{places:?}: the container ran {ran} times\n{}", self.cluster.logs());
        for entry in std::fs::read_dir(&armed).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        missed
    }
}

impl Walk {
    /// Whether a command in a pod is heard of.
    fn ask(&self, name: &str) -> JoinHandle<bool> {
        let mut command = crate::cluster::kubectl();
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig());
        command.args(["exec", name, "--", "echo", "hello"]);
        std::thread::spawn(move || command.output().unwrap().stdout == b"hello\n")
    }

    /// A static pod comes, is shown, and goes.
    fn mirrored(&mut self, name: &str, held: &[String]) {
        let node = format!("{}-1", self.cluster.name());
        let manifest = self.cluster.dir().join("data/nodes").join(&node).join("manifests/m.json");
        let name = format!("{name}-static");
        let container = json!({"name": "c", "image": "docker.io/library/busybox:test",
            "imagePullPolicy": "Never", "command": ["sleep", "1000"]});
        let made = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
        std::fs::write(&manifest, made.to_string()).unwrap();
        let pods = self.pods();
        let mirror = |walk: &Self| walk.runtime.block_on(pods.get_opt(&format!("{name}-{node}"))).unwrap();
        self.until("a static pod to run", held, |walk| mirror(walk).is_some_and(|pod| is(&pod, "Running")));
        std::fs::remove_file(manifest).unwrap();
        self.until("a static pod to go", held, |walk| mirror(walk).is_none());
    }
}

fn is(pod: &Pod, phase: &str) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
}

fn is_over(pod: &Pod) -> bool {
    is(pod, "Succeeded") || is(pod, "Failed")
}

fn pod(name: &str, image: &str, witness: &Path, end: End, own_users: bool) -> Pod {
    // What volumes bring is there.
    let begin = format!("[ -s /t/name ] || exit 9; echo begun >> /witness/{name}");
    let script = match end {
        End::Killed => format!("{begin}; exec sleep 1000"),
        _ => format!(
            "{begin}; trap 'exit 0' TERM; while [ ! -e /witness/{name}.end ]; do sleep 0.05; done; exit 0"
        ),
    };
    let container = |name: &str, command: Vec<&str>| {
        json!({
            "name": name, "image": image, "imagePullPolicy": "Never", "command": command,
            "volumeMounts": [{"name": "witness", "mountPath": "/witness"}, {"name": "m", "mountPath": "/m"},
                             {"name": "d", "mountPath": "/s", "subPath": "a/b"}, {"name": "t", "mountPath": "/t"}],
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
        })
    };
    let with_port = |mut container: serde_json::Value| {
        container["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
        container
    };
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": if end == End::Killed { 1 } else { 30 },
        "initContainers": [container("i", vec!["true"])],
        "hostUsers": !own_users,
        "containers": [with_port(container("c", vec!["sh", "-c", &script]))],
        "volumes": [
            {"name": "witness", "hostPath": {"path": witness}},
            {"name": "m", "emptyDir": {"medium": "Memory"}},
            {"name": "d", "emptyDir": {}},
            {"name": "t", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
    });
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

/// Places that are spread over the rounds, so that each has some of every phase.
fn spread(places: &[String], group: usize) -> Vec<Vec<String>> {
    let rounds = places.len().div_ceil(group).max(1);
    (0..rounds).map(|first| places.iter().skip(first).step_by(rounds).cloned().collect()).collect()
}

#[test]
fn a_process_that_is_killed_at_any_failpoint_is_taken_over_from() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let mut walk = Walk::new();
    let group = usize::try_from(number("KNARR_CHAOS_GROUP", GROUP)).unwrap();
    let all = places();
    assert!(all.len() > 70, "{all:?}");
    let mut rounds = 0;
    for end in [End::Done, End::Deleted, End::Killed, End::Orphaned] {
        let of_end: Vec<String> = all.iter().filter(|place| End::of(place) == end).cloned().collect();
        for places in spread(&of_end, group) {
            rounds += 1;
            let missed = walk.round(&format!("k{rounds}"), &places, Blow::Process, end);
            for place in missed {
                rounds += 1;
                let missed = walk.round(&format!("k{rounds}"), &[place], Blow::Process, end);
                assert_eq!(missed, Vec::<String>::new(), "nobody comes there\n{}", walk.cluster.logs());
            }
        }
    }
    // The same with the shim, at some places of each phase of its life; by hand at all of them.
    let of_shim: Vec<String> = all.iter().filter(|place| has_shim(place)).cloned().collect();
    assert!(of_shim.len() > 10, "{of_shim:?}");
    for places in spread(&of_shim, 1).into_iter().step_by(if group == 1 { 1 } else { 5 }) {
        rounds += 1;
        walk.round(&format!("k{rounds}"), &places, Blow::Shim, End::of(&places[0]));
    }
    println!("{} places, {rounds} pods, {} processes started again", all.len(), walk.revived);
    assert!(walk.revived > all.len() / 2, "only {} processes died", walk.revived);
    assert_eq!(walk.cluster.down(), Vec::<String>::new(), "left behind");
}
