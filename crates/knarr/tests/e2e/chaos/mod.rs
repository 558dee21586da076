//! kill -9, fifty times: while writers note what was acknowledged and watchers what they saw, and a container runs.

mod failpoints;
mod footprint;
mod history;
mod places;
mod registry;
mod runs;
mod shapes;
mod watcher;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Random, SeededRandom};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;

use crate::cluster::Cluster;
use crate::image;
use history::{History, check};

const ROUNDS: u64 = 50;
const WRITERS: usize = 3;
const WATCHERS: usize = 2;

/// A process, and when it started.
type Process = (i32, String);

/// The processes whose command line holds `mark`.
fn marked(mark: &str) -> BTreeSet<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        // A process may end while it is looked at.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let held = String::from_utf8_lossy(&line).split('\0').any(|word| word == mark);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
        held.then_some((pid, start))
    })
    .collect()
}

/// Kills the cluster's processes: all of them, or a part that is chosen at random. Shims are left alone.
fn kill(cluster: &Cluster, random: &dyn Random, all: bool) {
    let dir = PathBuf::from("/run/knarr").join(cluster.name());
    for entry in std::fs::read_dir(dir).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") || (!all && random.below(2) == 0) {
            continue;
        }
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let pid = record["pid"].as_i64().unwrap() as i32;
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if program.file_name().is_some_and(|name| name == "knarr") {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Every writer's and every watcher's cluster: connects anew whenever it must.
pub struct Target {
    kubeconfig: String,
}

impl Target {
    async fn client(&self) -> kube::Client {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        client::connect::kubeconfig(&text).await.unwrap()
    }
}

/// A cluster of one node with an image, whose processes look for failpoints, and the folder in which its pods write down
/// what ran of them.
fn node_with_a_witness(flags: &[&str]) -> (Cluster, PathBuf) {
    let cluster = Cluster::up(&[&["--nodes", "1"][..], flags].concat());
    let archive = image::busybox(cluster.dir(), "docker.io/library/busybox:test");
    cluster.knarr(&["image", "import", &archive]);
    let witness = cluster.dir().join("witness");
    std::fs::create_dir(&witness).unwrap();
    // Pods that have users of their own write there, too.
    std::fs::set_permissions(&witness, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::create_dir(cluster.failpoints()).unwrap();
    (cluster, witness)
}

#[test]
fn fifty_times_kill_9_loses_nothing_and_ends_no_container() {
    if !crate::cluster::is_root() {
        eprintln!("skipped: nodes need root");
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1"]);
    let archive = image::busybox(cluster.dir(), "docker.io/library/busybox:test");
    cluster.knarr(&["image", "import", &archive]);
    let mark = format!("10{:07}", std::process::id());
    let command = ["--command", "--", "/bin/busybox", "sleep", &mark];
    cluster.kubectl(&[&["run", "kept", "--image=docker.io/library/busybox:test"][..], &command].concat());
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/kept", "--timeout=60s"]);
    let before = marked(&mark);
    assert_eq!(before.len(), 1, "{before:?}");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let history = Arc::new(History::default());
    let target = Arc::new(Target { kubeconfig: cluster.kubeconfig() });
    let stop = base::Shutdown::new();
    let work = base::TaskGroup::new(&stop);
    runtime.block_on(async {
        for number in 0..WRITERS {
            let (target, history, stop) = (target.clone(), history.clone(), stop.clone());
            work.spawn_graceful(async move { writer::run(number, &target, &history, &stop).await });
        }
    });
    let watching = base::Shutdown::new();
    let watchers: Vec<_> =
        (0..WATCHERS).map(|_| runtime.spawn(watcher::run(target.clone(), watching.clone()))).collect();
    let seed = 20_261_124;
    let random = SeededRandom::new(seed);
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(random.below(400)));
        kill(&cluster, &random, round % 3 == 0);
        if round % 5 == 4 {
            // Also while it comes up.
            let mut up = cluster.begin_up();
            std::thread::sleep(Duration::from_millis(random.below(600)));
            kill(&cluster, &random, true);
            up.wait().unwrap();
        }
        cluster.again();
        assert_eq!(marked(&mark), before, "round {round} of seed {seed} ended the container");
    }
    stop.trigger();
    runtime.block_on(work.stop());
    let last = runtime.block_on(everything(&target));
    for watcher in &watchers {
        assert!(!watcher.is_finished(), "a watcher gave up");
    }
    let seen: Vec<_> = runtime.block_on(async {
        watcher::caught_up(&target, &watching).await;
        let mut seen = Vec::new();
        for watcher in watchers {
            seen.push(watcher.await.unwrap());
        }
        seen
    });
    let problems = check(&history, &last, &seen);
    assert_eq!(problems, Vec::<String>::new(), "seed {seed}\n{}", cluster.logs());
    let (acknowledged, unknown) = history.counts();
    println!("{ROUNDS} rounds: {acknowledged} writes acknowledged, {unknown} of unknown outcome");
    assert!(acknowledged > 100, "only {acknowledged} writes were acknowledged in {ROUNDS} rounds");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}";
    assert_eq!(cluster.kubectl(&["get", "pod", "kept", "-o", restarts]), "0 Running");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

/// All config maps of the writers.
async fn everything(target: &Target) -> Vec<ConfigMap> {
    let maps: Api<ConfigMap> = Api::namespaced(target.client().await, "default");
    maps.list(&ListParams::default().labels("chaos")).await.unwrap().items
}
