//! What feature gates make of requests.

use kinds::gates::{Gate, Gates};
use serde_json::{Value, json};
use testkit::http::Call;
use testkit::{Cluster, Options};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {"mode": 448}}], "os": {"name": "linux"},
        "containers": [{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGUSR1"}}],
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_is_kept_where_its_feature_is_on_and_the_metric_says_so() {
    let on = Gates::default().with(Gate::EmptyDirVolumeMode, true);
    let off = Gates::default().with(Gate::ContainerStopSignals, false);
    for (gates, mode, signal) in [(on, json!(448), json!("SIGUSR1")), (off, Value::Null, Value::Null)] {
        let cluster = Cluster::with(Options { gates, ..Options::default() }).await;
        let client = cluster.admin();
        let account = json!({"metadata": {"name": "default"}});
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let _ = Call::post(accounts, &account).send(&client).await.expect(201);
        let made = Call::post(PODS, &pod("p")).send(&client).await.expect(201).json();
        assert_eq!(made["spec"]["volumes"][0]["emptyDir"]["mode"], mode);
        assert_eq!(made["spec"]["containers"][0]["lifecycle"]["stopSignal"], signal);
        let text = Call::get("/metrics").send(&client).await.expect(200).body;
        let line = |name: &str, on: bool| {
            format!("kubernetes_feature_enabled{{name=\"{name}\",stage=\"ALPHA\"}} {}\n", u8::from(on))
        };
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains(&line("EmptyDirVolumeMode", mode != Value::Null)), "{text}");
        assert!(text.contains(&line("ContainerStopSignals", signal != Value::Null)), "{text}");
        // Streams of a log are no parameter while their feature is off.
        let log = format!("{PODS}/p/log?stream=Stdout");
        let refused = Call::get(log).send(&client).await.expect(422);
        assert!(
            refused.message().contains("stream: Forbidden: may not be specified"),
            "{}",
            refused.message()
        );
    }
}
