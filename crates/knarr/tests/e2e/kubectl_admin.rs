//! Labels, nodes, rights, waiting and events.

use crate::cluster::Cluster;

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {kubernetes.io/hostname: n1, node-role.kubernetes.io/worker: ''}}
---
apiVersion: v1
kind: Pod
metadata: {name: lone}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: set}
spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}}
";

#[test]
fn labels_and_annotations_are_set_guarded_and_removed() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.k("create configmap c");
    for (verb, done, undone, noun) in
        [("label", "labeled", "unlabeled", "label"), ("annotate", "annotated", "annotated", "annotation")]
    {
        cluster.says(&format!("{verb} configmap c a=b"), &[&format!("configmap/c {done}")]);
        cluster.refuses(&format!("{verb} configmap c a=c"), "'a' already has a value (b)");
        cluster.says(&format!("{verb} configmap c a=c --overwrite"), &[&format!("configmap/c {done}")]);
        let field = format!(
            "get configmap c -o jsonpath={{.metadata.{}s}}",
            if noun == "label" { "label" } else { noun }
        );
        assert_eq!(cluster.k(&field), r#"{"a":"c"}"#);
        cluster.says(&format!("{verb} configmap c a-"), &[&format!("configmap/c {undone}")]);
        assert_eq!(cluster.k(&field), "");
    }
    cluster.says("label configmap c a-", &["label \"a\" not found."]);
    cluster.refuses("label configmap c 'bad key=x'", "name part must consist of alphanumeric characters");
    cluster.refuses(
        "label configmap c x='bad value'",
        "a valid label must be an empty string or consist of alphanumeric characters",
    );
    cluster.says("label configmaps --all x=y", &["configmap/c labeled"]);
    cluster.k("create configmap d");
    assert_eq!(
        cluster.k("get configmaps -l x=y,!z -o name").lines().last(),
        Some("configmap/kube-root-ca.crt")
    );
}

#[test]
fn nodes_are_cordoned_tainted_and_drained() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.write("node.yaml", NODE);
    cluster.k("apply -f node.yaml");
    cluster.says("get node n1", &["worker"]);
    cluster.says("cordon n1", &["node/n1 cordoned"]);
    cluster.says("cordon n1", &["node/n1 already cordoned"]);
    cluster.says("get node n1", &["SchedulingDisabled"]);
    cluster.says("uncordon n1", &["node/n1 uncordoned"]);
    cluster.refuses("cordon nope", "nodes \"nope\" not found");
    cluster.says("taint node n1 k=v:NoSchedule", &["node/n1 tainted"]);
    cluster.refuses(
        "taint node n1 k=v:NoSchedule",
        "error: node n1 already has k taint(s) with same effect(s) and --overwrite is false",
    );
    cluster.says("taint node n1 k=w:NoSchedule --overwrite", &["node/n1 modified"]);
    assert_eq!(cluster.k("get node n1 -o jsonpath='{.spec.taints[?(@.key==\"k\")].value}'"), "w");
    cluster.says("taint node n1 k-", &["node/n1 untainted"]);
    cluster.refuses("taint node n1 k-", "error: taint \"k\" not found");
    cluster.says(
        "describe node n1",
        &[
            "Roles:              worker",
            "Unschedulable:      false",
            "Non-terminated Pods:",
            "default                     lone",
        ],
    );

    cluster.shows("get pods -l a=b -o name", "pod/set-");
    cluster.refuses(
        "drain n1",
        "cannot delete Pods that declare no controller (use --force to override): default/lone",
    );
    cluster.says("uncordon n1", &["uncordoned"]);
    cluster.k("create poddisruptionbudget keep --selector=a=b --min-available=1");
    cluster.k("scale replicaset set --replicas=0");
    cluster.k("delete pods -l a=b --force --grace-period=0");
    let drained = cluster
        .k("drain n1 --force --ignore-daemonsets --delete-emptydir-data --grace-period=0 --timeout=20s");
    assert!(drained.contains("pod/lone evicted") && drained.contains("node/n1 drained"), "{drained}");
    cluster.says("get node n1", &["SchedulingDisabled"]);
    cluster.refuses("get pod lone", "NotFound");
}

