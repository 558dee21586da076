//! What the programs of a peer node read: containerd, whose pods are connected by our CNI plugin, and upstream's
//! kubelet; and the one thing that upstream's kubelet wants to find.

use std::path::Path;

/// The configuration of the network, as a template of containerd's: it fills in the node's parts of the pod network.
/// What pods have is remembered below `dir`.
pub fn conflist(dir: &Path) -> String {
    let data = dir.join("cni/pods");
    let networks = r#"[{{range $i, $network := .PodCIDRRanges}}{{if $i}}, {{end}}"{{$network}}"{{end}}]"#;
    let plugin = serde_json::json!({"type": "knarr-cni", "podCIDRs": "NETWORKS", "dataDir": data,
        "capabilities": {"portMappings": true, "bandwidth": true}});
    let list = serde_json::json!({"cniVersion": "1.0.0", "name": "knarr", "plugins": [plugin]});
    list.to_string().replace(r#""NETWORKS""#, networks)
}

/// The configuration of containerd 1.6: as upstream's documentation has it, but in folders of its own. `run` is the
/// node's folder of sockets, `pause` the image of pause containers.
pub fn toml(dir: &Path, run: &Path, pause: &str) -> String {
    let (dir, run) = (dir.display(), run.display());
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{run}/containerd"
[grpc]
  address = "{run}/runtime/cri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{dir}/cni/bin"
  conf_dir = "{dir}/cni/net.d"
  conf_template = "{dir}/cni/template"
"#
    )
}

/// Makes a cgroup in every hierarchy: upstream's kubelet refuses a root that is not in all of them.
///
/// # Errors
/// When it cannot be made.
pub fn make_cgroup(cgroup: &str) -> std::io::Result<()> {
    let mounts = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(mounts)?.filter_map(|entry| Some(entry.ok()?.path()));
    for root in hierarchies.chain([mounts.to_owned()]).filter(|root| root.join("cgroup.procs").exists()) {
        std::fs::create_dir_all(root.join(cgroup.trim_start_matches('/')))?;
    }
    Ok(())
}

/// The KubeletConfiguration of an upstream kubelet in the place of a node's own: upstream's defaults, but for what this
/// node is, a guest of a machine of any kind, which does not collect or evict for the machine's sake. `dir` has the
/// node's credentials, `ip` is its address.
pub fn kubelet(dir: &Path, (cgroup, socket): (&str, &Path), ip: &str, max_pods: u32) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ip,
        "authentication": {"x509": {"clientCAFile": file("ca.crt")}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": file("tls.crt"),
        "tlsPrivateKeyFile": file("tls.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "clusterDomain": "cluster.local",
        "resolvConf": file("resolv.conf"),
        "podLogsDir": file("pod-logs"),
        "staticPodPath": file("manifests"),
        "healthzPort": 0,
        "serializeImagePulls": false,
        "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
            "nodefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": max_pods,
    });
    config.to_string()
}
