//! How many requests the API server is sent (`kubeAPIQPS`, `kubeAPIBurst`), where somebody asks for that: upstream's
//! kubelet always has a rate, and this one none until it is named. Leases and events have none of it, as upstream's.

use std::sync::Arc;

use base::SharedClock;
use client::rate::Rate;

use crate::Configuration;

/// Upstream's rate and burst: whoever names others wants to have them.
const USUAL: (i32, i32) = (50, 100);

/// The rate that a configuration names; 0 is upstream's.
fn rate(configuration: &Configuration) -> Option<Rate> {
    let fields = &configuration.fields;
    let given = (fields.kube_api_qps, fields.kube_api_burst);
    let is_named = configuration.named.contains("kubeAPIQPS") || given != USUAL;
    let per_second = if given.0 == 0 { USUAL.0 } else { given.0 };
    is_named.then(|| Rate::new(f64::from(per_second), u32::try_from(given.1).unwrap_or(0)))
}

/// The same client, whose requests wait for their turns.
pub fn throttled(client: kube::Client, configuration: &Configuration, clock: &SharedClock) -> kube::Client {
    let Some(rate) = rate(configuration) else { return client };
    let (rate, clock) = (Arc::new(rate), clock.clone());
    client::around(client, move |client, request| {
        let (rate, clock) = (rate.clone(), clock.clone());
        async move {
            let mut parts = request.uri().path().split('/');
            if !parts.any(|part| matches!(part, "leases" | "events")) {
                tokio::time::sleep(rate.reserve(clock.monotonic())).await;
            }
            client.send(request).await
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::SystemClock;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Map, Value};

    use super::*;

    async fn answer(_: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        Ok(Response::new(Body::from(b"{}".to_vec())))
    }

    #[tokio::test]
    async fn requests_wait_for_their_turns_where_a_rate_is_named() {
        let clock = SystemClock::shared();
        let took = async |flags: &str, path: &str| {
            let flags: Map<String, Value> = serde_json::from_str(flags).unwrap();
            let configuration = Configuration::merge(&[], flags).unwrap().0;
            let client = kube::Client::new(tower::service_fn(answer), "default");
            let client = throttled(client, &configuration, &clock);
            let began = clock.monotonic();
            for _ in 0..5 {
                client.send(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            }
            clock.monotonic().saturating_sub(began)
        };
        let few = r#"{"kubeAPIQPS": 20, "kubeAPIBurst": 2}"#;
        assert!(took(few, "/api/v1/pods").await >= Duration::from_millis(140), "three waited 50 ms each");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a";
        assert!(took(few, lease).await < Duration::from_millis(140));
        assert!(rate(&Configuration::defaults().unwrap()).is_none());
    }
}
