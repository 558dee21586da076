//! Clients that speak protobuf: one that builds and reads every body through the catalogue, and client-go.

mod wire;

use std::process::Command;

use auth::user::MASTERS;
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use testkit::Cluster;
use testkit::http::{Call, PROTOBUF};

use wire::{Frames, from_envelope, to_envelope};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn call(method: Method, path: &str) -> Call {
    Call::new(method, path).header("accept", PROTOBUF)
}

fn value(object: &ConfigMap) -> &str {
    &object.data.as_ref().unwrap()["v"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_works_in_protobuf_over_tls() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    let one = format!("{CONFIG_MAPS}/a");
    let body = json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "data": {"v": "1"}, "binaryData": {"b": "AP8H"}});
    let create = call(Method::POST, CONFIG_MAPS).body(PROTOBUF, to_envelope("ConfigMap", &body));
    let created = create.send(&client).await.expect(201);
    assert_eq!(created.headers["content-type"], PROTOBUF);
    let mut object: ConfigMap = from_envelope("ConfigMap", &created.body);
    assert_eq!(object.binary_data.as_ref().unwrap()["b"].0, [0, 255, 7]);
    let first = object.metadata.resource_version.clone().unwrap();

    object.data = Some([("v".to_owned(), "2".to_owned())].into());
    let whole = to_envelope("ConfigMap", &serde_json::to_value(&object).unwrap());
    let put = call(Method::PUT, &one).body(PROTOBUF, whole);
    assert_eq!(value(&from_envelope("ConfigMap", &put.send(&client).await.expect(200).body)), "2");
    // Errors come in protobuf, too.
    let stale: serde_json::Value = from_envelope("Status", &put.send(&client).await.expect(409).body);
    assert_eq!(stale["reason"], "Conflict");
    let again: serde_json::Value = from_envelope("Status", &create.send(&client).await.expect(409).body);
    assert_eq!(again["message"], r#"configmaps "a" already exists"#);

    let patch =
        call(Method::PATCH, &one).body("application/strategic-merge-patch+json", r#"{"data":{"v":"3"}}"#);
    assert_eq!(value(&from_envelope("ConfigMap", &patch.send(&client).await.expect(200).body)), "3");
    let read = call(Method::GET, &one).send(&client).await.expect(200);
    let in_json = Call::get(&one).send(&client).await.expect(200).json();
    let in_protobuf: ConfigMap = from_envelope("ConfigMap", &read.body);
    let typed: ConfigMap = serde_json::from_value(in_json).unwrap();
    assert_eq!(in_protobuf, typed, "the same object in either encoding");

    let listed = call(Method::GET, CONFIG_MAPS).send(&client).await.expect(200);
    let list: serde_json::Value = from_envelope("ConfigMapList", &listed.body);
    assert_eq!(list["items"][0]["data"]["v"], "3");
    assert_eq!(list["items"][0]["metadata"]["resourceVersion"], read_version(&in_protobuf));
    let options = to_envelope("DeleteOptions", &json!({"gracePeriodSeconds": 0}));
    let delete = call(Method::DELETE, &one).body(PROTOBUF, options).send(&client).await.expect(200);
    let status: serde_json::Value = from_envelope("Status", &delete.body);
    assert_eq!(status["status"], "Success");

    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={first}");
    let mut frames = Frames::open(&client, &path).await;
    for (kind, expected) in [("MODIFIED", "2"), ("MODIFIED", "3"), ("DELETED", "3")] {
        let (told, object) = frames.next().await;
        assert_eq!((told.as_str(), value(&from_envelope("ConfigMap", &object))), (kind, expected));
    }
}

fn read_version(object: &ConfigMap) -> &str {
    object.metadata.resource_version.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_in_protobuf_tells_what_is_there_then_a_bookmark_and_errors_as_status() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    for name in ["a", "b"] {
        let body = json!({"metadata": {"name": name}, "data": {"v": name}});
        let create = call(Method::POST, CONFIG_MAPS).body(PROTOBUF, to_envelope("ConfigMap", &body));
        let _ = create.send(&client).await.expect(201);
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut frames = Frames::open(&client, &format!("{CONFIG_MAPS}?{query}")).await;
    for name in ["a", "b"] {
        let (kind, object) = frames.next().await;
        assert_eq!((kind.as_str(), value(&from_envelope("ConfigMap", &object))), ("ADDED", name));
    }
    let (kind, bookmark) = frames.next().await;
    let bookmark: ConfigMap = from_envelope("ConfigMap", &bookmark);
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark.metadata.annotations.unwrap()["k8s.io/initial-events-end"], "true");
    let mut early = Frames::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion=999999")).await;
    let (kind, status) = early.next().await;
    let status: serde_json::Value = from_envelope("Status", &status);
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(504), &json!("Timeout"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_go_is_served_in_protobuf_and_its_informer_needs_no_list() {
    let program = tokio::task::spawn_blocking(|| testkit::go::program("clientgo")).await.unwrap();
    let cluster = Cluster::start().await;
    let client = cluster.admin();
    for name in ["there-1", "there-2"] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let _ = Call::post(CONFIG_MAPS, &object).send(&client).await.expect(201);
    }
    let kubeconfig = cluster.dir().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig(0, "admin", &[MASTERS])).unwrap();
    let run = move || Command::new(program).arg(kubeconfig).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let expected = [
        "synced 2",
        "created go true [0 255 7] 1",
        "added go=1",
        r#"again: true configmaps "go" already exists"#,
        "updated go=2",
        "stale: true",
        "updated go=3",
        "updated go=4",
        "updated go=5",
        "read 5",
        "listed 1 true",
        "deleted go=5",
        r#"gone: true configmaps "go" not found"#,
        "wire: 1 watches with initial events, 1 lists, 0 answers in another encoding",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
