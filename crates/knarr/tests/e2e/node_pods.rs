//! Containers: how they start, end, start again, are looked after, and are told to stop.

use crate::cluster::{Cluster, is_root};
use crate::{control_plane, image, peer_runtime, upstream};

/// A cluster with nodes and an image on them; `None` where nodes cannot be.
pub fn nodes(count: &str) -> Option<Cluster> {
    nodes_with(&["--nodes", count])
}

/// The same with other flags.
pub fn nodes_with(flags: &[&str]) -> Option<Cluster> {
    nodes_after(flags, |_| {})
}

/// One node with this `KubeletConfiguration`, which is kept in the folder.
pub fn node_told(configuration: &str) -> Option<(Cluster, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubelet.yaml");
    std::fs::write(&file, configuration).unwrap();
    let cluster = nodes_with(&["--nodes", "1", "--kubelet-config", &file.display().to_string()])?;
    Some((cluster, folder))
}

/// The same after something was done for the cluster.
pub fn nodes_after(flags: &[&str], prepare: impl FnOnce(&Cluster)) -> Option<Cluster> {
    let (cluster, count) = up(flags, prepare)?;
    let kubelet = match (upstream::wanted(), control_plane::wanted()) {
        (None, Some(_)) => Some(control_plane::own_kubelet(cluster.dir())),
        (wanted, _) => wanted,
    };
    if let Some(program) = kubelet {
        cluster.use_kubelet(&program, count);
    }
    cluster.nodes_are_ready(count);
    cluster.import(&image::busybox(cluster.dir(), "docker.io/library/busybox:test"));
    Some(cluster)
}

/// A cluster whose nodes have Services, their names, and routes to each other.
pub fn nodes_with_services(flags: &[&str]) -> Option<Cluster> {
    if upstream::wanted().is_some() {
        eprintln!("skipped: Services, names and routes are our agent's, which makes way for another kubelet");
        return None;
    }
    let (cluster, count) = up(flags, |_| {})?;
    if control_plane::wanted().is_some() {
        cluster.restart_agents(count);
    }
    cluster.nodes_are_ready(count);
    cluster.import(&image::busybox(cluster.dir(), "docker.io/library/busybox:test"));
    Some(cluster)
}

/// A cluster over the runtime and below the control plane that are wanted, and how many nodes it has.
fn up(flags: &[&str], prepare: impl FnOnce(&Cluster)) -> Option<(Cluster, usize)> {
    if !is_root() {
        eprintln!("skipped: nodes need root");
        return None;
    }
    let count = flags.iter().skip_while(|flag| **flag != "--nodes").nth(1);
    let count = count.map_or(1, |count| count.parse().unwrap());
    let cluster = match peer_runtime::wanted() {
        None => Cluster::up_after(flags, prepare),
        Some(program) => Cluster::up_on(&program, count, flags, prepare),
    };
    if let Some(programs) = control_plane::wanted() {
        cluster.use_control_plane(&programs);
    }
    Some((cluster, count))
}

fn state(pod: &str) -> String {
    format!(
        "get pod {pod} -o jsonpath='{{.status.phase}} {{.status.containerStatuses[0].state.terminated.reason}} {{.status.containerStatuses[0].state.terminated.exitCode}}'"
    )
}

#[test]
fn containers_start_end_and_start_again() {
    let Some(cluster) = nodes("1") else { return };
    cluster.write("containers.yaml", include_str!("manifests/containers.yaml"));
    cluster.k("apply -f containers.yaml");
    cluster.becomes(&state("inits"), "Succeeded Completed 0");
    assert_eq!(cluster.k("logs inits"), "one\ntwo\n");
    assert_eq!(cluster.k("logs inits -c first"), "first was here\n");
    let conditions = "get pod inits -o jsonpath='{range .status.conditions[?(@.reason==\"PodCompleted\")]}{.type}={.status} {end}'";
    assert_eq!(cluster.k(conditions).trim(), "Initialized=True Ready=False ContainersReady=False");
    cluster.shows("get pod bad-init", "Init:Error");
    cluster.becomes("get pod bad-init -o jsonpath='{.status.phase} {.status.initContainerStatuses[0].state.terminated.exitCode}'", "Failed 4");
    cluster.becomes(&state("never"), "Failed Error 7");
    cluster.says("describe pod never", &["Reason:   Error\n", "Message:  last words\n", "Exit Code:    7\n"]);
    cluster.becomes(&state("on-failure"), "Succeeded Completed 0");
    assert_eq!(cluster.k("get pod on-failure -o jsonpath={.status.containerStatuses[0].restartCount}"), "1");
    // Of a pod that is through, upstream's kubelet keeps only what ended last.
    if upstream::wanted().is_none() {
        assert_eq!(cluster.k("logs on-failure --previous"), "failing\n");
    }
    cluster.becomes(&state("too-big"), "Failed OOMKilled 137");
    cluster.becomes("get pod sidecar -o jsonpath={.status.phase}", "Succeeded");
    cluster.says("get pod sidecar", &["Completed"]);
    assert_eq!(cluster.k("logs sidecar -c side"), "side up\n");
    cluster.becomes("get pod late -o jsonpath='{.status.phase} {.status.reason}'", "Failed DeadlineExceeded");
    cluster.comes_to_say("events --for=pod/late", &["Normal", "DeadlineExceeded"]);
    // Conmon finds that out while the container is made.
    if peer_runtime::is_crio() {
        cluster.shows("get pod no-command", "CreateContainerError");
    } else {
        cluster.becomes(&state("no-command"), "Failed StartError 128");
    }
    cluster.says("describe pod no-command", &["/not/there", "Warning  Failed"]);

    // Upstream's kubelet writes that it waits only when it looks again, and that is when it does not wait any more.
    if upstream::wanted().is_none() {
        cluster.shows("get pod always", "CrashLoopBackOff");
        let why = ["Reason: CrashLoopBackOff", "Last State: Terminated", "Exit Code: 3"];
        cluster.comes_to_say("describe pod always", &why);
        // What ended before the pause is the previous one, also when it was the first.
        assert_eq!(cluster.k("logs always --previous"), "attempt\n");
    }
    let backs_off = "Back-off restarting failed container c in pod always_default";
    cluster.comes_to_say("describe pod always", &[backs_off]);
    cluster.shows("get pod no-image", "ImagePullBackOff");
    let why = if peer_runtime::is_crio() { "Error: RegistryUnavailable" } else { "Error: ErrImagePull" };
    cluster.says(
        "describe pod no-image",
        &[
            "Failed to pull image \"127.0.0.1:1/nobody/has-this:v9\"",
            why,
            "Back-off pulling image \"127.0.0.1:1/nobody/has-this:v9\"",
        ],
    );
    cluster.refuses("logs no-image", "Error from server (BadRequest): container \"c\" in pod \"no-image\" is waiting to start: trying and failing to pull image");
    assert_eq!(cluster.k("delete -f containers.yaml --timeout=30s").lines().count(), 10);
}

