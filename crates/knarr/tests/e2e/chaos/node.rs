//! kill -9 of whatever runs a node, while pods of every phase come and go: no container runs twice, none is lost, and
//! nothing is left behind: mounts, links, addresses, cgroups, processes and folders are counted before and after.
//!
//! `KNARR_CHAOS_ROUNDS` and `KNARR_CHAOS_SEED` set another number of rounds and another course;
//! `KNARR_CHAOS_FAILPOINTS=1` also kills launchers, and processes at failpoints.

use std::path::Path;
use std::time::{Duration, Instant};

use base::{Random, SeededRandom};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::Target;
use super::failpoints::places;
use super::footprint::{footprint, kill, pid_of, programs, shims};
use crate::cluster::Cluster;
use crate::image;

const ROUNDS: u64 = 40;
/// Pods at one time.
const CROWD: usize = 10;

/// What was killed, and where.
#[derive(Debug, Default)]
struct Struck {
    shims: usize,
    launchers: usize,
    failpoints: usize,
}

impl Struck {
    /// Names places at which whoever comes there next, or a little later, is to die.
    fn arm(cluster: &Cluster, random: &dyn Random, places: &[String]) {
        let count = if places.is_empty() { 0 } else { random.below(4) };
        for _ in 0..count {
            let place = &places[usize::try_from(random.below(places.len() as u64)).unwrap()];
            std::fs::write(cluster.failpoints().join(place), random.below(4).to_string()).unwrap();
        }
    }

    /// Takes back what nobody came to.
    fn disarm(&mut self, cluster: &Cluster) {
        for entry in std::fs::read_dir(cluster.failpoints()).unwrap() {
            let path = entry.unwrap().path();
            self.failpoints += usize::from(path.extension().is_some_and(|extension| extension == "hit"));
            // It may be hit just now.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Kills some of what runs the node.
    fn strike(&mut self, cluster: &Cluster, random: &dyn Random, launchers: bool) {
        for process in ["agent", "runtime"] {
            if random.below(2) == 0 {
                pid_of(cluster, process).into_iter().for_each(kill);
            }
        }
        let data = cluster.dir().join("data");
        let shims = shims(&data);
        if !shims.is_empty() && random.below(4) == 0 {
            let chosen = usize::try_from(random.below(shims.len() as u64)).unwrap();
            kill(shims[chosen]);
            self.shims += 1;
        }
        if launchers && random.below(4) == 0 {
            // They live for a few milliseconds.
            let until = Instant::now() + Duration::from_millis(50);
            while self.launchers_killed(&data) == 0 && Instant::now() < until {}
        }
    }

    fn launchers_killed(&mut self, data: &Path) -> usize {
        let found = programs(data, "launcher-");
        found.iter().copied().for_each(kill);
        self.launchers += found.len();
        found.len()
    }
}

fn pod(number: u64, witness: &Path) -> Pod {
    let name = format!("p{number}");
    let once = number.is_multiple_of(2);
    let script = match once {
        true => format!("echo $UID_ >> /witness/{name}; sleep 0.{}; exit 0", number % 7),
        false => format!("echo $UID_ >> /witness/{name}; exec sleep 1000"),
    };
    let container = json!({
        "name": "c", "image": "docker.io/library/busybox:test", "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "env": [{"name": "UID_", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "volumeMounts": [{"name": "witness", "mountPath": "/witness"}, {"name": "m", "mountPath": "/m"},
                         {"name": "d", "mountPath": "/s", "subPath": "a/b"}],
    });
    let init = json!({"name": "i", "image": "docker.io/library/busybox:test", "imagePullPolicy": "Never",
        "command": ["true"]});
    let spec = json!({
        "restartPolicy": if once { "Never" } else { "Always" },
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": number.is_multiple_of(3),
        "initContainers": if number.is_multiple_of(3) { vec![init] } else { vec![] },
        "containers": [container],
        "volumes": [{"name": "witness", "hostPath": {"path": witness}}, {"name": "m", "emptyDir": {"medium": "Memory"}},
                    {"name": "d", "emptyDir": {}}],
    });
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"crowd": "y"}}, "spec": spec}))
        .unwrap()
}

