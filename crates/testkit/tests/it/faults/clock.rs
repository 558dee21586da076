//! A wall clock that is set wrong while a cluster runs: what was promised for a time lasts as long as was promised.

use std::sync::Arc;
use std::time::Duration;

use auth::kubeconfig::Credential;
use jiff::SignedDuration;
use serde_json::{Value, json};
use testkit::http::Call;
use testkit::nodes::SimulatedNode;
use testkit::{Cluster, Options, ShiftedClock, Watch, until};

use super::CONFIG_MAPS;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const EVENTS: &str = "/api/v1/namespaces/default/events";

async fn cluster(whole: bool) -> (Cluster, Arc<ShiftedClock>) {
    let clock = ShiftedClock::shared();
    let (controllers, scheduler) = (whole, whole);
    let options = Options {
        clock: clock.clone(),
        controllers,
        scheduler,
        node_grace_seconds: 40,
        ..Options::default()
    };
    (Cluster::with(options).await, clock)
}

async fn config_map(client: &kube::Client, name: &str) -> Value {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    Call::post(CONFIG_MAPS, &object).send(client).await.expect(201).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_after_an_hour_of_true_time_and_watchers_hear_of_each() {
    let (cluster, clock) = cluster(false).await;
    let client = cluster.admin();
    let mut first = 0;
    for number in 0..3 {
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("e{number}"), "namespace": "default"},
            "involvedObject": {"namespace": "default"}, "reason": "Tested",
        });
        first = Call::post(EVENTS, &event).send(&client).await.expect(201).revision();
    }
    clock.jump(HOUR * 24);
    config_map(&client, "nudge-1").await;
    clock.jump(HOUR * -48);
    config_map(&client, "nudge-2").await;
    let kept = Call::get(EVENTS).send(&client).await.expect(200).json();
    assert_eq!(kept["items"].as_array().unwrap().len(), 3, "a wrong wall clock ends nothing");
    let mut watch = Watch::open(&client, &format!("{EVENTS}?watch=1&resourceVersion={first}")).await;
    clock.advance(Duration::from_secs(2 * 3600));
    config_map(&client, "nudge-3").await;
    let mut gone = Vec::new();
    for _ in 0..3 {
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "DELETED");
        gone.push(event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(gone, ["e0", "e1", "e2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_its_hour_and_an_honest_server_says_so() {
    let (cluster, clock) = cluster(false).await;
    let admin = cluster.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let _ = Call::post(accounts, &account).send(&admin).await.expect(201);
    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
    let made = Call::post(format!("{accounts}/a/token"), &ask).send(&admin).await.expect(201).json();
    let token = made["status"]["token"].as_str().unwrap();
    let kubeconfig = cluster.kubeconfig_with(0, Credential::Token(token));
    let client = testkit::http::connect(&kubeconfig).await;
    let whoami = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let whoami = Call::post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &whoami);
    let answer = whoami.send(&client).await.expect(201).json();
    assert_eq!(answer["status"]["userInfo"]["username"], "system:serviceaccount:default:a");
    // The wall clock is what a token's times are about: wrong either way, it is refused; right again, it is good.
    for (jump, code) in [(HOUR * 2, 401), (-HOUR * 2, 201), (-HOUR, 401), (HOUR, 201)] {
        clock.jump(jump);
        assert_eq!(whoami.send(&client).await.code, code, "after {jump:?}");
    }
    clock.advance(Duration::from_secs(3600 + 120));
    assert_eq!(whoami.send(&client).await.code, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_loses_no_healthy_node_and_stops_no_work() {
    let (cluster, clock) = cluster(true).await;
    let client = cluster.admin();
    let now = || cluster.clock().now();
    let alive = SimulatedNode::join(&client, "alive", now()).await;
    let silent = SimulatedNode::join(&client, "silent", now()).await;
    until("the account that pods have", || async {
        let account = Call::get("/api/v1/namespaces/default/serviceaccounts/default");
        (account.send(&client).await.code == 200).then_some(())
    })
    .await;
    for jump in [HOUR, HOUR * -2, HOUR] {
        clock.jump(jump);
        // The node whose clock is right goes on renewing, with times that seem to come from elsewhere.
        alive.renew(now()).await;
        let name = format!("web-{}", jump.as_secs() + 7200);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        });
        let pods = "/api/v1/namespaces/default/pods";
        let created = Call::post(pods, &pod).send(&client).await;
        assert!(matches!(created.code, 201 | 409), "{created:?}");
        until("the pod to be bound", || async {
            let pod = Call::get(format!("{pods}/{name}")).send(&client).await.expect(200).json();
            pod["spec"]["nodeName"].as_str().map(str::to_owned)
        })
        .await;
        assert_eq!(
            (alive.ready().await.as_str(), silent.ready().await.as_str()),
            ("True", "True"),
            "after {jump:?}"
        );
    }
    // True silence is found out all the same, and only the silent one is lost.
    until("the silent node to be found out", || async {
        clock.advance(Duration::from_secs(5));
        alive.renew(now()).await;
        (silent.ready().await == "Unknown").then_some(())
    })
    .await;
    assert_eq!(alive.ready().await, "True");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_in_order_while_the_wall_clock_goes_back() {
    let (cluster, clock) = cluster(false).await;
    let client = cluster.admin();
    let mut last = testkit::http::revision(&config_map(&client, "a").await);
    for jump in [-HOUR, HOUR * 3, HOUR * -5] {
        clock.jump(jump);
        let patch = json!({"data": {"v": jump.as_secs().to_string()}});
        let patched = Call::patch(format!("{CONFIG_MAPS}/a"), &patch).send(&client).await.expect(200);
        assert!(patched.revision() > last);
        last = patched.revision();
    }
    let _ = Call::delete(format!("{CONFIG_MAPS}/a")).send(&client).await.expect(200);
    let _ = Call::get(format!("{CONFIG_MAPS}/a")).send(&client).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_stays_on_a_tainted_node_as_long_as_it_tolerates_whatever_the_clock_is_set_to() {
    let (cluster, clock) = cluster(true).await;
    let client = cluster.admin();
    let now = || cluster.clock().now();
    let node = SimulatedNode::join(&client, "tainted", now()).await;
    until("the account that pods have", || async {
        let account = Call::get("/api/v1/namespaces/default/serviceaccounts/default");
        (account.send(&client).await.code == 200).then_some(())
    })
    .await;
    let pods = "/api/v1/namespaces/default/pods";
    let run = async |name: &str, tolerations: Value| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": "tainted", "tolerations": tolerations, "containers": [{"name": "c", "image": "nginx"}]},
        });
        let _ = Call::post(pods, &pod).send(&client).await.expect(201);
    };
    let goes = async |name: &str| {
        let answer = Call::get(format!("{pods}/{name}")).send(&client).await;
        answer.code == 404 || answer.json()["metadata"]["deletionTimestamp"].is_string()
    };
    run(
        "stays",
        json!([{"key": "boat", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 900}]),
    )
    .await;
    let taint =
        json!({"spec": {"taints": [{"key": "boat", "effect": "NoExecute", "timeAdded": now().to_string()}]}});
    let path = "/api/v1/nodes/tainted";
    let _ = Call::patch(path, &taint).send(&client).await.expect(200);
    for (number, jump) in [SignedDuration::ZERO, HOUR * 24, HOUR * -48].into_iter().enumerate() {
        clock.jump(jump);
        node.renew(now()).await;
        // Each change of the node has all of its pods looked at.
        let label = json!({"metadata": {"labels": {"number": number.to_string()}}});
        let _ = Call::patch(path, &label).send(&client).await.expect(200);
        let name = format!("goes-{number}");
        run(&name, json!([])).await;
        until("the one that tolerates nothing to go", || async { goes(&name).await.then_some(()) }).await;
        assert!(!goes("stays").await, "after {jump:?}");
    }
    until("the other one to go", || async {
        clock.advance(Duration::from_secs(30));
        node.renew(now()).await;
        let label = json!({"metadata": {"labels": {"number": now().as_second().to_string()}}});
        let _ = Call::patch(path, &label).send(&client).await.expect(200);
        goes("stays").await.then_some(())
    })
    .await;
}
