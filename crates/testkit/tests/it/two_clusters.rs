//! Two clusters in one process, with the same names in both: nothing of one is seen or done in the other.

use std::sync::Arc;

use auth::kubeconfig::Credential;
use auth::user::MASTERS;
use serde_json::{Value, json};
use store::Store;
use store::embedded::{Embedded, EmbeddedOptions};
use testkit::http::Call;
use testkit::nodes::SimulatedNode;
use testkit::{Cluster, EtcdServer, Options, StoreChoice, until};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn config_map(client: &kube::Client, name: &str, value: &str) -> Value {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"of": value}});
    Call::post(CONFIG_MAPS, &object).send(client).await.expect(201).json()
}

async fn whole_on(store: StoreChoice, prefix: &str) -> Cluster {
    let prefix = prefix.to_owned();
    Cluster::with(Options { store, prefix, controllers: true, scheduler: true, ..Options::default() }).await
}

/// A deployment in each becomes pods that are bound to nodes of its own cluster.
async fn deploy(cluster: &Cluster, nodes: [&str; 2], replicas: usize) {
    let client = cluster.admin();
    for node in nodes {
        SimulatedNode::join(&client, node, cluster.clock().now()).await;
    }
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "100m"}}}]},
            },
        },
    });
    let _ = Call::post("/apis/apps/v1/namespaces/default/deployments", &deployment)
        .send(&client)
        .await
        .expect(201);
    let bound = until("the pods to be bound", || async {
        let pods = Call::get("/api/v1/namespaces/default/pods").send(&client).await.expect(200).json();
        let on: Vec<String> = pods["items"]
            .as_array()?
            .iter()
            .filter_map(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned()))
            .collect();
        (on.len() == replicas).then_some(on)
    })
    .await;
    assert!(bound.iter().all(|node| nodes.contains(&node.as_str())), "{bound:?}");
    assert!(nodes.iter().all(|node| bound.iter().any(|on| on == node)), "spread over both nodes: {bound:?}");
}

/// Everything that a watch from the beginning of both told, until it has told `last`.
async fn watched(client: &kube::Client, from: u64, last: &str) -> Vec<String> {
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}&timeoutSeconds=30");
    let mut watch = testkit::watch::Watch::open(client, &path).await;
    let mut told = Vec::new();
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let (kind, object) = (&event["type"], &event["object"]);
        let name = object["metadata"]["name"].as_str().unwrap();
        // A controller publishes a config map of its own.
        let Some(of) = object["data"]["of"].as_str() else { continue };
        told.push(format!("{} {name}={of}", kind.as_str().unwrap()));
        if name == last {
            return told;
        }
    }
}

async fn nothing_is_shared(one: &Cluster, other: &Cluster) {
    let (a, b) = (one.admin(), other.admin());
    let before_a = config_map(&a, "same", "one").await;
    let before_b = config_map(&b, "same", "other").await;
    assert_ne!(before_a["metadata"]["uid"], before_b["metadata"]["uid"]);
    let (from_a, from_b) = (testkit::http::revision(&before_a), testkit::http::revision(&before_b));
    for number in 0..5 {
        config_map(&a, &format!("n{number}"), "one").await;
        config_map(&b, &format!("n{number}"), "other").await;
    }
    config_map(&a, "z", "one").await;
    config_map(&b, "z", "other").await;
    let expected = |of: &str| -> Vec<String> {
        ["n0", "n1", "n2", "n3", "n4", "z"].iter().map(|name| format!("ADDED {name}={of}")).collect()
    };
    assert_eq!(watched(&a, from_a, "z").await, expected("one"));
    assert_eq!(watched(&b, from_b, "z").await, expected("other"));
    let _ = Call::delete(format!("{CONFIG_MAPS}/same")).send(&a).await.expect(200);
    let kept = Call::get(format!("{CONFIG_MAPS}/same")).send(&b).await.expect(200).json();
    assert_eq!(kept["data"]["of"], "other");
}

async fn a_token(cluster: &Cluster) -> String {
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    let client = cluster.admin();
    until("the default service account", || async {
        (Call::get(account).send(&client).await.code == 200).then_some(())
    })
    .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let made = Call::post(format!("{account}/token"), &request).send(&client).await.expect(201).json();
    made["status"]["token"].as_str().unwrap().to_owned()
}

/// Certificates and tokens of one are refused by the other.
async fn credentials_are_its_own(one: &Cluster, other: &Cluster) {
    assert_ne!(one.pki().ca_pem(), other.pki().ca_pem());
    let who = Call::get("/api/v1/namespaces/default");
    let (ours, theirs) = (a_token(one).await, a_token(other).await);
    let connect = |text: String| async move { testkit::http::connect(&text).await };
    let own = connect(one.kubeconfig_with(0, Credential::Token(&ours))).await;
    let refused = who.send(&own).await.expect(403).message();
    assert!(refused.contains("system:serviceaccount:default:default"), "{refused}");
    let foreign = connect(one.kubeconfig_with(0, Credential::Token(&theirs))).await;
    assert_eq!(who.send(&foreign).await.expect(401).message(), "Unauthorized");
    let certificate = other.certificate("admin", &[MASTERS]);
    let foreign = connect(one.kubeconfig_with(0, Credential::Certificate(&certificate))).await;
    let answer = who.try_send(&foreign).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.code == 401), "{answer:?}");
    // Nor does a client of the other trust this server.
    let text = other.kubeconfig(0, "admin", &[MASTERS]).replace(&other.server(0).url(), &one.server(0).url());
    assert!(who.try_send(&connect(text).await).await.is_err());
}

async fn share_nothing(one: &Cluster, other: &Cluster) {
    nothing_is_shared(one, other).await;
    credentials_are_its_own(one, other).await;
    tokio::join!(deploy(one, ["node-1", "node-2"], 4), deploy(other, ["node-2", "node-3"], 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_in_one_process_share_nothing() {
    let one = whole_on(StoreChoice::Embedded, "/registry/").await;
    let other = whole_on(StoreChoice::Embedded, "/registry/").await;
    share_nothing(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_on_one_store_share_nothing_but_its_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.path(), EmbeddedOptions::default()).unwrap());
    let one = whole_on(StoreChoice::Shared(store.clone()), "/one/").await;
    let other = whole_on(StoreChoice::Shared(store.clone()), "/other/").await;
    share_nothing(&one, &other).await;
    // A secret is sealed with its cluster's key: the other's could not read it.
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let _ = Call::post("/api/v1/namespaces/default/secrets", &secret).send(&one.admin()).await.expect(201);
    let mine = store.get(b"/one/secrets/default/s", None).await.unwrap().1.unwrap();
    assert!(mine.value.starts_with(b"k8s:enc:"), "{:?}", mine.value);
    assert!(store.get(b"/other/secrets/default/s", None).await.unwrap().1.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_on_one_etcd_share_nothing_but_its_revisions() {
    let etcd = EtcdServer::start().await;
    let one = whole_on(StoreChoice::Etcd(etcd.endpoints()), "/one/").await;
    let other = whole_on(StoreChoice::Etcd(etcd.endpoints()), "/other/").await;
    share_nothing(&one, &other).await;
}
