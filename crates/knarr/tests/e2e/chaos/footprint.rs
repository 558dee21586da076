//! What a node holds, counted: mounts, links, routes, addresses, rules, cgroups, processes and files. A node that runs nothing
//! holds what it held before.

use std::collections::BTreeMap;
use std::fs::FileType;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::cluster::Cluster;

/// What the node holds: how many of each.
pub fn footprint(cluster: &Cluster) -> BTreeMap<&'static str, usize> {
    let run = PathBuf::from("/run/knarr").join(cluster.name());
    let data = cluster.dir().join("data");
    let node = format!("{}-1", cluster.name());
    let (run_mark, data_mark) = (run.display().to_string(), data.display().to_string());
    let runtime = pid_of(cluster, "runtime").map_or("self".to_owned(), |pid| pid.to_string());
    let mounts = std::fs::read_to_string(format!("/proc/{runtime}/mountinfo")).unwrap_or_default();
    let mounts: Vec<&str> =
        mounts.lines().filter(|line| line.contains(&run_mark) || line.contains(&data_mark)).collect();
    let pinned = mounts.iter().filter(|line| line.contains(" - nsfs ")).count();
    let netns = run.join("nodes").join(&node).join("netns");
    let inside = |words: &[&str]| {
        let told = output(Command::new("nsenter").arg(format!("--net={}", netns.display())).args(words));
        told.lines().count()
    };
    let count = |path: PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
    let node_data = data.join("nodes").join(&node);
    BTreeMap::from([
        ("mounts", mounts.len()),
        ("namespaces", pinned),
        ("links", inside(&["ip", "-o", "link"])),
        ("routes", inside(&["ip", "-o", "route", "show", "table", "all"])),
        ("lines of rules", inside(&["nft", "list", "ruleset"])),
        ("files of network", files(&run.join("nodes").join(&node).join("addresses"))),
        ("addresses", addresses(&run.join("nodes").join(&node).join("addresses"))),
        ("cgroups", cgroups(cluster.name())),
        ("shims", shims(&data).len()),
        ("processes", processes(cluster.name())),
        ("sandboxes", count(run.join("nodes").join(&node).join("runtime/sandboxes"))),
        ("containers", count(run.join("nodes").join(&node).join("runtime/containers"))),
        ("launched containers", count(run.join("nodes").join(&node).join("runtime/launcher"))),
        ("layers", count(node_data.join("runtime/layers"))),
        ("blobs", count(node_data.join("runtime/images/blobs/sha256"))),
        ("kept sandboxes", count(node_data.join("runtime/sandboxes"))),
        ("kept containers", count(node_data.join("runtime/containers"))),
        ("files of the kubelet", files(&node_data.join("kubelet"))),
        ("log folders", count(node_data.join("log/pods"))),
    ])
}

/// What the node holds once nothing of any pod is left; until then, `None`.
pub fn idle(cluster: &Cluster) -> Option<BTreeMap<&'static str, usize>> {
    let now = footprint(cluster);
    let gone = ["addresses", "shims", "sandboxes", "kept sandboxes", "log folders"];
    gone.iter().all(|what| now[what] == 0).then_some(now)
}

/// Those that somebody has. Beside them stands which was given last.
fn addresses(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_one = |name: std::ffi::OsString| name.to_string_lossy().parse::<std::net::IpAddr>().is_ok();
    entries.filter(|entry| is_one(entry.file_name())).count()
}

fn output(command: &mut Command) -> String {
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

/// Groups of a cluster in all hierarchies.
fn cgroups(cluster: &str) -> usize {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok);
    let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    roots.map(|root| below(&root.join("knarr").join(cluster), &|kind| kind.is_dir())).sum()
}

/// All that is in a folder.
fn files(folder: &Path) -> usize {
    below(folder, &|_| true)
}

fn below(folder: &Path, counts: &dyn Fn(FileType) -> bool) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let entries = entries.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)));
    entries
        .map(|(path, kind)| usize::from(counts(kind)) + if kind.is_dir() { below(&path, counts) } else { 0 })
        .sum()
}

/// The shims of a cluster's nodes.
pub fn shims(data: &Path) -> Vec<i32> {
    let mark = format!("{}/", data.display());
    let line = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_shim = |line: &str| line.starts_with(&mark) && line.contains("/shim-");
    pids().filter(|pid| is_shim(&String::from_utf8_lossy(&line(pid)))).collect()
}

/// The cluster's own processes, and what they forked.
fn processes(cluster: &str) -> usize {
    let is_ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        line.split('\0').any(|word| word == cluster) && !stat.contains(") Z ")
    };
    pids().filter(is_ours).count()
}

/// Processes that run a program of the runtime's, by what its name begins with.
pub fn programs(data: &Path, name: &str) -> Vec<i32> {
    let runs = |pid: &i32| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        program.starts_with(data) && file.starts_with(name)
    };
    pids().filter(runs).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

/// The process of the first node, `runtime` or `agent`, as it was written down, or the cluster's `server`.
pub fn pid_of(cluster: &Cluster, process: &str) -> Option<i32> {
    let name = match process {
        "server" => "server.json".to_owned(),
        process => format!("{process}-{}-1.json", cluster.name()),
    };
    let path = PathBuf::from("/run/knarr").join(cluster.name()).join(name);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    i32::try_from(record["pid"].as_i64()?).ok()
}

/// Whether that process runs. One that has ended and was not reaped does not.
pub fn runs(cluster: &Cluster, process: &str) -> bool {
    let Some(pid) = pid_of(cluster, process) else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.split_whitespace().next(), None | Some("Z" | "X")))
}

/// `kill -9`.
pub fn kill(pid: i32) {
    // It may have ended by itself.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}
