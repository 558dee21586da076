//! What a client does right after another thing: it may rely on what it was told.

use serde_json::json;
use testkit::http::Call;
use testkit::{Cluster, EtcdServer, Options, StoreChoice};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_just_made_can_be_used_at_once_through_any_server() {
    let etcd = EtcdServer::start().await;
    let store = StoreChoice::Etcd(etcd.endpoints());
    let cluster = Cluster::with(Options { store, servers: 2, ..Options::default() }).await;
    let clients = [cluster.server(0).admin(), cluster.server(1).admin()];
    for round in 0..20 {
        let (one, other) = (&clients[round % 2], &clients[(round + 1) % 2]);
        let named = |name: &str| json!({"metadata": {"name": format!("{name}-{round}")}});
        let _ = Call::post("/api/v1/namespaces", &named("n")).send(one).await.expect(201);
        let inside = format!("/api/v1/namespaces/n-{round}");
        let _ = Call::post(format!("{inside}/configmaps"), &named("c")).send(other).await.expect(201);
        let _ = Call::post(format!("{inside}/serviceaccounts"), &named("a")).send(one).await.expect(201);
        let mut class = named("p");
        class["value"] = 7.into();
        let _ = Call::post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).send(one).await.expect(201);
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": format!("a-{round}"), "priorityClassName": format!("p-{round}"),
            "containers": [{"name": "c", "image": "i"}],
        }});
        let made = Call::post(format!("{inside}/pods"), &pod).send(other).await.expect(201).json();
        assert_eq!(made["spec"]["priority"], 7);
        let read = Call::get(format!("{inside}/pods/p")).send(one).await.expect(200).json();
        assert_eq!(read, made, "a read through the other server has it as it was answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_nothing_or_zero_in_an_update_is_no_condition() {
    let cluster = Cluster::start().await;
    let client = cluster.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let object = |version: &str| json!({"metadata": {"name": "a", "resourceVersion": version}, "data": {"v": version}});
    let _ = Call::post(maps, &object("")).send(&client).await.expect(201);
    for (version, code) in [("0", 200), ("", 200), ("1", 409)] {
        let _ = Call::put(format!("{maps}/a"), &object(version)).send(&client).await.expect(code);
    }
}
