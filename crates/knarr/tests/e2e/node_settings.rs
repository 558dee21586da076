//! What a container is given: environment, files, limits and identity.

use crate::cluster::Cluster;
use crate::node_pods::nodes;

#[test]
fn containers_are_given_what_the_pod_says() {
    let Some(cluster) = nodes("1") else { return };
    cluster.write("settings.yaml", include_str!("manifests/settings.yaml"));
    cluster.k("apply -f settings.yaml");
    cluster.k("wait --for=condition=Ready pod/given pod/confined pod/capable --timeout=30s");
    environment(&cluster);
    files(&cluster);
    limits(&cluster);
    identity(&cluster);
    parts(&cluster);
    trust(&cluster);
}

fn environment(cluster: &Cluster) {
    let env = cluster.k("exec given -- env");
    let has = |line: &str| assert!(env.lines().any(|found| found == line), "{line} is not in\n{env}");
    // Only what stands before it can be referred to.
    has("PLAIN=$(COLOUR)-sky");
    has("AFTER=blue-sky $(COLOUR)");
    has("PASSWORD=s3cret");
    has("POD=given");
    has(&format!("POD_IP={}", cluster.k("get pod given -o jsonpath={.status.podIP}")));
    has(&format!("NODE={}", cluster.k("get pod given -o jsonpath={.spec.nodeName}")));
    has("CPU=250");
    has("ALL_colour=blue");
    has("HOSTNAME=given");
    has(&format!(
        "KUBERNETES_SERVICE_HOST={}",
        cluster.k("get service kubernetes -o jsonpath={.spec.clusterIP}")
    ));
    assert!(!env.contains("ABSENT"), "{env}");
}

fn files(cluster: &Cluster) {
    let cat = |path: &str| cluster.k(&format!("exec given -- cat {path}"));
    let mode = |path: &str| cluster.k(&format!("exec given -- stat -L -c %a {path}")).trim().to_owned();
    assert_eq!(cat("/conf/sub/app.conf"), "mode=one\n");
    assert_eq!((cat("/keys/password"), mode("/keys/password")), ("s3cret".to_owned(), "400".to_owned()));
    assert_eq!((cat("/all/colour"), mode("/all/password")), ("blue".to_owned(), "440".to_owned()));
    assert_eq!(cat("/all/labels"), "app=\"given\"\ntier=\"back\"");
    assert_eq!(cat("/all/token").split('.').count(), 3);
    assert_eq!(cat("/self/name /self/note /self/memory"), "givenhello48");
    assert!(
        cat("/proc/mounts")
            .lines()
            .any(|line| line.contains(" /scratch tmpfs") && line.contains("size=8192k"))
    );
    assert_eq!(cat("/host/hostname"), std::fs::read_to_string("/etc/hostname").unwrap());
    cluster.refuses("exec given -- touch /host/new", "Read-only file system");
    // What changes is seen without a restart; a pod that is touched sees it soon.
    cluster.k(r#"patch configmap settings -p '{"data":{"app.conf":"mode=two\n"}}'"#);
    cluster.k("label pod given tier=front --overwrite");
    cluster.becomes("exec given -- cat /conf/sub/app.conf", "mode=two");
    cluster.shows("exec given -- cat /all/labels", "front");
    assert_eq!(cluster.k("get pod given -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
}

fn limits(cluster: &Cluster) {
    let show = "cat /sys/fs/cgroup/memory.max || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    let memory = cluster.k(&format!("exec given -- sh -c '({show}) 2>/dev/null'"));
    assert_eq!(memory.trim(), "50331648");
    let show = "cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    let cpu = cluster.k(&format!("exec given -- sh -c '({show}) 2>/dev/null'"));
    assert_eq!(cpu.split_whitespace().next(), Some("25000"));
    // Whoever is root inside changes none of it. What holds the hierarchies of version 1 together runc leaves writable.
    if crate::peer_runtime::wanted().is_none() {
        cluster.refuses("exec given -- mkdir /sys/fs/cgroup/own", "Read-only file system");
    }
    let limited = "$(ls -d /sys/fs/cgroup/memory 2>/dev/null || echo /sys/fs/cgroup)";
    cluster.refuses(&format!("exec given -- sh -c 'mkdir {limited}/own'"), "Read-only file system");
    assert_eq!(cluster.k("get pod given -o jsonpath={.status.qosClass}"), "Burstable");
    let node = cluster.k("describe node");
    assert!(
        node.lines().any(|line| line.contains("given") && line.contains("100m (") && line.contains("48Mi (")),
        "{node}"
    );
}

fn identity(cluster: &Cluster) {
    assert_eq!(cluster.k("exec confined -- id").trim(), "uid=1000 gid=3000 groups=2000,3000,4000");
    cluster.refuses("exec confined -- touch /new", "Read-only file system");
    cluster.k("exec confined -- touch /owned/new");
    assert_eq!(cluster.k("exec confined -- stat -c %u:%g /owned/new").trim(), "1000:2000");
    let status = cluster.k("exec confined -- cat /proc/self/status");
    assert!(
        status.contains("CapBnd:\t0000000000000000\n") && status.contains("NoNewPrivs:\t1\n"),
        "{status}"
    );
    let capabilities = |container: &str| {
        let line = cluster.k(&format!("exec capable -c {container} -- grep CapEff /proc/self/status"));
        u64::from_str_radix(line.trim().trim_start_matches("CapEff:\t"), 16).unwrap()
    };
    let (chown, net_admin) = (1, 1 << 12);
    assert_eq!(capabilities("plain") & (chown | net_admin), chown);
    assert_eq!(capabilities("adds") & (chown | net_admin), net_admin);
    assert!(capabilities("rules").count_ones() > 30);
    assert!(cluster.k("exec capable -c rules -- ls /dev").contains("kmsg"));
    assert!(!cluster.k("exec capable -c plain -- ls /dev").contains("kmsg"));
    cluster.shows("get pod not-root", "CreateContainerConfigError");
    cluster.says("describe pod not-root", &["container has runAsNonRoot and image will run as root"]);
}

const SHARING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sharing}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000}
  volumes: [{name: own, emptyDir: {}}]
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, "3600"]
    volumeMounts: [{name: own, mountPath: /own, subPath: a/b}]
