//! Features that a whole cluster is told to have: its API server keeps their fields, and its nodes do what they say.

use std::fs;

use tokio_stream::wrappers::TcpListenerStream;

use crate::cluster::Cluster;
use crate::node_fields::has_users_of_a_pods_own;
use crate::node_grpc::listen;
use crate::node_pods::{node_told, nodes_with};
use crate::{control_plane, peer_runtime, upstream};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: own, emptyDir: {mode: 0750}}
  - {name: usual, emptyDir: {}}
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sh, -c, "echo out; echo err >&2; sleep 1000"]
    volumeMounts: [{name: own, mountPath: /own}, {name: usual, mountPath: /usual}]
  - {name: crash, image: "docker.io/library/busybox:test", command: ["false"]}
"#;

/// Whether other programs than ours are in it, which do not have them.
fn is_mixed() -> bool {
    let mixed =
        control_plane::wanted().is_some() || upstream::wanted().is_some() || peer_runtime::wanted().is_some();
    if mixed {
        eprintln!("skipped: it is about a cluster whose every part is told of them");
    }
    mixed
}

#[test]
fn node_has_the_features_that_its_cluster_is_told_to_have() {
    if is_mixed() {
        return;
    }
    let gates =
        "EmptyDirVolumeMode=true,PodLogsQuerySplitStreams=true,ReduceDefaultCrashLoopBackOffDecay=true";
    let Some(cluster) = nodes_with(&["--nodes", "1", "--feature-gates", gates]) else { return };
    cluster.apply(POD);
    let status =
        |path: &str| format!("get pod gated -o jsonpath='{{.status.containerStatuses[?(@.name==\"{path}\")]");
    cluster.becomes(&format!("{}.ready}}'", status("c")), "true");
    assert_eq!(cluster.k("exec gated -c c -- stat -c %a /own /usual"), "750\n777\n");
    // With a second before the first restart and two before the next.
    let restarts = format!("{}.restartCount}}'", status("crash"));
    cluster.until("two restarts", || cluster.k(&restarts).parse::<u32>().is_ok_and(|count| count > 1));
    let log = "/api/v1/namespaces/default/pods/gated/log?container=c";
    assert_eq!(cluster.kubectl(&["get", "--raw", &format!("{log}&stream=Stderr")]), "err\n");
    assert_eq!(cluster.kubectl(&["get", "--raw", &format!("{log}&stream=Stdout")]), "out\n");
    let node = cluster.k("get nodes -o jsonpath={.items[0].metadata.name}");
    let line = r#"kubernetes_feature_enabled{name="EmptyDirVolumeMode",stage="ALPHA"} 1"#;
    for path in ["/metrics".to_owned(), format!("/api/v1/nodes/{node}/proxy/metrics")] {
        let text = cluster.kubectl(&["get", "--raw", &path]);
        assert!(text.lines().any(|found| found == line), "{path}: {text}");
    }
    let shown = cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/configz")]);
    assert!(shown.contains(r#""featureGates":{"EmptyDirVolumeMode":true"#), "{shown}");
    let refused = cluster.own_command(&["up", "--feature-gates", "Nonsense=true"]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("unrecognized feature gate: Nonsense"), "{told}");
}

const NODE: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    defaultPodSysctls: {net.ipv4.tcp_fin_timeout: '50', kernel.domainname: pods.example, user.max_user_namespaces: '7'}\n";

#[test]
fn pods_may_say_what_is_behind_gates() {
    if is_mixed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubelet.yaml");
    fs::write(&file, NODE).unwrap();
    let gates = "AtomicWriteVolumeUserFields=true,DefaultPodSysctls=true,H2CContainerProbe=true,\
        ImageVolumeWithDigest=true,KubeletAllocatedPodsEndpoint=true,VolumeBindMountOptions=true";
    let file = file.display().to_string();
    let flags = ["--nodes", "1", "--feature-gates", gates, "--kubelet-config", &file];
    let Some(cluster) = nodes_with(&flags) else { return };
    cluster.kubectl(&["create", "configmap", "files", "--from-literal=one=1", "--from-literal=two=2"]);
    cluster.apply(include_str!("manifests/gated.yaml"));
    cluster.k("wait --for=condition=Ready pod/gated --timeout=60s");
    let mounts = cluster.k("exec gated -- cat /proc/self/mountinfo");
    let bare = mounts.lines().find(|line| line.contains(" /bare ")).unwrap();
    assert!(bare.contains(" rw,nosuid,nodev,noexec"), "{bare}");
    let tried = cluster.try_kubectl(&[
        "exec",
        "gated",
        "--",
        "sh",
        "-c",
        "cp /bin/busybox /bare && /bare/busybox true",
    ]);
    assert!(tried.unwrap_err().contains("Permission denied"));
    assert_eq!(cluster.k("exec gated -- stat -L -c '%u %a' /files/own /files/usual"), "1234 400\n99 644\n");
    let set = "cat /proc/sys/net/ipv4/tcp_fin_timeout /proc/sys/kernel/domainname";
    assert_eq!(cluster.k(&format!("exec gated -- sh -c '{set}'")), "40\npods.example\n");
    assert_eq!(cluster.k(&format!("exec shares -- sh -c '{set}'")).lines().nth(1), Some("(none)"));
    if has_users_of_a_pods_own(&cluster) {
        cluster.k("wait --for=condition=Ready pod/apart --timeout=60s");
        assert_eq!(cluster.k("exec apart -- cat /proc/sys/user/max_user_namespaces"), "7\n");
    }
    let mounts = "get pod gated -o jsonpath={.status.containerStatuses[0].volumeMounts}";
    let mounts: serde_json::Value = serde_json::from_str(&cluster.k(mounts)).unwrap();
    let images = ["image", "bare"].map(|name| {
        let mount = mounts.as_array().unwrap().iter().find(|mount| mount["name"] == name).unwrap();
        mount.pointer("/volumeStatus/image/imageRef").map(|image| image.as_str().unwrap())
    });
    let [Some(image), None] = images else { panic!("{mounts}") };
    assert!(image.starts_with("sha256:") && image.len() == 71, "{image}");
    two(&cluster);
    allocated(&cluster);
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

/// A server that speaks nothing but HTTP/2 is asked in it.
fn two(cluster: &Cluster) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = listen(cluster.name());
    let port = listener.local_addr().unwrap().port();
    let (_reporter, service) = tonic_health::server::health_reporter();
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    for (name, protocol) in [("second", "protocol: HTTP2"), ("first", "")] {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  \
             terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    \
             image: docker.io/library/busybox:test\n    command: [sleep, '1000']\n    \
             readinessProbe: {{httpGet: {{port: {port}, {protocol}}}, periodSeconds: 1}}\n"
        ));
    }
    cluster.k("wait --for=condition=Ready pod/second --timeout=30s");
    cluster.shows("describe pod first", "Readiness probe failed: Get \"http://");
}

