use k8s_openapi::api::core::v1::{PersistentVolume, Pod};

use super::*;

fn node(name: &str) -> User {
    User::known(format!("system:node:{name}"), &["system:nodes"])
}

fn ask<'a>(
    user: &'a User,
    verb: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Attributes<'a> {
    let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb,
        api_group: group,
        api_version: "v1",
        resource,
        subresource,
        name,
        namespace,
        path: "",
        is_resource: true,
    }
}

fn pod(text: &str) -> Pod {
    serde_yaml_ng::from_str(text).unwrap()
}

const POD: &str = "
metadata: {name: web, namespace: a}
spec:
  nodeName: one
  serviceAccountName: robot
  imagePullSecrets: [{name: pull}]
  containers:
  - name: c
    env: [{name: X, valueFrom: {secretKeyRef: {name: env-secret, key: k}}}]
    envFrom: [{configMapRef: {name: env-map}}]
  volumes:
  - {name: s, secret: {secretName: mounted}}
  - {name: p, projected: {sources: [{configMap: {name: kube-root-ca.crt}}]}}
  - {name: d, persistentVolumeClaim: {claimName: data}}
  - {name: scratch, ephemeral: {volumeClaimTemplate: {spec: {}}}}
";

fn volume() -> PersistentVolume {
    let driver = serde_json::json!({
        "driver": "d",
        "volumeHandle": "h",
        "nodePublishSecretRef": {"namespace": "storage", "name": "driver"},
    });
    let spec = serde_json::json!({"claimRef": {"namespace": "a", "name": "data"}, "csi": driver});
    serde_json::from_value(serde_json::json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap()
}

fn authorizer() -> NodeAuthorizer {
    let authorizer = NodeAuthorizer::new().unwrap();
    authorizer.update(|graph| {
        graph.upsert_pod("a", "web", "one", PodRefs::of(&pod(POD)));
        graph.upsert_pod("a", "other", "two", PodRefs::default());
        graph.upsert_volume("pv", VolumeRefs::of(&volume()));
        graph.upsert_attachment("attached", "one");
    });
    authorizer
}

#[test]
fn a_node_reads_what_its_own_pods_need_and_nothing_else() {
    let (authorizer, one, two) = (authorizer(), node("one"), node("two"));
    let needed = [
        ("get", "secrets", "a", "pull"),
        ("get", "secrets", "a", "env-secret"),
        ("watch", "secrets", "a", "mounted"),
        ("get", "secrets", "storage", "driver"),
        ("list", "configmaps", "a", "env-map"),
        ("get", "configmaps", "a", "kube-root-ca.crt"),
        ("get", "persistentvolumeclaims", "a", "data"),
        ("get", "persistentvolumeclaims", "a", "web-scratch"),
        ("patch", "persistentvolumeclaims/status", "a", "data"),
        ("get", "persistentvolumes", "", "pv"),
        ("get", "storage.k8s.io:volumeattachments", "", "attached"),
        ("create", "serviceaccounts/token", "a", "robot"),
        ("get", "serviceaccounts", "a", "robot"),
        ("get", "pods", "a", "web"),
    ];
    for (verb, resource, namespace, name) in needed {
        let allowed = |user| {
            matches!(authorizer.authorize(&ask(user, verb, resource, namespace, name)), Decision::Allow(_))
        };
        assert!(allowed(&one), "{verb} {resource} {namespace}/{name}");
        assert!(!allowed(&two), "{verb} {resource} {namespace}/{name} for another node");
    }
    authorizer.update(|graph| graph.remove_pod("a", "web"));
    for (verb, resource, namespace, name) in needed {
        if resource.ends_with("volumeattachments") {
            continue;
        }
        let decision = authorizer.authorize(&ask(&one, verb, resource, namespace, name));
        assert_eq!(
            decision,
            refuse("no relationship found between node 'one' and this object"),
            "{resource} {name}"
        );
    }
}

#[test]
fn nodes_are_refused_in_upstreams_words() {
    let (authorizer, one) = (authorizer(), node("one"));
    let cases = [
        ("list", "secrets", "a", "", "No Object name found"),
        ("list", "secrets", "", "", "can only read namespaced object of this type"),
        ("update", "secrets", "a", "pull", "can only read resources of this type"),
        ("list", "persistentvolumes", "", "", "can only get individual resources of this type"),
        (
            "create",
            "serviceaccounts/token",
            "a",
            "",
            "can only create tokens for individual service accounts",
        ),
        ("create", "serviceaccounts", "a", "x", "can only create token subresource of serviceaccount"),
        ("get", "nodes", "", "two", "node 'one' cannot read 'two', only its own Node object"),
        ("list", "nodes", "", "", "node 'one' cannot read all nodes, only its own Node object"),
        (
            "get",
            "coordination.k8s.io:leases",
            "a",
            "one",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            "update",
            "coordination.k8s.io:leases",
            "kube-node-lease",
            "two",
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "get",
            "storage.k8s.io:csinodes",
            "",
            "two",
            "can only access CSINode with the same name as the requesting node",
        ),
        ("delete", "nodes", "", "one", ""),
        ("get", "pods/log", "a", "web", ""),
        ("create", "apps:deployments", "a", "x", ""),
    ];
    for (verb, resource, namespace, name, why) in cases {
        assert_eq!(
            authorizer.authorize(&ask(&one, verb, resource, namespace, name)),
            refuse(why),
            "{verb} {resource}"
        );
    }
}

#[test]
fn a_node_keeps_itself_and_its_pods_up_to_date() {
    let (authorizer, one) = (authorizer(), node("one"));
    for (verb, resource, namespace, name) in [
        ("create", "nodes", "", ""),
        ("patch", "nodes/status", "", "one"),
        ("get", "nodes", "", "one"),
        ("update", "coordination.k8s.io:leases", "kube-node-lease", "one"),
        ("create", "coordination.k8s.io:leases", "kube-node-lease", ""),
        ("create", "storage.k8s.io:csinodes", "", ""),
        ("list", "pods", "", ""),
        ("patch", "pods/status", "a", "web"),
        ("create", "pods/eviction", "a", "web"),
        ("create", "events", "a", ""),
        ("list", "services", "", ""),
        ("create", "certificates.k8s.io:certificatesigningrequests", "", ""),
        ("create", "authentication.k8s.io:tokenreviews", "", ""),
    ] {
        assert_eq!(
            authorizer.authorize(&ask(&one, verb, resource, namespace, name)),
            allow(),
            "{verb} {resource}"
        );
    }
    let stranger = User::known("system:node:one", &[]);
    assert_eq!(
        authorizer.authorize(&ask(&stranger, "get", "nodes", "", "one")),
        refuse(""),
        "the group counts, too"
    );
}

#[test]
fn a_mirror_pod_gives_its_node_no_access() {
    let mut mirror = pod(POD);
    mirror.metadata.annotations = Some([("kubernetes.io/config.mirror".to_owned(), String::new())].into());
    assert_eq!(PodRefs::of(&mirror), PodRefs::default());
}
