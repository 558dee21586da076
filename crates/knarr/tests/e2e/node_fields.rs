//! Pods with the rarer fields, looked at from inside their containers and through kubectl.

use crate::cluster::Cluster;
use crate::node_pods::nodes;

fn ready(cluster: &Cluster, pod: &str) {
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
}

#[test]
fn node_fields_are_seen_from_inside() {
    let Some(cluster) = nodes("1") else { return };
    let has_images = !crate::peer_runtime::is_containerd();
    let lines = include_str!("manifests/fields.yaml").lines();
    let lines: Vec<&str> = lines.filter(|line| has_images || !line.contains("name: img")).collect();
    cluster.apply(&lines.join("\n"));
    ready(&cluster, "fields");
    let inside = |command: &str| cluster.kubectl(&["exec", "fields", "-c", "c", "--", "sh", "-c", command]);
    let lines = |command: &str| inside(command).lines().map(str::to_owned).collect::<Vec<_>>();
    for (command, expected) in [
        ("id -u; id -g", "1000\n1000"),
        ("hostname", "boat.sea.default.svc.cluster.local"),
        ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "1"),
        ("pwd", "/tmp"),
        ("echo $K", "from file"),
        ("echo $MEM $P_a", "64 1"),
        ("cat /sub/f", "hi"),
        ("cat /proj/labels /proj/cpu", "x=\"zz\"500"),
        ("stat -L -c %a /cm/dir/a", "440"),
        ("stat -L -c %a:%g /cm/dir", "2755:2000"),
        ("cat /cm/dir/a", "1"),
        ("stat -c %g /disk", "2000"),
        ("touch /x 2>/dev/null || echo no", "no"),
        ("touch /ro/x 2>/dev/null || echo no", "no"),
        ("df -k /mem | tail -1 | awk '{print $2}'", "8192"),
        ("touch /mem/y && stat -c %g /mem/y", "2000"),
        ("grep NoNewPrivs /proc/self/status | awk '{print $2}'", "1"),
        ("grep '^Seccomp:' /proc/self/status | awk '{print $2}'", "2"),
        ("grep CapBnd /proc/self/status | awk '{print $2}'", "0000000000000400"),
    ] {
        assert_eq!(inside(command).trim(), expected, "{command}");
    }
    if has_images {
        assert_eq!(inside("touch /img/x 2>/dev/null || echo no").trim(), "no");
        assert_eq!(inside("test -x /img/bin/busybox && echo there").trim(), "there");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release.split('.').take(2).map(|number| number.parse().unwrap()).collect();
    let memory = inside("grep ' /mem tmpfs ' /proc/mounts");
    assert!(memory.contains("noswap") || version < vec![6, 4], "Linux {release} may swap it: {memory}");
    let groups = inside("grep Groups /proc/self/status");
    assert!(["2000", "3000"].iter().all(|group| groups.contains(group)), "{groups}");
    let resolv = lines("cat /etc/resolv.conf");
    assert!(resolv.contains(&"nameserver 9.9.9.9".to_owned()), "{resolv:?}");
    assert!(resolv.iter().any(|line| line.starts_with("search") && line.ends_with(" my.dom")), "{resolv:?}");
    let options = ["options ndots:2 edns0", "options edns0 ndots:2"];
    assert!(resolv.iter().any(|line| options.contains(&line.as_str())), "{resolv:?}");
    assert!(lines("cat /etc/hosts").contains(&"10.1.2.3\tfoo.local\tbar.local".to_owned()));
    let processes = inside("ps -o args");
    assert!(processes.contains("sleep 7777"), "the other container's processes are seen: {processes}");
    let mounts = "jsonpath={.status.containerStatuses[?(@.name==\"c\")].volumeMounts[?(@.mountPath==\"/ro\")].recursiveReadOnly}";
    let recursive = cluster.kubectl(&["get", "pod", "fields", "-o", mounts]);
    assert!(matches!(recursive.as_str(), "Enabled" | "Disabled"), "{recursive}");
    cluster.kubectl(&["delete", "pod", "fields", "--timeout=60s"]);
    match has_users_of_a_pods_own(&cluster) {
        true => users_of_a_pods_own(&cluster),
        false => eprintln!("skipped in part: the runtime has no users of a pod's own"),
    }
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

/// Whether the runtime can give a pod users of its own: containerd from 2.0, runc from 1.2 on. Ours has to.
pub fn has_users_of_a_pods_own(cluster: &Cluster) -> bool {
    let features = "get nodes -o jsonpath={.items[0].status.runtimeHandlers[*].features.userNamespaces}";
    crate::peer_runtime::wanted().is_none() || cluster.k(features).contains("true")
}

/// `hostUsers: false`: root inside is one of the pod's 65,536 users outside, and its files are root's all the same.
fn users_of_a_pods_own(cluster: &Cluster) {
    cluster.apply(include_str!("manifests/users.yaml"));
    ready(cluster, "users");
    let inside = |container: &str, command: &str| {
        cluster.kubectl(&["exec", "users", "-c", container, "--", "sh", "-c", command]).trim().to_owned()
    };
    let map = inside("c", "cat /proc/self/uid_map");
    let map: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(map[0] == 0 && map[1] >= 65_536 && map[2] == 65_536, "{map:?}");
    for (container, command, expected) in [
        ("c", "id -u", "0"),
        ("c", "stat -c %u:%g /bin/busybox /etc/hosts /empty /below", "0:0\n0:0\n0:2000\n0:2000"),
        ("c", "stat -L -c %a:%g /secret/key; cat /secret/key", "440:2000\nsecret"),
        ("c", "touch /root-was-here /below/x && stat -c %u:%g /below/x", "0:2000"),
        ("user", "touch /empty/y && stat -c %u:%g /empty/y", "1000:2000"),
    ] {
        assert_eq!(inside(container, command), expected, "{container}: {command}");
    }
    cluster.kubectl(&["delete", "pod", "users", "--timeout=60s"]);
}

/// The quotas of processor time of all containers of a cluster, whichever version of cgroups the machine has.
fn quotas(cluster: &str) -> Vec<String> {
    fn below(folder: &std::path::Path, found: &mut Vec<String>) {
        for file in ["cpu.cfs_quota_us", "cpu.max"] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
            found.extend(text.split_whitespace().next().map(str::to_owned));
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    for root in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"] {
        below(&std::path::Path::new(root).join("knarr").join(cluster), &mut found);
    }
    found
}

const STATIC: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: st}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
    containers: [{name: c, image: \"busybox:test\", command: [sleep, \"7777\"]}]\n";

#[test]
fn node_runs_static_pods_and_shows_them() {
    let Some(cluster) = nodes("1") else { return };
    let node = format!("{}-1", cluster.name());
    let manifest = cluster.dir().join("data/nodes").join(&node).join("manifests/st.yaml");
    let name = format!("st-{node}");
    let get = |path: &str| cluster.try_kubectl(&["get", "pod", &name, "-o", &format!("jsonpath={{{path}}}")]);
    std::fs::write(&manifest, STATIC).unwrap();
    cluster.until("the mirror pod", || get(".status.phase").is_ok_and(|phase| phase == "Running"));
    assert_eq!(get(".metadata.ownerReferences[0].kind").unwrap(), "Node");
    let id = get(".status.containerStatuses[0].containerID").unwrap();
    // Neither a deleted mirror nor a new kubelet does anything to the pod.
    let mirror = get(".metadata.uid").unwrap();
    cluster.kubectl(&["delete", "pod", &name, "--wait=false"]);
    cluster.until("another mirror", || get(".metadata.uid").is_ok_and(|uid| uid != mirror));
    cluster.kill();
    cluster.again();
    cluster.until("the same container", || {
        get(".status.containerStatuses[0].containerID").is_ok_and(|now| now == id)
    });
    std::fs::write(&manifest, STATIC.replace("7777", "8888")).unwrap();
    cluster.until("the changed pod", || {
        get(".status.containerStatuses[0].containerID").is_ok_and(|now| !now.is_empty() && now != id)
            && get(".spec.containers[0].command[1]").is_ok_and(|seconds| seconds == "8888")
    });
    // The same manifest, which was away for a moment.
    std::fs::remove_file(&manifest).unwrap();
    std::fs::write(&manifest, STATIC.replace("7777", "8888")).unwrap();
    cluster.until("the restarted pod", || {
        get(".status.containerStatuses[0].restartCount").is_ok_and(|count| count == "1")
    });
    std::fs::remove_file(&manifest).unwrap();
    cluster.until("the pod to go", || get(".metadata.name").is_err());
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}

#[test]
fn node_debugs_resizes_and_restarts_by_rule() {
    let Some(cluster) = nodes("1") else { return };
    cluster.apply(&include_str!("manifests/changes.yaml").replace("NODE", &format!("{}-1", cluster.name())));
    ready(&cluster, "p");
    cluster.kubectl(&[
        "debug",
        "p",
        "--image=busybox:test",
        "--target=c",
        "-c",
        "dbg",
        "--attach=false",
        "--",
        "sh",
        "-c",
        "ps; sleep 7777",
    ]);
    cluster.until("the debugger to see its target", || {
        cluster.try_kubectl(&["logs", "p", "-c", "dbg"]).is_ok_and(|log| log.contains("sleep 6666"))
    });
    let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m","memory":"96Mi"}}}]}}"#;
    cluster.kubectl(&["patch", "pod", "p", "--subresource", "resize", "-p", patch]);
    let status = |path: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.name==\"c\")]{path}}}");
        cluster.kubectl(&["get", "pod", "p", "-o", &path])
    };
    cluster.until("the resize", || status(".resources.limits.memory") == "96Mi");
    assert_eq!(status(".restartCount"), "0");
    let types = ["get", "pod", "p", "-o", "jsonpath={.status.conditions[*].type}"];
    cluster.until("the resize to be over", || !cluster.kubectl(&types).contains("PodResize"));
    let quota = quotas(cluster.name());
    assert!(quota.iter().any(|quota| quota == "30000"), "{quota:?}");
    let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}}]}}"#;
    let refused =
        cluster.try_kubectl(&["patch", "pod", "p", "--subresource", "resize", "-p", patch]).unwrap_err();
    assert!(
        refused.contains("node didn't have enough allocatable resources: cpu, requested: 900000"),
        "{refused}"
    );

    let phase = |pod: &str| cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]);
    cluster.until("the rule to end it", || phase("ruled") == "Failed");
    let count = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(cluster.kubectl(&["get", "pod", "ruled", "-o", count]), "1 3");
    cluster.until("the greedy pod to be evicted", || phase("greedy") == "Failed");
    let message =
        cluster.kubectl(&["get", "pod", "greedy", "-o", "jsonpath={.status.reason}: {.status.message}"]);
    assert_eq!(message, "Evicted: Usage of EmptyDir volume \"d\" exceeds the limit \"1Mi\". ");
    cluster.until("the pod that does not fit", || phase("huge") == "Failed");
    let message =
        cluster.kubectl(&["get", "pod", "huge", "-o", "jsonpath={.status.reason}: {.status.message}"]);
    assert!(
        message.starts_with("OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu,"),
        "{message}"
    );
    assert_eq!(cluster.down(), Vec::<String>::new(), "left behind");
}