/// What a node has allocated is told by it: not what it cannot give.
fn allocated(cluster: &Cluster) {
    let page = |path: &str| {
        let node = format!("{}-1", cluster.name());
        cluster.try_kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/allocatedPods{path}")])
    };
    let read = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let asked =
        |pod: &serde_json::Value| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].clone();
    assert_eq!(asked(&read(page("/default/gated").unwrap())), "10m");
    // Nothing would be left for the other one.
    let most = cluster.k("get nodes -o jsonpath={.items[0].status.allocatable.cpu}");
    let patch = format!(
        r#"{{"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{most}"}}}}}}]}}}}"#
    );
    cluster.kubectl(&["patch", "pod", "gated", "--subresource", "resize", "-p", &patch]);
    let pending = "get pod gated -o jsonpath='{.status.conditions[?(@.type==\"PodResizePending\")].reason}'";
    cluster.becomes(pending, "Deferred");
    let pod = read(page("/default/gated").unwrap());
    assert_eq!((asked(&pod), &pod["kind"], pod.get("status")), ("10m".into(), &"Pod".into(), None));
    let all = read(page("").unwrap());
    let names = all["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
    assert!(["gated", "shares"].iter().all(|name| names.clone().any(|found| found == *name)), "{all}");
    assert!(page("/default/nobody").unwrap_err().contains("could not find the requested resource"));
}

const SIZED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sized}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: falls, emptyDir: {medium: Memory, sizeLimit: 32Mi}}
  - {name: grows, emptyDir: {medium: Memory, sizeLimit: 32Mi}}
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, "1000"]
    resources: {limits: {cpu: 10m, memory: 100Mi}}
    volumeMounts: [{name: falls, mountPath: /falls}, {name: grows, mountPath: /grows}]
"#;

