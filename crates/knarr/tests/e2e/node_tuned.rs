//! What a KubeletConfiguration says of periods, pauses, ranges and words.

use std::fs;
use std::path::Path;

use crate::cluster::Cluster;
use crate::node_fields::has_users_of_a_pods_own;
use crate::node_pods::node_told;
use crate::{control_plane, peer_runtime, upstream};

const CONFIGURATION: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    cpuCFSQuotaPeriod: 20ms\ncrashLoopBackOff: {maxContainerRestartPeriod: 1s}\n\
    userNamespaces: {idsPerPod: 131072}\nlogging: {format: json}\neventRecordQPS: 40\n\
    runtimeRequestTimeout: 90s\nkubeAPIQPS: 40\nkubeAPIBurst: 80\nsyncFrequency: 2s\n";
/// What a runtime that says who makes cgroups knows better.
const OVERRULED: &str = "cgroupDriver: systemd\n";
const PODS: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: rationed}\nspec:\n  \
    terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
    image: docker.io/library/busybox:test\n    command: [sleep, '3600']\n    \
    resources: {limits: {cpu: 100m, memory: 32Mi}}\n    \
    volumeMounts: [{name: c, mountPath: /c}]\n  volumes: [{name: c, configMap: {name: c}}]\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: apart}\nspec:\n  \
    hostUsers: false\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
    image: docker.io/library/busybox:test\n    command: [sleep, '3600']\n---\napiVersion: v1\nkind: Pod\n\
    metadata: {name: fails}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
    image: docker.io/library/busybox:test\n    command: [sh, -c, exit 1]\n";

/// A group of the machine that the kubelet is told to be in.
struct Group(String);

impl Group {
    /// Whether the first node's kubelet is in it.
    fn has_kubelet(&self, cluster: &Cluster) -> bool {
        let name = cluster.name();
        let record = fs::read_to_string(format!("/run/knarr/{name}/agent-{name}-1.json")).unwrap();
        let pid = &serde_json::from_str::<serde_json::Value>(&record).unwrap()["pid"];
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let counts = |line: &&str| line.contains(":memory:") || line.starts_with("0::");
        groups.lines().filter(counts).any(|line| line.ends_with(&self.0))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_owned()]) {
            let _ = fs::remove_dir(hierarchy.join(self.0.trim_start_matches('/')));
        }
    }
}

#[test]
fn node_is_tuned_by_its_configuration() {
    let does_not_say = peer_runtime::is_containerd();
    let overruled = if does_not_say { "" } else { OVERRULED };
    let group = Group(format!("/knarr-e2e-kubelet-{}", std::process::id()));
    let told = format!("{CONFIGURATION}{overruled}kubeletCgroups: {}\n", group.0);
    let Some((cluster, _folder)) = node_told(&told) else { return };
    // Who takes its place is another process than the one that stands in the record.
    if upstream::wanted().is_none() && control_plane::wanted().is_none() {
        assert!(group.has_kubelet(&cluster));
    }
    cluster.kubectl(&["create", "configmap", "c", "--from-literal=a=0"]);
    cluster.apply(PODS);
    cluster.k("wait --for=condition=Ready pod/rationed --timeout=60s");
    let show = "cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us";
    let quota = cluster.k(&format!("exec rationed -- sh -c '({show}) 2>/dev/null'"));
    assert_eq!(quota.split_whitespace().collect::<Vec<_>>(), ["2000", "20000"]);
    let since = std::time::Instant::now();
    for value in ["1", "2"] {
        cluster.kubectl(&["patch", "configmap", "c", "-p", &format!("{{\"data\":{{\"a\":\"{value}\"}}}}")]);
        cluster.becomes("exec rationed -- cat /c/a", value);
    }
    assert!(since.elapsed().as_secs() < 40, "it would take up to a minute each: {:?}", since.elapsed());
    // With upstream's pauses it would have been started three times in a minute.
    let restarts = "get pod fails -o jsonpath={.status.containerStatuses[0].restartCount}";
    cluster.until("many restarts", || cluster.k(restarts).parse::<u32>().is_ok_and(|count| count >= 6));
    if has_users_of_a_pods_own(&cluster) {
        cluster.k("wait --for=condition=Ready pod/apart --timeout=60s");
        let map = cluster.k("exec apart -- cat /proc/self/uid_map");
        let parts: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!((parts[0], parts[1] % 131_072, parts[2]), (0, 0, 131_072), "{map}");
    }
    if upstream::wanted().is_none() && control_plane::wanted().is_none() {
        let log = cluster.log(&format!("agent-{}-1", cluster.name()));
        let lines: Vec<serde_json::Value> =
            log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(lines.iter().any(|line| line["msg"].is_string() && line["ts"].is_f64()), "{log}");
        assert!(does_not_say || log.contains("the container runtime says who makes cgroups"), "{log}");
    }
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
