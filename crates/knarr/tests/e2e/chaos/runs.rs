//! kill -9 of whatever runs a node, at failpoints and between them, while pods of every shape come and go: no container runs
//! twice, none is lost, and nothing is left behind: mounts, links, rules, addresses, cgroups, processes and files are counted
//! before and after.
//!
//! In each run something is killed: the process that comes to a place that was drawn, a neighbour of a process that is held
//! there, or anything at any time. `KNARR_CHAOS_RUNS` and `KNARR_CHAOS_SEED` set another number of runs and another course.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base::{Random, SeededRandom, SystemClock};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::footprint::{footprint, idle, kill, pid_of, programs, shims};
use super::places::{is_of_pulls, places};
use super::registry::Registry;
use super::shapes::{self, LABEL, is_lasting, is_over, pod};
use super::{Target, node_with_a_witness};
use crate::cluster::{Cluster, patiently};
use crate::image;

const RUNS: u64 = 40;
/// Pods at one time.
const CROWD: usize = 6;
const FIFTY: usize = 50;
/// How long somebody may take to come to a place.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Where a launcher waits before it does anything.
const LAUNCHER: &str = "runtime.launcher.begun";

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Server,
    Runtime,
    Agent,
    Shim,
    Launcher,
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moment {
    /// Whoever comes to a place, so many passes later.
    Itself(String, u64),
    /// While somebody is at a place.
    Beside(String, Victim),
    /// While a launcher waits.
    Launching(Victim),
    /// Whenever.
    Any(Victim),
}

impl Moment {
    fn draw(random: &dyn Random, places: &[String]) -> Self {
        let place = || places[usize::try_from(random.below(places.len() as u64)).unwrap()].clone();
        let victims = [Victim::Runtime, Victim::Agent, Victim::Shim, Victim::Server];
        let victim = |of: u64| victims[usize::try_from(random.below(of)).unwrap()];
        match random.below(10) {
            0..=4 => Self::Itself(place(), random.below(3)),
            5 | 6 => Self::Beside(place(), victim(3)),
            7 => Self::Launching(Victim::Launcher),
            8 => Self::Launching(victim(3)),
            _ => Self::Any(victim(4)),
        }
    }
}

/// What was killed.
#[derive(Debug, Default)]
struct Struck {
    /// How many of each kind of process were killed.
    killed: BTreeMap<Victim, usize>,
    /// The places at which somebody was.
    at_places: BTreeSet<String>,
    /// How often nobody came to a place in time.
    missed: usize,
    /// Pods that were there when a shim or a launcher was killed.
    pods: BTreeSet<String>,
}

