//! What pods, disks and people do to a node: it is told to whoever looks, others do not suffer, and it is over when its
//! cause is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::node_pods::nodes_after;
use crate::{control_plane, peer_runtime, upstream};

/// Bytes of the node's disk.
const DISK: u64 = 192 << 20;

/// A node whose folders are a file system of their own, in a file; and where its configuration is.
fn node_on_a_small_disk() -> Option<(Cluster, tempfile::TempDir)> {
    if peer_runtime::wanted().is_some() || upstream::wanted().is_some() {
        eprintln!("skipped: this is about what our kubelet and our runtime make of faults");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubelet.yaml");
    fs::write(&file, include_str!("manifests/faults-kubelet.yaml")).unwrap();
    let flags = ["--nodes", "1", "--kubelet-config", &file.display().to_string()];
    let cluster = nodes_after(&flags, |cluster| {
        let (disk, image) = (cluster.node_dir(1), cluster.dir().join("disk"));
        fs::create_dir_all(&disk).unwrap();
        fs::File::create(&image).unwrap().set_len(DISK).unwrap();
        assert!(Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap().success());
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", "loop"]).arg(&image).arg(&disk).status().unwrap().success());
    })?;
    Some((cluster, folder))
}

/// A pod's cgroup in every hierarchy.
fn groups(cluster: &Cluster, pod: &str) -> Vec<PathBuf> {
    let uid = cluster.k(&format!("get pod {pod} -o jsonpath={{.metadata.uid}}"));
    assert!(uid.len() > 30, "{uid}");
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("pod{uid}")]);
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    found.lines().map(PathBuf::from).collect()
}

/// What a file of a pod's cgroup says, whichever hierarchy has it.
fn limit(cluster: &Cluster, pod: &str, files: &[&str]) -> String {
    let all = groups(cluster, pod);
    let mut paths = all.iter().flat_map(|group| files.iter().map(|file| group.join(file)));
    paths.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
}

#[test]
fn node_outlives_what_is_done_to_it() {
    let Some((cluster, _configuration)) = node_on_a_small_disk() else { return };
    let node = format!("{}-1", cluster.name());
    cluster.write("faults.yaml", include_str!("manifests/faults.yaml"));
    cluster.write("late.yaml", include_str!("manifests/faults-late.yaml"));
    cluster.k("apply -f faults.yaml");
    cluster.k("wait --for=condition=Ready pod/kept --timeout=30s");
    given_up(&cluster, &node);
    classed(&cluster);
    linked(&cluster);
    robbed(&cluster);
    bombed(&cluster);
    flooded(&cluster);
    full(&cluster);
    cluster.shows(
        "get pod kept -o jsonpath='{.status.phase} {.status.containerStatuses[0].restartCount}'",
        "Running 0",
    );
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
    let _ = Command::new("umount").arg(cluster.node_dir(1)).status();
}

/// A node that was silent for a while, as others have written down meanwhile, says at once that it is there.
fn given_up(cluster: &Cluster, node: &str) {
    let ready = |reason: &str| {
        let path = "{.status.conditions[?(@.type==\"Ready\")].reason}";
        cluster.k(&format!("get node {node} -o jsonpath='{path}'")).trim_matches('\'') == reason
    };
    cluster.until("the node to be ready", || ready("KubeletReady"));
    let condition = r#"{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."}"#;
    let patch = format!(r#"{{"status":{{"conditions":[{condition}]}}}}"#);
    cluster.kubectl(&["patch", "node", node, "--subresource=status", "--type=strategic", "-p", &patch]);
    let since = Instant::now();
    cluster.until("the node to say that it is there", || ready("KubeletReady"));
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
}

/// Pods that ask for some of the processor have that together before pods that ask for none.
fn classed(cluster: &Cluster) {
    let pod = |name: &str, requests: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, \
             containers: [{{name: c, image: docker.io/library/busybox:test, command: [sleep, '3600'], \
             resources: {{requests: {requests}}}}}]}}}}"
        ));
        cluster.k(&format!("wait --for=condition=Ready pod/{name} --timeout=30s"));
    };
    let of_class = |pod: &str| {
        let parents = groups(cluster, pod).into_iter().filter_map(|group| Some(group.parent()?.to_owned()));
        let parents: Vec<PathBuf> = parents.collect();
        let mut files = parents.iter().flat_map(|group| [group.join("cpu.shares"), group.join("cpu.weight")]);
        files.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default().trim().to_owned()
    };
    pod("third", "{cpu: 250m}");
    pod("half", "{cpu: 500m}");
    pod("nothing", "{}");
    // As shares of version 1, or as weights of version 2.
    let either = |pod: &str, shares: &str, weight: &str| {
        cluster.until("the class's part of the processor", || {
            let told = of_class(pod);
            told == shares || told == weight
        });
    };
    either("third", "768", "30");
    either("nothing", "2", "1");
    cluster.k("delete pod half");
    either("third", "256", "10");
    cluster.k("delete pod third nothing");
}