"#;

/// A pod whose part of a volume is not inside the volume.
const ESCAPING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: escaping}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: own, emptyDir: {}}]
  initContainers:
  - name: links
    image: docker.io/library/busybox:test
    command: [ln, -s, /, /own/out]
    volumeMounts: [{name: own, mountPath: /own}]
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, "3600"]
    volumeMounts: [{name: own, mountPath: /own, subPath: out/etc}]
"#;

/// A part of a volume is made for a user who is not root, and stays a part of it.
fn parts(cluster: &Cluster) {
    cluster.apply(SHARING);
    cluster.apply(ESCAPING);
    cluster.k("wait --for=condition=Ready pod/sharing --timeout=30s");
    cluster.k("exec sharing -- touch /own/new");
    let waits = "get pod escaping -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}: \
                 {.status.containerStatuses[0].state.waiting.message}'";
    let why = "failed to prepare subPath for volumeMount \"own\" of container \"c\"";
    cluster.becomes(waits, &format!("CreateContainerConfigError: {why}"));
    cluster.comes_to_say("describe pod escaping", &[&format!("Error: {why}")]);
}

const TRUSTING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: trusting}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - name: trust
    projected:
      sources:
      - clusterTrustBundle: {name: roots, path: roots.pem}
      - clusterTrustBundle: {name: none, optional: true, path: none.pem}
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, "3600"]
    volumeMounts: [{name: trust, mountPath: /trust}]
"#;

/// Bundles of the cluster, which nodes may read.
fn trust(cluster: &Cluster) {
    if crate::upstream::wanted().is_some() {
        eprintln!("skipped in part: that kubelet has bundles behind a gate, and reads v1beta1 of them only");
        return;
    }
    if !cluster.serves("certificates.k8s.io/v1", "clustertrustbundles") {
        eprintln!("skipped in part: the API server has no bundles (v1 is served from 1.37 on)");
        return;
    }
    let roots = cluster.k("get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'");
    let bundle = serde_json::json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": {"name": "roots"}, "spec": {"trustBundle": roots}});
    cluster.apply(&bundle.to_string());
    cluster.apply(TRUSTING);
    cluster.k("wait --for=condition=Ready pod/trusting --timeout=30s");
    let seen = cluster.k("exec trusting -- cat /trust/roots.pem");
    assert_eq!(seen.trim(), roots.trim());
    assert_eq!(cluster.k("exec trusting -- cat /trust/none.pem"), "");
}