struct Crowd {
    cluster: Cluster,
    runtime: tokio::runtime::Runtime,
    pods: Api<Pod>,
    random: SeededRandom,
    witness: PathBuf,
    registry: Registry,
    own_users: bool,
    next: u64,
    problems: Vec<String>,
    struck: Struck,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let (cluster, witness) = node_with_a_witness(&[]);
        cluster.apply(&shapes::needs(&witness));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let target = Target { kubeconfig: cluster.kubeconfig() };
        let client = runtime.block_on(target.client());
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = runtime.block_on(nodes.list(&ListParams::default())).unwrap().items;
        let handlers = nodes[0].status.iter().flat_map(|status| status.runtime_handlers.iter().flatten());
        let own_users = handlers
            .filter_map(|handler| handler.features.as_ref())
            .any(|features| features.user_namespaces == Some(true));
        let registry = Registry::start(&cluster);
        Self {
            cluster,
            registry,
            runtime,
            pods: Api::namespaced(client, "default"),
            random: SeededRandom::new(seed),
            witness,
            own_users,
            next: 0,
            problems: Vec::new(),
            struck: Struck::default(),
        }
    }

    fn all(&self) -> Vec<Pod> {
        self.runtime.block_on(self.pods.list(&ListParams::default().labels(LABEL))).unwrap().items
    }

    fn create(&mut self) {
        let made = pod(self.next, &self.witness, self.own_users);
        self.next += 1;
        self.runtime.block_on(self.pods.create(&PostParams::default(), &made)).unwrap();
    }

    fn judge(&mut self, pod: &Pod) {
        let struck = self.struck.pods.contains(name(pod));
        let found = shapes::problems(pod, &self.witness, struck);
        if !found.is_empty() {
            println!("{found:#?}\n{}", self.cluster.kubectl(&["describe", "pod", name(pod)]));
        }
        self.problems.extend(found);
    }

    fn delete(&self, pod: &Pod) {
        match self.runtime.block_on(self.pods.delete(name(pod), &DeleteParams::default())) {
            // It was being deleted, and is gone since it was listed.
            Err(kube::Error::Api(status))
                if status.code == 404 && pod.metadata.deletion_timestamp.is_some() => {}
            other => drop(other.unwrap()),
        }
    }

    /// Keeps the crowd at its size: those that are over go, and now and then one that is not.
    fn stir(&mut self) {
        let all = self.all();
        for pod in all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let over = is_over(pod);
            if over || self.random.below(if is_lasting(pod) { 3 } else { 8 }) == 0 {
                if over {
                    self.judge(pod);
                }
                self.delete(pod);
            }
        }
        (all.len()..CROWD).for_each(|_| self.create());
    }

    /// Has somebody come to a place that pods alone do not lead to; to be waited for when nobody is held any more.
    fn lead_to(&self, place: &str) -> Option<JoinHandle<()>> {
        let mut commands = Vec::new();
        if place.starts_with("runtime.recover") {
            pid_of(&self.cluster, "runtime").into_iter().for_each(kill);
            commands.push(self.cluster.up_command());
        } else if place.starts_with("runtime.image") {
            let name = format!("docker.io/library/k{}:test", self.next);
            let archive = image::busybox_with(self.cluster.dir(), &name, &name);
            let name = if is_of_pulls(place) {
                let name = self.registry.serve(&archive, &format!("k{}", self.next));
                commands.push(self.cluster.own_command(&["image", "pull", &name]));
                name
            } else {
                commands.push(self.cluster.own_command(&["image", "import", &archive]));
                name
            };
            commands.push(self.cluster.own_command(&["image", "rm", &name]));
        }
        (!commands.is_empty()).then(|| {
            std::thread::spawn(move || {
                // Whoever does it may be killed meanwhile.
                commands.iter_mut().for_each(|command| drop(command.output().unwrap()));
            })
        })
    }

    fn strike(&mut self, victim: Victim) {
        let data = self.cluster.dir().join("data");
        let found = match victim {
            Victim::Server => pid_of(&self.cluster, "server").into_iter().collect(),
            Victim::Runtime => pid_of(&self.cluster, "runtime").into_iter().collect(),
            Victim::Agent => pid_of(&self.cluster, "agent").into_iter().collect(),
            Victim::Shim => {
                let mut shims = shims(&data);
                let chosen = usize::try_from(self.random.below(shims.len().max(1) as u64)).unwrap();
                shims.drain(..).skip(chosen).take(1).collect()
            }
            Victim::Launcher => programs(&data, "launcher-"),
        };
        found.iter().copied().for_each(kill);
        println!("{} {victim:?} {found:?}", SystemClock::shared().now());
        *self.struck.killed.entry(victim).or_default() += found.len();
        if matches!(victim, Victim::Shim | Victim::Launcher) && !found.is_empty() {
            self.note_struck();
        }
    }

    /// Whose shim it was is not looked for: any of those that are there.
    fn note_struck(&mut self) {
        let all = self.all();
        self.struck.pods.extend(all.iter().map(|pod| name(pod).to_owned()));
    }

    fn at_place(&mut self, place: &str, text: &str, victim: Option<Victim>) {
        let (armed, mark) =
            (self.cluster.failpoints().join(place), self.cluster.failpoints().join(format!("{place}.hit")));
        std::fs::write(&armed, text).unwrap();
        self.stir();
        let led = self.lead_to(place);
        let since = Instant::now();
        let mut stirred = since;
        while !mark.exists() && since.elapsed() < PATIENCE {
            if stirred.elapsed() > PATIENCE / 4 {
                self.stir();
                stirred = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        match (mark.exists(), victim) {
            (false, _) => self.struck.missed += 1,
            (true, Some(victim)) => {
                self.struck.at_places.insert(place.to_owned());
                self.strike(victim);
            }
            (true, None) => {
                self.struck.at_places.insert(place.to_owned());
                let died = if place.starts_with("kubelet") { Victim::Agent } else { Victim::Runtime };
                *self.struck.killed.entry(died).or_default() += 1;
            }
        }
        // It may be hit just now.
        let _ = (std::fs::remove_file(armed), std::fs::remove_file(mark));
        led.into_iter().for_each(|led| led.join().unwrap());
    }

    fn run(&mut self, places: &[String]) {
        let moment = Moment::draw(&self.random, places);
        println!("{} {moment:?}", SystemClock::shared().now());
        match moment {
            Moment::Itself(place, passes) => self.at_place(&place, &passes.to_string(), None),
            Moment::Beside(place, victim) => self.at_place(&place, "hold", Some(victim)),
            Moment::Launching(victim) => self.at_place(LAUNCHER, "hold", Some(victim)),
            Moment::Any(victim) => {
                self.stir();
                std::thread::sleep(Duration::from_millis(self.random.below(350)));
                self.strike(victim);
            }
        }
        self.cluster.again();
    }

    /// Whatever ends by itself does, whatever lasts is there, and all of it goes.
    fn settle(&mut self) {
        let settled = |pod: &Pod| {
            pod.metadata.deletion_timestamp.is_some()
                || if is_lasting(pod) {
                    // One whose launcher was killed counts as running while it waits to be started again.
                    shapes::phase(pod) == "Running" && shapes::lives(pod, &self.witness)
                } else {
                    is_over(pod)
                }
        };
        let mut late = Vec::new();
        let done = patiently(|| {
            late = self.all();
            late.retain(|pod| !settled(pod));
            late.is_empty()
        });
        assert!(done, "neither run nor done: {}\n{}", json!(late), self.cluster.logs());
        let all = self.all();
        for pod in all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            self.judge(pod);
        }
        all.iter().for_each(|pod| self.delete(pod));
        self.cluster.until("the pods to go", || self.all().is_empty());
        let twice = std::fs::read_to_string(self.witness.join("twice")).unwrap_or_default();
        self.problems.extend(twice.lines().map(|name| format!("{name} ran beside itself")));
    }

    /// What the node holds when there are no pods, after one of each shape: what it has for good once it had pods is no
    /// leak.
    fn without_pods(&mut self) -> BTreeMap<&'static str, usize> {
        (0..shapes::SHAPES).for_each(|_| self.create());
        self.settle();
        let mut before = None;
        self.cluster.until("a node without pods", || {
            before = idle(&self.cluster);
            before.is_some()
        });
        let before = before.unwrap();
        assert!(before["links"] > 0 && before["mounts"] > 0 && before["cgroups"] > 0, "{before:?}");
        before
    }

    fn is_as(&self, before: &BTreeMap<&'static str, usize>) {
        self.cluster.until("the node to be as it was", || {
            let now = footprint(&self.cluster);
            if now != *before {
                eprintln!("{now:?} is not yet {before:?}");
                std::thread::sleep(Duration::from_millis(500));
            }
            now == *before
        });
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

/// What these pods do not lead to: they have no processors for themselves, no manifests, and no kubelet misses their end.
fn is_elsewhere(place: &str) -> bool {
    ["kubelet.checkpoint", "kubelet.mirror", "kubelet.orphan"].iter().any(|part| place.starts_with(part))
}

/// A number that the environment may set.
#[expect(clippy::disallowed_methods, reason = "whoever runs this test by hand says so in the environment")]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_node_of_which_anything_is_killed_runs_each_pod_once_and_leaves_nothing() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let (wanted, seed) = (number("KNARR_CHAOS_RUNS", RUNS), number("KNARR_CHAOS_SEED", 20_261_125));
    let mut crowd = Crowd::new(seed);
    let before = crowd.without_pods();

    let places: Vec<String> = places().into_iter().filter(|place| !is_elsewhere(place)).collect();
    for run in 0..wanted {
        crowd.run(&places);
        let problems = &crowd.problems;
        assert!(problems.is_empty(), "run {run} of seed {seed}: {problems:#?}\n{}", crowd.cluster.logs());
    }
    crowd.settle();
    assert!(crowd.problems.is_empty(), "seed {seed}: {:#?}\n{}", crowd.problems, crowd.cluster.logs());
    crowd.is_as(&before);
    let Struck { killed, at_places, missed, pods } = &crowd.struck;
    println!(
        "seed {seed}: {wanted} runs, {} pods, killed {killed:?}, at {} places, {missed} times nobody came, {} pods struck",
        crowd.next,
        at_places.len(),
        pods.len()
    );
    println!("left as before: {before:?}");
    assert!(killed.values().sum::<usize>() > usize::try_from(wanted / 2).unwrap(), "too few were killed");
    assert_eq!(crowd.cluster.down(), Vec::<String>::new(), "left behind");
}

#[test]
fn fifty_pods_come_and_go_while_all_of_it_is_killed() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let mut crowd = Crowd::new(20_261_127);
    let before = crowd.without_pods();
    (0..FIFTY).for_each(|_| crowd.create());
    for part in 0..3 {
        std::thread::sleep(Duration::from_millis(crowd.random.below(800)));
        super::kill(&crowd.cluster, &crowd.random, true);
        crowd.cluster.again();
        // The second time while they go.
        if part == 0 {
            let going: Vec<Pod> = crowd.all().into_iter().step_by(2).collect();
            going.iter().for_each(|pod| crowd.delete(pod));
        }
    }
    crowd.settle();
    assert!(crowd.problems.is_empty(), "{:#?}\n{}", crowd.problems, crowd.cluster.logs());
    crowd.is_as(&before);
    assert_eq!(crowd.cluster.down(), Vec::<String>::new(), "left behind");
}
