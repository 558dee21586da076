//! Pods of a RuntimeClass whose handler is another program, on nodes that were told of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cluster::Cluster;
use crate::node_pods::nodes_with;

/// A program that notes how it is called, and is runc.
fn noting(dir: &Path) -> Option<String> {
    let runc = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"].map(Path::new);
    let runc = runc.into_iter().find(|path| path.exists())?;
    let path = dir.join("noting-runc");
    let script =
        format!("#!/bin/sh\necho \"$@\" >> {}/calls\nexec {} \"$@\"\n", dir.display(), runc.display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Some(path.display().to_string())
}

fn status(cluster: &Cluster, pod: &str, path: &str) -> String {
    cluster.k(&format!("get pod {pod} -o jsonpath='{{.status{path}}}'"))
}

#[test]
fn node_runs_pods_of_a_class_by_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = noting(dir.path()) else {
        eprintln!("skipped: runc is not installed (apt-get install runc)");
        return;
    };
    let handler = format!("other={program}");
    let Some(cluster) = nodes_with(&["--nodes", "1", "--runtime-handler", &handler]) else { return };
    if crate::peer_runtime::is_containerd() {
        eprintln!("skipped in part: containerd 1.6 does not tell which programs it has");
    } else {
        let handlers = cluster.k("get nodes -o jsonpath='{.items[0].status.runtimeHandlers[*].name}'");
        assert!(handlers.split(' ').any(|name| name == "other"), "{handlers}");
    }
    cluster.apply(include_str!("manifests/classes.yaml"));
    cluster.k("wait --for=condition=Ready pod/classed --timeout=60s");
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    assert!(calls.contains(" create ") && calls.contains(" start "), "{calls}");
    // The pod without a class has nothing to do with it.
    cluster.k("wait --for=condition=Ready pod/plain --timeout=60s");
    let plain = status(&cluster, "plain", ".containerStatuses[0].containerID");
    assert!(!calls.contains(plain.rsplit('/').next().unwrap()), "{plain}: {calls}");

    cluster.becomes(
        "get pod greedy -o jsonpath='{.status.containerStatuses[0].state.terminated.reason}'",
        "OOMKilled",
    );
    let unknown = match crate::peer_runtime::is_crio() {
        true => "failed to find runtime handler nowhere",
        false => "no runtime for \"nowhere\" is configured",
    };
    cluster.comes_to_say("describe pod lost", &["FailedCreatePodSandBox", unknown]);

    let container = status(&cluster, "classed", ".containerStatuses[0].containerID");
    let works = || {
        assert_eq!(cluster.k("exec classed -- cat /proc/1/comm").trim(), "sh");
        let failed = cluster.try_kubectl(&["exec", "classed", "--", "sh", "-c", "exit 5"]).unwrap_err();
        assert!(failed.contains("exit code 5"), "{failed}");
    };
    works();
    cluster.kill();
    cluster.again();
    // Upstream's kubelet is not waited for by `up`.
    cluster.until("an exec", || cluster.try_kubectl(&["exec", "classed", "--", "true"]).is_ok());
    works();
    assert_eq!(status(&cluster, "classed", ".containerStatuses[0].containerID"), container);
    assert_eq!(status(&cluster, "classed", ".containerStatuses[0].restartCount"), "0");
    // It is told of the end that its process chose, whoever started it and whoever sees it end.
    cluster.k("exec classed -- touch /end");
    cluster.becomes(
        "get pod classed -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}'",
        "Failed 3",
    );
    assert_eq!(cluster.k("logs classed"), "up\n");
    cluster.k("delete pod classed plain greedy lost --timeout=60s");
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