#[test]
fn rights_are_told() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    assert_eq!(cluster.k("auth can-i '*' '*'"), "yes\n");
    cluster.exits("auth can-i create pods --as=jane", 1, &["no\n"]);
    cluster.k("create clusterrole looker --verb=get,list --resource=pods,pods/log");
    cluster.k("create rolebinding jane --clusterrole=looker --user=jane");
    assert_eq!(cluster.k("auth can-i list pods --as=jane"), "yes\n");
    assert_eq!(cluster.k("auth can-i get pods --subresource=log --as=jane"), "yes\n");
    cluster.exits("auth can-i list pods --as=jane -n kube-system", 1, &["no"]);
    assert_eq!(cluster.k("auth can-i get /healthz --as=jane"), "yes\n");
    let list = cluster.k("auth can-i --list --as=jane");
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["pods", "[]", "[]", "[get", "list]"]), "{list}");
    assert!(rows.contains(&vec!["pods/log", "[]", "[]", "[get", "list]"]), "{list}");
    cluster.says("get pods --as=jane", &["No resources found in default namespace."]);
    cluster.refuses("delete pod x --as=jane", r#"pods "x" is forbidden: User "jane" cannot delete resource "pods" in API group "" in the namespace "default""#);
    cluster.says("auth whoami", &["Username", "kubernetes-admin", "[system:masters system:authenticated]"]);
    cluster.says("auth whoami --as=jane --as-group=crew", &["jane", "[crew system:authenticated]"]);
    // A user may hand on only what it has.
    cluster.k("create clusterrolebinding clerk --clusterrole=admin --user=clerk");
    cluster.refuses(
        "create clusterrole more --verb='*' --resource=nodes --as=clerk",
        "cannot create resource \"clusterroles\"",
    );
    cluster.refuses(
        "create role more --verb=get --resource=nodes --as=clerk",
        "is attempting to grant RBAC permissions not currently held",
    );
}

#[test]
fn waiting_ends_when_it_should() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.k("create deployment web --image=x --replicas=2");
    cluster.says(
        "wait --for=jsonpath={.spec.replicas}=2 deployment/web",
        &["deployment.apps/web condition met"],
    );
    cluster.refuses(
        "wait --for=condition=Available deployment/web --timeout=1s",
        "error: timed out waiting for the condition on deployments/web",
    );
    cluster.says("wait --for=condition=Available=false deployment/web --timeout=20s", &["condition met"]);
    cluster.refuses("wait --for=condition=Ready pod/none", "pods \"none\" not found");
    let mut created = cluster.start("wait --for=create configmap/later --timeout=30s");
    cluster.k("create configmap later");
    created.until("configmap/later condition met");
    assert_eq!(created.end(), 0);
    let mut deleted = cluster.start("wait --for=delete configmap/later --timeout=30s");
    cluster.refuses(
        "wait --for=delete configmap/later --timeout=1s",
        "timed out waiting for the condition on configmaps/later",
    );
    cluster.k("delete configmap later");
    deleted.until("configmap/later");
    assert_eq!(deleted.end(), 0);

    cluster.shows("events --for=deployment/web", "Scaled up replica set web-");
    cluster.shows("events --types=Warning", "no nodes available to schedule pods");
    let warnings = cluster.k("events --types=Warning");
    assert!(warnings.contains("FailedScheduling") && !warnings.contains("ScalingReplicaSet"), "{warnings}");
    cluster.says("events -A --no-headers", &["default", "SuccessfulCreate"]);
    let table = cluster.k("get events --field-selector reason=ScalingReplicaSet");
    assert!(
        table.starts_with("LAST SEEN   TYPE     REASON              OBJECT           MESSAGE\n"),
        "{table}"
    );
    assert!(table.contains("deployment/web   Scaled up replica set web-"), "{table}");
    cluster.says("get events -o wide", &["SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"]);
}
