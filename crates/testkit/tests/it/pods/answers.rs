//! What is answered to requests that are nearly right.

use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::Call;

use super::{PODS, account, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_fit_nothing() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let _ = Call::post(PODS, &pod("a", json!({}))).send(client).await.expect(201);
    let one = format!("{PODS}/a");

    // What is made is made in its collection.
    let misplaced = Call::post(format!("{PODS}/b"), &pod("b", json!({}))).send(client).await.expect(405);
    assert_eq!(misplaced.message(), "the server does not allow this method on the requested resource");
    let _ = Call::get(format!("{PODS}/b")).send(client).await.expect(404);
    let _ = Call::patch(PODS, &json!({})).send(client).await.expect(405);
    let _ = Call::delete(format!("{one}/status")).send(client).await.expect(405);
    let _ = Call::get(format!("{one}/status/more")).send(client).await.expect(404);

    // A dry run that is misspelt is none that writes.
    let refused = Call::delete(format!("{one}?dryRun=")).send(client).await.expect(422).message();
    let why = "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"\"]: supported values: \"All\"";
    assert_eq!(refused, why);
    let refused = Call::get(format!("{PODS}?fieldSelector=spec.nope%3D1")).send(client).await.expect(400);
    assert_eq!(refused.message(), "field label not supported: spec.nope");
    let other =
        Call::patch(&one, &json!({"metadata": {"uid": "x"}})).send(client).await.expect(422).message();
    assert_eq!(other, "Pod \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable");
    // Nor is it made something else.
    for (patch, why) in [
        (json!({"kind": "Node"}), "converting (v1.Node) to (core.Pod): unknown conversion"),
        (json!({"kind": "Foo"}), "no kind \"Foo\" is registered for version \"v1\" in scheme"),
        (json!({"apiVersion": "apps/v1"}), "no kind \"Pod\" is registered for version \"apps/v1\" in scheme"),
    ] {
        let refused = Call::patch(&one, &patch).send(client).await.expect(422).message();
        assert!(refused.contains(why), "{patch}: {refused}");
    }
    let same = Call::patch(&one, &json!({"kind": null})).send(client).await.expect(200).json();
    assert_eq!((&same["kind"], &same["apiVersion"]), (&json!("Pod"), &json!("v1")));
    // No node is there to tell what its pods use, and nobody but who was permitted is told.
    let used = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    let list = Call::get(used).send(client).await.expect(200).json();
    assert_eq!((&list["kind"], &list["items"]), (&json!("PodMetricsList"), &json!([])));
    let absent = Call::get(format!("{used}/a")).send(client).await.expect(404).message();
    assert_eq!(absent, "podmetrics.metrics.k8s.io \"default/a\" not found");
    let _ = Call::post(used, &json!({})).send(client).await.expect(405);
    let nameless = Call::post(PODS, &json!({})).send(client).await.expect(422).message();
    assert_eq!(
        nameless,
        "Pod \"\" is invalid: [metadata.name: Required value: name or generateName is required, spec.containers: Required value]"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_name_the_kind_of_their_objects_once() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let _ = Call::post(PODS, &pod("a", json!({}))).send(client).await.expect(201);
    let ended = json!({"status": {"phase": "Succeeded"}});
    let _ = Call::patch(format!("{PODS}/a/status"), &ended).send(client).await.expect(200);
    let list = Call::get(PODS).send(client).await.expect(200).json();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("PodList"), &Value::Null));
    assert_eq!(list["items"][0]["apiVersion"], Value::Null);
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    let table = Call::get(PODS).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = table.send(client).await.expect(200).json();
    assert_eq!(
        table["rows"][0]["conditions"],
        json!([{"type": "Completed", "status": "True", "reason": "Succeeded",
            "message": "The pod has completed successfully."}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_named_once() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"});
    let mut twice = pod("a", json!({}));
    twice["metadata"]["ownerReferences"] = json!([owner, owner]);
    let made = Call::post(PODS, &twice).send(client).await.expect(201);
    let warned = made.warnings();
    assert!(warned.iter().any(|text| text.ends_with("duplicate UID(s) observed: y")), "{warned:?}");
    assert_eq!(made.json()["metadata"]["ownerReferences"], json!([owner]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_goes_at_once_is_told_as_going() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let _ = Call::post(PODS, &pod("a", json!({"nodeName": "n"}))).send(client).await.expect(201);
    let one = format!("{PODS}/a");
    let going = Call::delete(&one).send(client).await.expect(200).json();
    let due: jiff::Timestamp = going["metadata"]["deletionTimestamp"].as_str().unwrap().parse().unwrap();
    // A shorter grace is counted from when the first one began.
    let sooner = Call::delete(format!("{one}?gracePeriodSeconds=10")).send(client).await.expect(200).json();
    let earlier: jiff::Timestamp = sooner["metadata"]["deletionTimestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(due.as_second() - earlier.as_second(), 20);
    let gone = Call::delete(format!("{one}?gracePeriodSeconds=0")).send(client).await.expect(200).json();
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
    let _ = Call::get(&one).send(client).await.expect(404);
}
