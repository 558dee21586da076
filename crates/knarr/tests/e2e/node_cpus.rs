//! Processors that a container has for itself: a kubelet by itself, over the runtime of a node.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cri::pod_resources::GetPodResourcesRequest;
use cri::pod_resources::pod_resources_lister_client::PodResourcesListerClient;

use crate::cluster::Cluster;
use crate::node_pods::nodes;
use crate::{control_plane, upstream};

/// A kubelet that ends with the test.
struct Kubelet(Child);

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The kubelet of the cluster's only node makes way for another one, which keeps its files elsewhere.
fn replace(cluster: &Cluster) {
    let status: serde_json::Value = serde_json::from_str(&cluster.knarr(&["status", "-o", "json"])).unwrap();
    let is_kubelet = |process: &&serde_json::Value| process["components"][0] == "kubelet";
    let agent = status["processes"].as_array().unwrap().iter().find(is_kubelet).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(agent["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// `more` are lines of its configuration.
fn begin(cluster: &Cluster, folder: &Path, more: &str) -> Kubelet {
    let (name, node) = (cluster.name(), format!("{}-1", cluster.name()));
    let config = folder.join("kubelet.yaml");
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncpuManagerPolicy: static\n\
         reservedSystemCPUs: '0'\nfailSwapOn: false\nmemoryManagerPolicy: Static\n\
         kubeReserved: {{memory: 63Mi}}\nreservedMemory: [{{numaNode: 0, limits: {{memory: 64Mi}}}}]\n\
         topologyManagerPolicy: single-numa-node\ncgroupRoot: /knarr/{name}/{node}\naddress: 127.0.0.1\n\
         port: 20250\nhealthzPort: 0\nevictionHard: {{memory.available: 1Mi}}\npodLogsDir: {}\nfailCgroupV1: false\n\
         containerRuntimeEndpoint: unix:///run/knarr/{name}/nodes/{node}/runtime/cri.sock\n{more}",
        folder.join("logs").display()
    );
    fs::write(&config, text).unwrap();
    let mut command =
        Command::new(upstream::wanted().unwrap_or_else(|| control_plane::own_kubelet(cluster.dir())));
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--config").arg(config);
    command.arg("--hostname-override").arg(node).arg("--cert-dir").arg(folder.join("pki"));
    command.arg("--root-dir").arg(folder.join("kubelet"));
    Kubelet(command.stderr(fs::File::create(folder.join("kubelet.log")).unwrap()).spawn().unwrap())
}

fn set(text: &str) -> BTreeSet<u32> {
    let number = |text: &str| text.trim().parse::<u32>().unwrap();
    let parts = text.split(',').map(|part| part.split_once('-').unwrap_or((part, part)));
    parts.flat_map(|(first, last)| number(first)..=number(last)).collect()
}

/// What a container may use of its processors' time, in either version of cgroups.
const LIMIT: &str = "cat /sys/fs/cgroup/cpu.max || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us | sed s/-1/max/";
const UNLIMITED: &str = "max";

/// What monitors of the node are told of a pod's first container: its processors, and bytes of memory.
fn told(folder: &Path, pod: &str) -> (BTreeSet<u32>, u64) {
    let socket = folder.join("kubelet/pod-resources/kubelet.sock").display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pod = runtime.block_on(async {
        let mut client = PodResourcesListerClient::new(cri::channel(&socket).await.unwrap());
        let (pod_name, pod_namespace) = (pod.to_owned(), "default".to_owned());
        let answer = client.get(GetPodResourcesRequest { pod_name, pod_namespace }).await.unwrap();
        answer.into_inner().pod_resources.unwrap()
    });
    let container = &pod.containers[0];
    let cpus = container.cpu_ids.iter().map(|id| u32::try_from(*id).unwrap()).collect();
    (cpus, container.memory[0].size)
}

/// A pod that keeps writing where it may run.
fn pod(name: &str, folder: &Path, resources: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  terminationGracePeriodSeconds: 0\n  \
         volumes: [{{name: out, hostPath: {{path: {}}}}}]\n  containers:\n  - name: c\n    \
         image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    \
         command: [sh, -c, '({LIMIT}) > /out/{name}.limit 2>/dev/null; while true; do grep Cpus_allowed_list /proc/self/status > /out/{name}.new; mv /out/{name}.new /out/{name}; sleep 0.1; done']\n    \
         volumeMounts: [{{name: out, mountPath: /out}}]\n    resources: {resources}\n",
        folder.display()
    )
}

struct Seen(PathBuf);

impl Seen {
    fn of(&self, pod: &str) -> Option<BTreeSet<u32>> {
        let text = fs::read_to_string(self.0.join(pod)).ok()?;
        Some(set(text.split_once(':')?.1))
    }
}

impl Seen {
    /// Waits until a pod runs where it is to run.
    fn runs(&self, cluster: &Cluster, name: &str, on: &dyn Fn(&BTreeSet<u32>) -> bool) {
        let log = fs::read_to_string(self.0.join("../kubelet.log")).unwrap();
        cluster.until(&format!("{name} on other cpus than {:?}\n{log}", self.of(name)), || {
            self.of(name).is_some_and(|set| on(&set))
        });
    }
}

/// The processors of the machine, a cluster whose kubelet can be replaced, and a folder for the new one.
fn prepared() -> Option<(BTreeSet<u32>, Cluster, PathBuf)> {
    let all = set(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap());
    if all.len() < 2 {
        eprintln!("skipped: one processor cannot be shared and given away");
        return None;
    }
    let cluster = nodes("1")?;
    replace(&cluster);
    let folder = cluster.dir().join("static");
    fs::create_dir_all(folder.join("out")).unwrap();
    Some((all, cluster, folder))
}

#[test]
fn a_guaranteed_container_has_its_processors_for_itself() {
    let Some((all, cluster, folder)) = prepared() else { return };
    let out = folder.join("out");
    let kubelet = begin(&cluster, &folder, "");
    let seen = Seen(out.clone());
    let direct = format!("nodeName: {}-1", cluster.name());
    let runs = |name: &str, on: &dyn Fn(&BTreeSet<u32>) -> bool| seen.runs(&cluster, name, on);
    cluster.apply(&pod("shared", &out, "{}", &direct));
    runs("shared", &|set| *set == all);
    let whole = |count: usize| format!("{{limits: {{cpu: {count}, memory: 32Mi}}}}");
    cluster.apply(&pod("pinned", &out, &whole(1), &direct));
    runs("pinned", &|set| set.len() == 1 && !set.contains(&0));
    let own = seen.of("pinned").unwrap();
    // Nobody else can use their time: a limit of it would only slow the container down.
    assert_eq!(
        fs::read_to_string(out.join("pinned.limit")).unwrap().split_whitespace().next(),
        Some(UNLIMITED)
    );
    assert_eq!(told(&folder, "pinned"), (own.clone(), 32 << 20));
    let rest: BTreeSet<u32> = all.difference(&own).copied().collect();
    runs("shared", &|set| *set == rest);

    drop(kubelet);
    let _kubelet = begin(&cluster, &folder, "");
    // The system's and the first one's are not to be had; a kubelet that forgot would not know.
    cluster.apply(&pod("greedy", &out, &whole(all.len() - 1), &direct));
    cluster.becomes("get pod greedy -o jsonpath={.status.reason}", "TopologyAffinityError");
    let message = cluster.k("get pod greedy -o jsonpath={.status.message}");
    assert_eq!(message, "Pod was rejected: Resources cannot be allocated with Topology locality");
    assert_eq!((seen.of("pinned"), seen.of("shared")), (Some(own), Some(rest)));
    cluster.k("delete pod pinned --timeout=30s");
    runs("shared", &|set| *set == all);
    cluster.k("delete pod shared greedy --timeout=30s");
    // Without a grace period an object goes before what the node has of its pod.
    cluster
        .until("pods leave nothing", || fs::read_dir(folder.join("kubelet/pods")).unwrap().next().is_none());
}

#[test]
fn a_pod_with_resources_of_its_own_has_its_processors_for_itself() {
    let Some((all, cluster, folder)) = prepared() else { return };
    let out = folder.join("out");
    let gate = "topologyManagerScope: pod\nfeatureGates: {PodLevelResourceManagers: true}\n";
    let kubelet = begin(&cluster, &folder, gate);
    let seen = Seen(out.clone());
    let runs = |name: &str, on: &dyn Fn(&BTreeSet<u32>) -> bool| seen.runs(&cluster, name, on);
    let direct = format!("nodeName: {}-1", cluster.name());
    // What it asks for is said, too: the sum of what its containers ask for, otherwise.
    let amounts = "{cpu: 1, memory: 32Mi}";
    let whole = format!("{direct}\n  resources: {{limits: {amounts}, requests: {amounts}}}");
    cluster.apply(&pod("shared", &out, "{}", &direct));
    runs("shared", &|set| *set == all);
    cluster.apply(&pod("whole", &out, "{}", &whole));
    runs("whole", &|set| set.len() == 1 && !set.contains(&0));
    let own = seen.of("whole").unwrap();
    // Its containers share it, each bounded by what the pod has.
    let limit = fs::read_to_string(out.join("whole.limit")).unwrap();
    assert_eq!(limit.split_whitespace().next(), Some("100000"));
    assert_eq!(told(&folder, "whole"), (own.clone(), 32 << 20));
    let rest: BTreeSet<u32> = all.difference(&own).copied().collect();
    runs("shared", &|set| *set == rest);
    // What the pod has is one container's, and another one is there.
    let full = pod("full", &out, "{limits: {cpu: 1, memory: 16Mi}}", &whole)
        + "  - {name: d, image: 'docker.io/library/busybox:test', command: [sleep, '1000']}\n";
    cluster.apply(&full);
    cluster.becomes("get pod full -o jsonpath={.status.reason}", "TopologyAffinityError");
    let message = cluster.k("get pod full -o jsonpath={.status.message}");
    let why = "Pod was rejected: Pod Scope pod with pod-level resources failed admission under pod-scope topology manager";
    assert_eq!(message, why);

    drop(kubelet);
    let _kubelet = begin(&cluster, &folder, gate);
    cluster.apply(&pod("greedy", &out, "{}", &whole.replace("cpu: 1", &format!("cpu: {}", all.len() - 1))));
    cluster.becomes("get pod greedy -o jsonpath={.status.reason}", "TopologyAffinityError");
    if upstream::wanted().is_some() {
        runs("shared", &|set| *set == rest);
    }
    assert_eq!((seen.of("whole"), seen.of("shared")), (Some(own), Some(rest)));
    cluster.k("delete pod whole --timeout=30s");
    runs("shared", &|set| *set == all);
    cluster.k("delete pod shared greedy full --timeout=30s");
    cluster
        .until("pods leave nothing", || fs::read_dir(folder.join("kubelet/pods")).unwrap().next().is_none());
}
