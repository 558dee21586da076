//! kill -9 of whatever runs a node, while pods of every phase come and go: no container runs twice, none is lost, and
//! nothing is left behind: mounts, links, addresses, cgroups, processes and folders are counted before and after.
//!
//! `KNARR_CHAOS_ROUNDS` and `KNARR_CHAOS_SEED` set another number of rounds and another course.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base::{Random, SeededRandom};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use nix::sys::signal::Signal;
use serde_json::json;

use super::Target;
use crate::cluster::Cluster;
use crate::image;

const ROUNDS: u64 = 40;
/// Pods at one time.
const CROWD: usize = 10;

/// What the node holds: how many of each.
fn footprint(cluster: &Cluster) -> BTreeMap<&'static str, usize> {
    let run = PathBuf::from("/run/knarr").join(cluster.name());
    let data = cluster.dir().join("data");
    let node = format!("{}-1", cluster.name());
    let (run_mark, data_mark) = (run.display().to_string(), data.display().to_string());
    let runtime = pid_of(cluster, "runtime").map_or("self".to_owned(), |pid| pid.to_string());
    let mounts = std::fs::read_to_string(format!("/proc/{runtime}/mountinfo")).unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&run_mark) || line.contains(&data_mark)).count();
    let netns = run.join("nodes").join(&node).join("netns");
    let links =
        output(Command::new("nsenter").arg(format!("--net={}", netns.display())).args(["ip", "-o", "link"]));
    let links = links.lines().count();
    let count = |path: PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
    let node_data = data.join("nodes").join(&node);
    BTreeMap::from([
        ("mounts", mounts),
        ("links", links),
        ("addresses", count(run.join("nodes").join(&node).join("addresses"))),
        ("cgroups", pod_cgroups(cluster.name())),
        ("shims", shims(&data).len()),
        ("sandboxes", count(run.join("nodes").join(&node).join("runtime/sandboxes"))),
        ("containers", count(run.join("nodes").join(&node).join("runtime/containers"))),
        ("kept sandboxes", count(node_data.join("runtime/sandboxes"))),
        ("kept containers", count(node_data.join("runtime/containers"))),
        ("pod folders", count(node_data.join("kubelet/pods"))),
        ("log folders", count(node_data.join("logs"))),
    ])
}

fn output(command: &mut Command) -> String {
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

/// Groups of pods in any hierarchy.
fn pod_cgroups(cluster: &str) -> usize {
    fn below(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .map(|entry| {
                let is_pod = entry.file_name().to_string_lossy().starts_with("pod");
                usize::from(is_pod) + below(&entry.path())
            })
            .sum()
    }
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok);
    let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    roots.map(|root| below(&root.join("knarr").join(cluster))).sum()
}

fn shims(data: &Path) -> Vec<i32> {
    let mark = format!("{}/", data.display());
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with(&mark) && line.contains("/shim-")
    })
    .collect()
}

fn pid_of(cluster: &Cluster, process: &str) -> Option<i32> {
    let name = format!("{process}-{}-1.json", cluster.name());
    let path = PathBuf::from("/run/knarr").join(cluster.name()).join(name);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    i32::try_from(record["pid"].as_i64()?).ok()
}

fn kill(pid: i32) {
    // It may have ended by itself.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

/// Kills one or more of what runs the node. Whether a shim was among them.
fn strike(cluster: &Cluster, random: &dyn Random) -> bool {
    let mut any_shim = false;
    for process in ["agent", "runtime"] {
        if random.below(2) == 0 {
            pid_of(cluster, process).into_iter().for_each(kill);
        }
    }
    let shims = shims(&cluster.dir().join("data"));
    if !shims.is_empty() && random.below(4) == 0 {
        let chosen = usize::try_from(random.below(shims.len() as u64)).unwrap();
        kill(shims[chosen]);
        any_shim = true;
    }
    any_shim
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

#[expect(clippy::disallowed_methods, reason = "whoever runs this test by hand says so in the environment")]
fn number(name: &str, default: u64) -> u64 {
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
    let (mut next, mut problems, mut struck_shims) = (0, Vec::new(), 0);
    for round in 0..rounds {
        runtime.block_on(stir(&pods, &random, &mut next, &witness, &mut problems));
        std::thread::sleep(Duration::from_millis(random.below(350)));
        struck_shims += usize::from(strike(&cluster, &random));
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
        runtime.block_on(pods.delete(&name(&pod), &DeleteParams::default())).unwrap();
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
    println!("{rounds} rounds, {next} pods, {struck_shims} shims killed");
    assert!(next > CROWD as u64, "no pods came and went");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