#[test]
fn probes_restart_and_withhold() {
    let Some(cluster) = nodes("1") else { return };
    cluster.write("probes.yaml", include_str!("manifests/probes.yaml"));
    cluster.k("apply -f probes.yaml");
    let restarts =
        |pod: &str| format!("get pod {pod} -o jsonpath={{.status.containerStatuses[0].restartCount}}");
    cluster.k("wait --for=condition=Ready pod/exec-dies pod/http-ready --timeout=30s");
    assert_eq!(cluster.k(&restarts("exec-dies")), "0");
    cluster.k("exec exec-dies -- rm /alive");
    cluster.becomes(&restarts("exec-dies"), "1");
    cluster.says(
        "describe pod exec-dies",
        &[
            "Liveness probe failed: cat: can't open '/alive': No such file or directory",
            "Container c failed liveness probe, will be restarted",
        ],
    );
    cluster
        .until("the pod whose port nobody opens to be restarted", || cluster.k(&restarts("tcp-dies")) != "0");
    cluster.says(
        "describe pod tcp-dies",
        &["Liveness probe failed: dial tcp", ":81: connect: connection refused"],
    );

    // CRI-O says so as if the command did.
    let after = if peer_runtime::is_crio() { "" } else { ": \"sleep 1234\" timed out after 1s" };
    cluster.shows("describe pod exec-hangs", &format!("Readiness probe failed: command timed out{after}"));
    let hanging = cluster.k("exec exec-hangs -- ps");
    assert!(hanging.matches("sleep 1234").count() <= 1, "what took too long is ended: {hanging}");

    let ready = "get endpointslices -l kubernetes.io/service-name=http-ready -o jsonpath='{.items[*].endpoints[*].conditions.ready}'";
    cluster.becomes(ready, "true");
    cluster.k("exec http-ready -- mv /www/ready /www/gone");
    cluster.becomes(ready, "false");
    cluster.says("get pod http-ready", &["0/1", "Running"]);
    cluster
        .says("describe pod http-ready", &["Readiness probe failed: HTTP probe failed with statuscode: 404"]);
    cluster.k("exec http-ready -- mv /www/gone /www/ready");
    cluster.becomes(ready, "true");
    assert_eq!(cluster.k(&restarts("http-ready")), "0");
}

#[test]
fn containers_are_asked_to_end_and_then_made_to() {
    let Some(cluster) = nodes("1") else { return };
    let out = cluster.dir().join("out");
    std::fs::create_dir(&out).unwrap();
    cluster.write(
        "ending.yaml",
        &include_str!("manifests/ending.yaml").replace("@DIR@", &out.display().to_string()),
    );
    cluster.k("apply -f ending.yaml");
    cluster.k("wait --for=condition=Ready pod/polite pod/asked pod/brief pod/deaf --timeout=30s");
    cluster.shows("logs polite", "up");
    let since = std::time::Instant::now();
    cluster.k("delete pod polite --timeout=30s");
    assert!(since.elapsed().as_secs() < 15, "it had 20 seconds and needed none: {:?}", since.elapsed());
    assert_eq!(std::fs::read_to_string(out.join("polite")).unwrap(), "hook\nterm\n");
    cluster.shows("logs asked", "up");
    let since = std::time::Instant::now();
    cluster.k("delete pod asked --timeout=30s");
    let own = upstream::wanted().is_none() && peer_runtime::wanted().is_none();
    assert!(!own || since.elapsed().as_secs() < 15, "it stops by its own signal: {:?}", since.elapsed());
    let told = cluster.k("events --for=pod/asked");
    assert!(told.contains("PreStopHook failed") && !told.contains("secret"), "{told}");
    // However short its grace period is, it has two seconds.
    cluster.shows("logs brief", "up");
    cluster.k("delete pod brief --timeout=30s");
    assert_eq!(std::fs::read_to_string(out.join("brief")).unwrap(), "done\n");
    cluster.shows("logs deaf", "up");
    let since = std::time::Instant::now();
    cluster.k("delete pod deaf --timeout=30s");
    let took = since.elapsed().as_secs_f32();
    assert!((1.5..10.0).contains(&took), "two seconds of grace, then no mercy: {took}");
    cluster.says("events --for=pod/deaf", &["Killing", "Stopping container c"]);
}
