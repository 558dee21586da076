//! Watches and lists of what is long ago, and watchers that do not keep up: told so, never left with a gap.

use serde_json::Value;
use store::{Change, Expect, Op};
use testkit::http::{Call, revision};
use testkit::{Cluster, Watch};

use super::CONFIG_MAPS;

/// How many objects one transaction makes.
const AT_ONCE: usize = 100;

/// Writes config maps to the store itself, many in one transaction: far faster than requests could.
async fn bulk(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    let kind = schema::catalogue::builtin().kind("", "v1", "ConfigMap").unwrap();
    let op = |number: usize| {
        let name = format!("bulk-{number:05}");
        let object = serde_json::json!({"metadata": {"name": name, "namespace": "default"}});
        let object = schema::json::decode(&kind.ty, object.to_string().as_bytes()).unwrap().object;
        let value = schema::protobuf::wrap("v1", "ConfigMap", &schema::protobuf::encode(&object));
        Op {
            key: format!("/registry/configmaps/default/{name}").into(),
            expect: Expect::Absent,
            change: Change::Put { value: value.into(), lease: None },
        }
    };
    let all: Vec<usize> = numbers.collect();
    for part in all.chunks(AT_ONCE) {
        cluster.store().commit(part.iter().map(|&number| op(number)).collect()).await.unwrap();
    }
}

fn number(object: &Value) -> usize {
    object["metadata"]["name"].as_str().unwrap().trim_start_matches("bulk-").parse().unwrap()
}

async fn now(client: &kube::Client) -> u64 {
    Call::get(format!("{CONFIG_MAPS}?limit=1")).send(client).await.expect(200).revision()
}

/// The event that says that the version is gone.
fn assert_gone(event: &Value) {
    assert_eq!(event["type"], "ERROR", "{event}");
    assert_eq!(event["object"]["kind"], "Status");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_one_transaction_is_told() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    let mut watch =
        Watch::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={}", now(&client).await)).await;
    bulk(&cluster, 0..AT_ONCE).await;
    for expected in 0..AT_ONCE {
        assert_eq!(number(&watch.next().await.unwrap()["object"]), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_is_cut_off_and_told_so_without_a_gap_before() {
    let cluster = Cluster::start().await;
    let client = cluster.admin();
    let mut watch =
        Watch::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={}", now(&client).await)).await;
    bulk(&cluster, 0..10_000).await;
    let mut seen = 0;
    let end = loop {
        let event = watch.next().await.expect("it says why it ends");
        if event["type"] != "ADDED" {
            break event;
        }
        assert_eq!(number(&event["object"]), seen, "no gap, nothing twice");
        seen += 1;
    };
    assert_gone(&end);
    assert!(seen > 4096 && seen < 10_000, "{seen}");
    assert!(watch.next().await.is_none());
    // Who begins anew has everything.
    let list = Call::get(CONFIG_MAPS).send(&client).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_long_ago_says_410_as_its_first_event() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    let old = now(&client).await;
    bulk(&cluster, 0..5_000).await;
    let middle = now(&client).await;
    bulk(&cluster, 5_000..6_000).await;
    // As upstream's, and as kube-rs needs it: 200, and the error is an event.
    let mut watch = Watch::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={old}")).await;
    assert_gone(&watch.next().await.unwrap());
    assert!(watch.next().await.is_none());
    let mut watch = Watch::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={middle}")).await;
    for expected in 5_000..6_000 {
        assert_eq!(number(&watch.next().await.unwrap()["object"]), expected);
    }
    let far = now(&client).await + 1_000_000;
    let mut watch = Watch::open(&client, &format!("{CONFIG_MAPS}?watch=1&resourceVersion={far}")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["object"]["code"], 504, "{event}");
    let early =
        Call::get(format!("{CONFIG_MAPS}?resourceVersion={far}")).send(&client).await.expect(504).json();
    assert!(
        early["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("Too large resource version: {far}, current: "))
    );
    assert_eq!(early["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_is_gone_for_lists_and_for_their_next_pages() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    bulk(&cluster, 0..300).await;
    let page = Call::get(format!("{CONFIG_MAPS}?limit=250")).send(&client).await.expect(200).json();
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(page["metadata"]["remainingItemCount"], 50);
    let at = revision(&page);
    bulk(&cluster, 300..400).await;
    let next = format!("{CONFIG_MAPS}?limit=250&continue={token}");
    let rest = Call::get(&next).send(&client).await.expect(200).json();
    assert_eq!((rest["items"].as_array().unwrap().len(), revision(&rest)), (50, at), "as of the first page");
    let exact = format!("{CONFIG_MAPS}?resourceVersion={at}&resourceVersionMatch=Exact");
    let list = Call::get(&exact).send(&client).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 300);
    cluster.store().compact(now(&client).await).await.unwrap();
    for path in [next, exact] {
        let gone = Call::get(path).send(&client).await.expect(410).json();
        assert_eq!(gone["reason"], "Expired");
    }
}
