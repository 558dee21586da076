//! Pods go where their volumes are. The nodes are only named: nobody runs anything here.

use crate::cluster::Cluster;

fn nodes(cluster: &Cluster) {
    for name in ["one", "two"] {
        let labels = format!("{{kubernetes.io/hostname: {name}}}");
        cluster
            .apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {labels}}}}}"));
    }
}

const CLASS: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: later}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
";

/// A volume of a node, to be `claim`'s if that is not empty.
fn volume(name: &str, node: &str, class: &str, claim: &str) -> String {
    let claim = match claim {
        "" => String::new(),
        claim => format!("claimRef: {{namespace: default, name: {claim}}}"),
    };
    format!(
        "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: {class:?}
  local: {{path: /tmp}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
  {claim}
"
    )
}

fn claim(name: &str, class: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
  storageClassName: {class:?}
"
    )
}

/// A pod with a claim, which both have its name.
fn pod(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers: [{{name: c, image: x}}]
  tolerations: [{{operator: Exists}}]
  volumes: [{{name: v, persistentVolumeClaim: {{claimName: {name}}}}}]
"
    )
}

fn is_on(cluster: &Cluster, pod: &str, node: &str) {
    cluster.becomes(&format!("get pod {pod} -o jsonpath={{.spec.nodeName}}"), node);
}

fn waits(cluster: &Cluster, pod: &str, why: &str) {
    let condition = "jsonpath={.status.conditions[0].message}";
    let helpless = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    let why = format!("0/2 nodes are available: {why}. {helpless}");
    cluster.becomes(&format!("get pod {pod} -o {condition}"), &why);
}

#[test]
fn a_bound_volume_draws_its_pod_to_its_node() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    nodes(&cluster);
    cluster.apply(&volume("of-two", "two", "", "bound"));
    cluster.apply(&claim("bound", ""));
    cluster.apply(&pod("bound"));
    is_on(&cluster, "bound", "two");

    // A claim that is not there yet.
    cluster.apply(&pod("late"));
    waits(&cluster, "late", "persistentvolumeclaim \"late\" not found");
    cluster.apply(&volume("of-one", "one", "", "late"));
    cluster.apply(&claim("late", ""));
    is_on(&cluster, "late", "one");
}

#[test]
fn a_claim_that_waits_for_its_pod_gets_a_volume_of_the_pods_node() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    nodes(&cluster);
    cluster.apply(CLASS);
    cluster.apply(&volume("of-two", "two", "later", ""));
    for name in ["first", "second"] {
        cluster.apply(&claim(name, "later"));
    }
    cluster.apply(&pod("first"));
    let owner =
        "-o jsonpath={.spec.claimRef.name},{.metadata.annotations.pv\\.kubernetes\\.io/bound-by-controller}";
    cluster.becomes(&format!("get pv of-two {owner}"), "first,yes");
    // It is nobody else's any more.
    cluster.apply(&pod("second"));
    waits(&cluster, "second", "2 node(s) didn't find available persistent volumes to bind");
    is_on(&cluster, "first", "two");

    cluster.apply(&volume("of-one", "one", "later", ""));
    cluster.becomes(&format!("get pv of-one {owner}"), "second,yes");
    is_on(&cluster, "second", "one");
}