#[test]
fn node_gives_volumes_in_memory_another_size() {
    if is_mixed() {
        return;
    }
    let gates = "InPlacePodVerticalScalingMemoryBackedVolumes=true";
    let Some(cluster) = nodes_with(&["--nodes", "1", "--feature-gates", gates]) else { return };
    cluster.shows("get nodes -o jsonpath={.items[0].status.declaredFeatures}", "MemoryBackedVolumes");
    cluster.apply(SIZED);
    cluster.k("wait --for=condition=Ready pod/sized --timeout=60s");
    let sizes = || {
        let told = cluster.k("exec sized -- df -m /falls /grows");
        let size = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
        told.lines().skip(1).map(size).collect::<Vec<_>>().join(" ")
    };
    let resize = |falls: &str, grows: &str, memory: &str| {
        let patch = format!(
            r#"{{"spec":{{"volumes":[{{"name":"falls","emptyDir":{{"sizeLimit":"{falls}"}}}},
                {{"name":"grows","emptyDir":{{"sizeLimit":"{grows}"}}}}],
            "containers":[{{"name":"c","resources":{{"limits":{{"memory":"{memory}"}},
                "requests":{{"memory":"{memory}"}}}}}}]}}}}"#
        );
        cluster.try_kubectl(&["patch", "pod", "sized", "--subresource", "resize", "-p", &patch])
    };
    assert_eq!(sizes(), "32 32");
    // Larger than the pod might be before.
    resize("16Mi", "150Mi", "200Mi").unwrap();
    cluster.until("other sizes", || sizes() == "16 150");
    cluster.shows("get events --field-selector involvedObject.name=sized", "Pod resize completed");
    // More is in it than it is to have room for: then nothing changes, till somebody makes room.
    cluster.k("exec sized -- dd if=/dev/zero of=/falls/file bs=1M count=10");
    resize("8Mi", "100Mi", "200Mi").unwrap();
    let progress = "get pod sized -o jsonpath='{.status.conditions[?(@.type==\"PodResizeInProgress\")]}'";
    cluster.shows(progress, "\"reason\":\"Error\"");
    cluster.shows(progress, "attempting to set its size (8388608) below current usage (10485760)");
    assert_eq!(sizes().split(' ').next(), Some("16"));
    // Whoever comes next knows of it, too.
    cluster.kill();
    cluster.again();
    cluster.shows(progress, "below current usage");
    cluster.k("exec sized -- rm /falls/file");
    cluster.until("room", || sizes() == "8 100");
    cluster.becomes(progress, "");
    let restarts = "get pod sized -o jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.k(restarts), "0");
    let refused = cluster.try_kubectl(&[
        "patch",
        "pod",
        "sized",
        "-p",
        r#"{"spec":{"volumes":[{"name":"falls","emptyDir":{"sizeLimit":"9Mi"}}]}}"#,
    ]);
    assert!(refused.unwrap_err().contains("pod updates may not change fields other than"));
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

const RESERVED: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
    featureGates: {QOSReserved: true}\nqosReserved: {memory: 50%}\n";
const ASKING: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: guaranteed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, '3600']
    resources: {limits: {cpu: 10m, memory: 100Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: burstable}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, '3600']
    resources: {requests: {memory: 60Mi}}
"#;

#[test]
fn node_has_classes_of_pods_leave_memory_to_those_above_them() {
    if is_mixed() {
        return;
    }
    let Some((cluster, _folder)) = node_told(RESERVED) else { return };
    let page = format!("get --raw /api/v1/nodes/{}-1/proxy/metrics/cadvisor", cluster.name());
    // What the kernel says that the groups of all pods and of both classes may use, in MiB.
    let limits = || {
        let page = cluster.k(&page);
        ["kubepods", "burstable", "besteffort"].map(|group| {
            let is_of = |line: &&str| {
                line.starts_with("container_spec_memory_limit_bytes{container=\"\",")
                    && line.contains(&format!("/{group}\",image=\"\",name=\"\",namespace=\"\""))
            };
            let line = page.lines().find(is_of).unwrap_or_else(|| panic!("{group}: {page}"));
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >> 20
        })
    };
    let left = |of_burstable: u64, of_best_effort: u64| {
        cluster.until("the limits of classes", || {
            let [all, burstable, best_effort] = limits();
            all - burstable == of_burstable && burstable - best_effort == of_best_effort
        });
    };
    left(0, 0);
    cluster.apply(ASKING);
    cluster.k("wait --for=condition=Ready pod --all --timeout=60s");
    left(50, 30);
    cluster.k("delete pod guaranteed");
    left(0, 30);
    cluster.k("delete pod burstable");
    left(0, 0);
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