/// Keeps the crowd at its size: those that are over go, and now and then one that is not.
async fn stir(
    pods: &Api<Pod>,
    random: &dyn Random,
    next: &mut u64,
    witness: &Path,
    problems: &mut Vec<String>,
) {
    let all = pods.list(&ListParams::default().labels("crowd=y")).await.unwrap().items;
    for pod in &all {
        let name = pod.metadata.name.as_deref().unwrap();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let over = matches!(phase, "Succeeded" | "Failed");
        if pod.metadata.deletion_timestamp.is_none() && (over || random.below(5) == 0) {
            if over {
                judge(pod, witness, problems);
            }
            pods.delete(name, &DeleteParams::default()).await.unwrap();
        }
    }
    for _ in all.len()..CROWD {
        pods.create(&PostParams::default(), &pod(*next, witness)).await.unwrap();
        *next += 1;
    }
}

/// A number that the environment may set.
#[expect(clippy::disallowed_methods, reason = "whoever runs this test by hand says so in the environment")]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Whether a pod that ran once did so.
fn judge(pod: &Pod, witness: &Path, problems: &mut Vec<String>) {
    let name = pod.metadata.name.as_deref().unwrap();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let lines = std::fs::read_to_string(witness.join(name)).unwrap_or_default().lines().count();
    if lines > 1 || (phase == "Succeeded" && lines != 1) {
        problems.push(format!("{name} is {phase} and ran {lines} times"));
    }
}

#[test]
fn a_node_whose_processes_are_killed_runs_each_pod_once_and_leaves_nothing() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let (rounds, seed) = (number("KNARR_CHAOS_ROUNDS", ROUNDS), number("KNARR_CHAOS_SEED", 20_261_125));
    let cluster = Cluster::up(&["--nodes", "1"]);
    let archive = image::busybox(cluster.dir(), "docker.io/library/busybox:test");
    cluster.knarr(&["image", "import", &archive]);
    let witness = cluster.dir().join("witness");
    std::fs::create_dir(&witness).unwrap();
    let before = footprint(&cluster);
    assert!(before["links"] > 0 && before["mounts"] > 0, "{before:?}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let target = Target { kubeconfig: cluster.kubeconfig() };
    let client = runtime.block_on(target.client());
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let random = SeededRandom::new(seed);
    let (mut next, mut problems, mut struck) = (0, Vec::new(), Struck::default());
    let inside = number("KNARR_CHAOS_FAILPOINTS", 0) > 0;
    let places = if inside { places() } else { Vec::new() };
    std::fs::create_dir(cluster.failpoints()).unwrap();
    for round in 0..rounds {
        Struck::arm(&cluster, &random, &places);
        runtime.block_on(stir(&pods, &random, &mut next, &witness, &mut problems));
        std::thread::sleep(Duration::from_millis(random.below(350)));
        struck.strike(&cluster, &random, inside);
        struck.disarm(&cluster);
        cluster.again();
        assert_eq!(problems, Vec::<String>::new(), "round {round} of seed {seed}\n{}", cluster.logs());
    }
    // All that ran once comes to its end by itself.
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap();
    let all = || runtime.block_on(pods.list(&ListParams::default().labels("crowd=y"))).unwrap().items;
    cluster.until("the pods that run once", || {
        all().iter().all(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
            pod.spec.as_ref().unwrap().restart_policy.as_deref() != Some("Never")
                || pod.metadata.deletion_timestamp.is_some()
                || matches!(phase, "Succeeded" | "Failed")
        })
    });
    for pod in all() {
        if pod.spec.as_ref().unwrap().restart_policy.as_deref() == Some("Never") {
            judge(&pod, &witness, &mut problems);
        }
        match runtime.block_on(pods.delete(&name(&pod), &DeleteParams::default())) {
            // It was being deleted, and is gone since it was listed.
            Err(kube::Error::Api(status))
                if status.code == 404 && pod.metadata.deletion_timestamp.is_some() => {}
            other => drop(other.unwrap()),
        }
    }
    assert_eq!(problems, Vec::<String>::new(), "seed {seed}\n{}", cluster.logs());
    cluster.until("the pods to go", || all().is_empty());
    cluster.until("the node to be as it was", || {
        footprint(&cluster) == before || {
            std::thread::sleep(Duration::from_millis(500));
            eprintln!("{:?} is not yet {before:?}", footprint(&cluster));
            false
        }
    });
    println!("{rounds} rounds, {next} pods, {struck:?}");
    assert!(next > CROWD as u64, "no pods came and went");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
