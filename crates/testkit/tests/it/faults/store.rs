//! A store that is gone while the API server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use store::embedded::{Embedded, EmbeddedOptions};
use testkit::http::Call;
use testkit::{Cluster, EtcdServer, Options, StoreChoice};

use super::CONFIG_MAPS;

/// How long a client waits at most for the news that nothing works: upstream's limit of a request.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_store_a_server_says_so_in_time_and_still_tells_what_it_knows() {
    let mut etcd = EtcdServer::start().await;
    let store = StoreChoice::Etcd(etcd.endpoints());
    let cluster = Cluster::with(Options { store, ..Options::default() }).await;
    let client = cluster.tls(0).await;
    let object = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let _ = Call::post(CONFIG_MAPS, &object("a")).send(&client).await.expect(201);
    let _ = Call::get(CONFIG_MAPS).send(&client).await.expect(200);
    assert_eq!(Call::get("/readyz").send(&client).await.code, 200);
    etcd.kill();
    let began = Instant::now();
    let calls = [
        Call::get(format!("{CONFIG_MAPS}/a")),
        Call::post(CONFIG_MAPS, &object("b")),
        Call::patch(format!("{CONFIG_MAPS}/a"), &json!({"data": {"v": "1"}})),
    ];
    let answers = futures::future::join_all(calls.iter().map(|call| call.send(&client))).await;
    for refused in &answers {
        assert!(matches!(refused.code, 503 | 504), "{refused:?}");
        assert_eq!(refused.json()["kind"], "Status");
    }
    assert_eq!(Call::get("/readyz").send(&client).await.code, 500);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert_eq!(Call::get("/livez").send(&client).await.code, 200, "to restart it would not help");
    // Who does not insist on the newest is served, as by upstream.
    let known =
        Call::get(format!("{CONFIG_MAPS}/a?resourceVersion=0")).send(&client).await.expect(200).json();
    assert_eq!(known["metadata"]["name"], "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_store_broke_asks_to_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    let fault =
        move |_: &str| breaks.load(Ordering::SeqCst).then(|| std::io::Error::other("the disk is gone"));
    let options = EmbeddedOptions { fault: Some(Arc::new(fault)), ..EmbeddedOptions::default() };
    let store = StoreChoice::Shared(Arc::new(Embedded::open(dir.path(), options).unwrap()));
    let cluster = Cluster::with(Options { store, ..Options::default() }).await;
    let client = cluster.tls(0).await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(Call::get(path).send(&client).await.code, 200, "{path}");
    }
    broken.store(true, Ordering::SeqCst);
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let refused = Call::post(CONFIG_MAPS, &object).send(&client).await;
    assert!(refused.code >= 500, "{refused:?}");
    broken.store(false, Ordering::SeqCst);
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = Call::get(path).send(&client).await;
        assert_eq!(answer.code, 500, "{path}: nothing but a new process has a store");
        assert!(String::from_utf8_lossy(&answer.body).contains("[-]store failed"), "{answer:?}");
    }
}
