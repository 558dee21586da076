//! What a KubeletConfiguration makes of a node: who is confined, who is rationed, and what its own API asks of whoever
//! comes.

use std::process::{Command, Stdio};

use crate::cluster::Cluster;
use crate::node_pods::node_told;

const CONFIGURATION: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    seccompDefault: true\ncpuCFSQuota: false\nreadOnlyPort: 10255\ntlsMinVersion: VersionTLS13\n\
    registryPullQPS: 1\nregistryBurst: 1\nmaxPods: 300\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
    containers:\n  - name: plain\n    image: docker.io/library/busybox:test\n    command: [sleep, '3600']\n    \
    resources: {limits: {cpu: 100m, memory: 32Mi}}\n  - name: free\n    image: docker.io/library/busybox:test\n    \
    command: [sleep, '3600']\n    securityContext: {seccompProfile: {type: Unconfined}}\n    \
    resources: {limits: {cpu: 100m, memory: 32Mi}}\n";

/// Runs a program in the first node's network: whether it did well, and what it said.
fn inside(cluster: &Cluster, command: &[&str]) -> (bool, String) {
    let name = cluster.name();
    let netns = format!("--net=/run/knarr/{name}/nodes/{name}-1/netns");
    let output = Command::new("nsenter").arg(netns).args(command).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn node_is_what_its_configuration_says() {
    let Some((cluster, _folder)) = node_told(CONFIGURATION) else { return };
    if crate::control_plane::wanted().is_none() {
        let range = cluster.k("get node -o jsonpath={.items[0].spec.podCIDR}");
        assert!(range.ends_with("/22"), "{range} for 300 pods");
    }
    cluster.apply(POD);
    cluster.k("wait --for=condition=Ready pod/p --timeout=60s");
    let seccomp = |container: &str| {
        let line = cluster.k(&format!("exec p -c {container} -- grep Seccomp: /proc/self/status"));
        line.split_whitespace().last().map(str::to_owned)
    };
    assert_eq!((seccomp("plain").as_deref(), seccomp("free").as_deref()), (Some("2"), Some("0")));
    let show = "cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    let quota = cluster.k(&format!("exec p -c plain -- sh -c '({show}) 2>/dev/null'"));
    assert!(matches!(quota.split_whitespace().next(), Some("max" | "-1")), "{quota}");
    let address = cluster.k("get node -o jsonpath={.items[0].status.addresses[0].address}");
    let page = |path: &str| {
        let url = format!("http://{address}:10255/{path}");
        inside(&cluster, &["busybox", "wget", "-q", "-O", "-", &url])
    };
    for (path, words) in [("pods", "\"name\":\"p\""), ("metrics/resource", "node_cpu_usage_seconds_total")] {
        let (well, said) = page(path);
        assert!(well && said.contains(words), "{path}: {said}");
    }
    for (path, status) in [("configz", "404"), ("runningpods/", "405"), ("logs/", "405")] {
        let (well, said) = page(path);
        assert!(!well && said.contains(status), "{path}: {said}");
    }
    let at = format!("{address}:10250");
    let hello = |version: &str| inside(&cluster, &["openssl", "s_client", version, "-connect", &at]);
    let (well, said) = hello("-tls1_3");
    assert!(well && said.contains("TLSv1.3"), "{said}");
    assert!(!hello("-tls1_2").0);
    pulls_are_rationed(&cluster);
}

/// Nobody can be reached at either image; the second pull is not even begun.
fn pulls_are_rationed(cluster: &Cluster) {
    for name in ["one", "two"] {
        cluster.k(&format!("run {name} --image=127.0.0.1:1/{name} --restart=Never"));
    }
    cluster.until("a pull to be refused", || {
        cluster.k("get events -o jsonpath={.items[*].message}").contains("pull QPS exceeded")
    });
}
