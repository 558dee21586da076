//! More requests than the server takes on at once.

use apiserver::server::Local;
use auth::user::{MASTERS, User};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use testkit::http::Call;
use testkit::{Cluster, Options, until};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tower::ServiceExt;

use super::CONFIG_MAPS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_is_told_to_come_back_and_leases_and_health_are_never_in_the_queue() {
    let cluster = Cluster::with(Options { max_in_flight: (1, 400), ..Options::default() }).await;
    let client = cluster.tls(0).await;
    let object = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    // A body that does not end keeps the only place.
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok::<_, std::io::Error>(Frame::data(bytes)));
    let endless = Request::post(CONFIG_MAPS)
        .header("content-type", "application/json")
        .body(StreamBody::new(frames))
        .unwrap();
    let server = Local::new(cluster.core().clone(), User::known("slow", &[MASTERS]));
    let slow = tokio::spawn(async move { server.oneshot(endless).await.unwrap().status() });
    sender.send(Bytes::from(object("slow").to_string())).await.unwrap();
    let refused = until("a refusal", || async {
        let answer = Call::post(format!("{CONFIG_MAPS}?dryRun=All"), &object("a")).send(&client).await;
        (answer.code == 429).then_some(answer)
    })
    .await;
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.json()["reason"], "TooManyRequests");
    assert_eq!(refused.json()["details"]["retryAfterSeconds"], 1);
    for path in ["/readyz", "/livez", CONFIG_MAPS] {
        assert_eq!(Call::get(path).send(&client).await.code, 200, "{path}");
    }
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let _ = Call::post(leases, &lease).send(&client).await.expect(201);
    drop(sender);
    assert_eq!(slow.await.unwrap(), 201);
    let _ = Call::post(CONFIG_MAPS, &object("a")).send(&client).await.expect(201);
}