/// Whoever collects logs finds each container's by a name that says whose it is, as long as there is the pod.
fn linked(cluster: &Cluster) {
    if crate::upstream::wanted().is_some() {
        return;
    }
    // A kubelet by itself has the machine's folder.
    let links = match control_plane::wanted() {
        Some(_) => PathBuf::from("/var/log/containers"),
        None => cluster.node_dir(1).join("log/containers"),
    };
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&links).unwrap().filter_map(Result::ok);
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let id = cluster.k("get pod kept -o jsonpath={.status.containerStatuses[0].containerID}");
    let name = format!("kept_default_c-{}.log", id.rsplit('/').next().unwrap());
    let log = fs::canonicalize(links.join(&name)).unwrap_or_else(|_| panic!("{name} among {:?}", names()));
    assert!(log.ends_with("c/0.log"), "{}", log.display());
    let of_deleted = |name: &String| name.starts_with("half_default_") || name.starts_with("third_default_");
    cluster.until("links of pods that are gone to go", || !names().iter().any(of_deleted));
}

/// Somebody removes a pod's cgroup while nothing runs in it: the next container has the pod's limits again.
fn robbed(cluster: &Cluster) {
    let files = ["memory.limit_in_bytes", "memory.max"];
    cluster.until("the pod's limit", || limit(cluster, "crash", &files) == (60 << 20).to_string());
    cluster.until("the pod's cgroup to be empty, and removed", || {
        let all = groups(cluster, "crash");
        !all.is_empty() && all.iter().all(|group| fs::remove_dir(group).is_ok())
    });
    cluster
        .until("the limit to be there again", || limit(cluster, "crash", &files) == (60 << 20).to_string());
    cluster.k("delete pod crash --timeout=20s");
}

/// Processes that become more and more have no more than the pod may, and end with it.
fn bombed(cluster: &Cluster) {
    assert_eq!(limit(cluster, "bomb", &["pids.max"]), "80");
    let count = || limit(cluster, "bomb", &["pids.current"]).parse::<u32>().unwrap_or_default();
    cluster.until("the bomb", || count() > 70);
    assert_eq!(cluster.k("exec kept -- echo well"), "well\n");
    // Where a cgroup cannot be killed as a whole, it is frozen for that. A runtime that dies meanwhile leaves it so.
    let freezes = Path::new("/sys/fs/cgroup/freezer").exists();
    let place = cluster.failpoints().join("runtime.cgroup.frozen");
    if freezes {
        fs::create_dir_all(cluster.failpoints()).unwrap();
        fs::write(&place, "").unwrap();
    }
    let since = Instant::now();
    cluster.k("delete pod bomb --wait=false");
    if freezes {
        cluster.until("the runtime to die", || place.with_extension("frozen.hit").exists());
        cluster.again();
    }
    cluster.k("wait --for=delete pod/bomb --timeout=20s");
    assert!(since.elapsed() < Duration::from_secs(15), "it took {:?}", since.elapsed());
}

/// A log that is written as fast as can be has no more files than it may, none of which is much larger than it may be.
fn flooded(cluster: &Cluster) {
    let logs = cluster.node_dir(1).join("log/pods");
    let pod = || fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path());
    let pod = || pod().find(|path| path.display().to_string().contains("default_flood_"));
    cluster.k("run flood --image=docker.io/library/busybox:test -- yes 0123456789");
    let (mut rotations, mut most) = (BTreeSet::new(), 0);
    cluster.until("many rotations", || {
        let Some(folder) = pod().map(|pod| pod.join("flood")).filter(|folder| folder.exists()) else {
            return false;
        };
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = names.filter(|path| path.extension().is_none_or(|end| end != "tmp")).collect();
        assert!(files.len() <= 3, "{files:?}");
        let sizes = files.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len());
        most = sizes.fold(most, u64::max);
        rotations.extend(files.into_iter().map(|path| path.with_extension("")));
        rotations.len() > 10
    });
    // A busy machine is late by a fraction of a second, in which tens of megabytes are written.
    assert!(most < 48 << 20, "a file of {most} bytes, where 2 MiB are allowed");
    // Somebody has frozen it. Where that keeps it from dying, it is let go.
    for group in groups(cluster, "flood").iter().filter(|group| group.join("freezer.state").exists()) {
        let containers = fs::read_dir(group).unwrap().map(|entry| entry.unwrap().path());
        for container in containers.filter(|path| path.is_dir()) {
            fs::write(container.join("freezer.state"), "FROZEN").unwrap();
        }
    }
    cluster.k("delete pod flood --grace-period=1 --timeout=20s");
}

/// A disk without room keeps new pods from starting, which they say, and nothing else.
fn full(cluster: &Cluster) {
    let filler = cluster.node_dir(1).join("filler");
    let error = std::io::copy(&mut std::io::repeat(0), &mut fs::File::create(&filler).unwrap());
    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    cluster.k("apply -f late.yaml");
    cluster.shows("describe pod late", "No space left on device");
    assert_eq!(cluster.k("exec kept -- echo well"), "well\n");
    fs::remove_file(&filler).unwrap();
    cluster.k("wait --for=condition=Ready pod/late --timeout=60s");
    assert_eq!(cluster.k("exec late -- echo well"), "well\n");
}
