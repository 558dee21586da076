//! Two API servers on one etcd, many clients through both, one of the servers restarted in between: every answer is
//! one that a single server could have given, and every watch tells the store's history.

mod log;
mod watcher;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use testkit::http::Call;
use testkit::linear::{Answer, Ask, Operation, check};
use testkit::wait::until_true;
use testkit::{Cluster, EtcdServer, Options, StoreChoice};

use log::Log;
use watcher::{Following, follow};
use worker::{Record, Worker};

const NAMESPACE: &str = "linear";
const OBJECTS: &str = "/api/v1/namespaces/linear/configmaps";
const KEYS: u64 = 4;
const WORKERS: u64 = 6;
const ASKS: u64 = 200;
/// The watchers of the server that is not restarted.
const STAYING: [usize; 3] = [0, 2, 3];
const SEED: u64 = 0x6b6e_6172;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_etcd_answer_as_one_and_every_watch_tells_the_whole_history() {
    let etcd = EtcdServer::start().await;
    let store = StoreChoice::Etcd(etcd.endpoints());
    let mut cluster = Cluster::with(Options { store, servers: 2, ..Options::default() }).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let admin = cluster.admin();
    let base = Call::post("/api/v1/namespaces", &namespace).send(&admin).await.expect(201).revision();
    let clients = [cluster.tls(0).await, cluster.tls(1).await];

    let (done, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let worker = Worker::new(number, SEED + number, clients.clone(), began, done.clone());
            tokio::spawn(worker.run())
        })
        .collect();
    let all = usize::try_from(WORKERS * ASKS).unwrap();
    let reached = |part: usize| {
        let done = done.clone();
        async move { until_true("the writers to get on", || async { done.load(Ordering::Relaxed) >= part }).await }
    };
    // Watches begin before the first write, and in the middle: there and then, and in the past.
    let mut watchers: Vec<_> =
        clients.iter().map(|client| tokio::spawn(follow(client.clone(), base))).collect();
    reached(all / 3).await;
    let now = Call::get(OBJECTS).send(&admin).await.expect(200).revision();
    for client in &clients {
        watchers.extend([now, base].map(|from| tokio::spawn(follow(client.clone(), from))));
    }
    reached(all / 2).await;
    cluster.restart(1).await;

    let mut record = Record::default();
    for worker in workers {
        record.extend(worker.await.unwrap());
    }
    let end =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "end"}, "data": {"v": "0"}});
    let _ = Call::post(OBJECTS, &end).send(&admin).await.expect(201);
    let log = Log::read(cluster.store().as_ref(), base).await;
    for (number, watcher) in watchers.into_iter().enumerate() {
        let following = watcher.await.unwrap();
        assert_watched(&log, &following, number);
        // Those on the server that stays never have to begin anew.
        assert!(!STAYING.contains(&number) || following.parts.len() == 1, "watcher {number}");
    }
    assert_lists(&log, &record);
    assert_linearizable(&record);
    assert!(record.written() > all / 8, "only {} of {all} asks wrote", record.written());
}

/// Between its start and its end, each part of a watch is the store's history: no gap, nothing twice, no other order.
fn assert_watched(log: &Log, following: &Following, number: usize) {
    for part in &following.parts {
        let last = part.told.last().map_or(part.from, |told| told.revision);
        assert_eq!(part.told, log.between(part.from, last), "watcher {number} from {}", part.from);
        if let Some(begins_with) = &part.state {
            assert_eq!(begins_with, &log.state_at(part.from), "watcher {number} at {}", part.from);
        }
    }
    let last = following.parts.last().and_then(|part| part.told.last()).unwrap();
    assert_eq!(last.name, "end");
}

/// A list is the state at its revision, and no older than what was acknowledged before it was asked for.
fn assert_lists(log: &Log, record: &Record) {
    assert!(!record.lists.is_empty());
    for list in &record.lists {
        assert_eq!(list.state, log.state_at(list.revision), "the list at {}", list.revision);
        let acknowledged = record.newest_before(list.called);
        assert!(list.revision >= acknowledged, "a list at {} after {acknowledged}", list.revision);
    }
}

fn assert_linearizable(record: &Record) {
    let mut histories: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for (key, operation) in &record.operations {
        histories.entry(key.clone()).or_default().push(operation.clone());
    }
    for list in &record.lists {
        for number in 0..KEYS {
            let key = format!("k{number}");
            let answer = list.state.get(&key).map_or(Answer::Absent, |&(value, at)| Answer::Holds(value, at));
            let (called, returned) = (list.called, list.returned);
            histories.entry(key).or_default().push(Operation { called, returned, ask: Ask::Read, answer });
        }
    }
    for (key, history) in histories {
        if let Err(stuck) = check(&history) {
            panic!("seed {SEED:#x}: the answers about {key} cannot be those of one server, at {stuck:#?}");
        }
    }
}
