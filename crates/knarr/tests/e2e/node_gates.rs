//! Features that a whole cluster is told to have: its API server keeps their fields, and its nodes do what they say.

use crate::node_pods::nodes_with;
use crate::{control_plane, upstream};

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

#[test]
fn node_has_the_features_that_its_cluster_is_told_to_have() {
    if control_plane::wanted().is_some() || upstream::wanted().is_some() {
        eprintln!("skipped: it is about a cluster whose every part is told of them");
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
