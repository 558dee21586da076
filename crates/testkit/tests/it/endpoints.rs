//! `Endpoints` that somebody wrote.

use serde_json::{Value, json};
use testkit::http::Call;
use testkit::{Cluster, Options, until};

const ALL: &str = "/api/v1/namespaces/default/endpoints";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_go_with_their_service_and_wait_for_one() {
    let cluster = Cluster::with(Options { controllers: true, ..Options::default() }).await;
    let client = &cluster.admin();
    let service = |name: &str, selector: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}], "selector": selector}})
    };
    // What is there when the controllers begin, and is nobody's, goes: here they have begun.
    let _ = Call::post(SERVICES, &service("own", json!({"app": "own"}))).send(client).await.expect(201);
    until("those of a Service that selects pods", || async {
        (Call::get(format!("{ALL}/own")).send(client).await.code == 200).then_some(())
    })
    .await;
    for name in ["early", "web"] {
        let written = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]});
        let _ = Call::post(ALL, &written).send(client).await.expect(201);
    }
    let _ = Call::post(SERVICES, &service("web", json!(null))).send(client).await.expect(201);
    until("their slice", || async {
        let of = format!("{SLICES}?labelSelector=kubernetes.io/service-name=web");
        let slices = Call::get(of).send(client).await.expect(200).json();
        slices["items"].as_array().filter(|slices| !slices.is_empty()).map(|_| ())
    })
    .await;
    let _ = Call::delete(format!("{SERVICES}/web")).send(client).await.expect(200);
    until("those of the Service to go", || async {
        (Call::get(format!("{ALL}/web")).send(client).await.code == 404).then_some(())
    })
    .await;
    // The others were looked at before those.
    let _ = Call::get(format!("{ALL}/early")).send(client).await.expect(200);
}
