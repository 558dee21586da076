//! The requests to the API server, counted as upstream's client counts them
//! (`component-base/metrics/prometheus/restclient`).

use std::sync::Arc;

use client::connect::Server;
use parking_lot::Mutex;

use super::{Meter, table};

/// The same client, whose requests are counted: how long until they are answered, and by whom with what. Who does not
/// answer has the name of whoever did last.
pub fn counted(client: kube::Client, meter: Meter) -> kube::Client {
    let counting = Arc::new(Counting { meter, server: Mutex::default() });
    client::around(client, move |client, request| {
        let counting = counting.clone();
        async move {
            let (method, began) = (request.method().clone(), counting.meter.clock.monotonic());
            let answer = client.send(request).await;
            match &answer {
                Ok(answer) => {
                    let server = answer.extensions().get::<Server>();
                    counting.note(method.as_str(), answer.status().as_str(), began, server);
                }
                Err(_) => counting.note(method.as_str(), "<error>", began, None),
            }
            answer
        }
    })
}

struct Counting {
    meter: Meter,
    server: Mutex<Option<Server>>,
}

impl Counting {
    fn note(&self, method: &str, code: &str, began: std::time::Duration, server: Option<&Server>) {
        let mut last = self.server.lock();
        if server.is_some() && last.as_ref() != server {
            *last = server.cloned();
        }
        let host = last.as_ref().map(|server| server.0.clone()).unwrap_or_default();
        drop(last);
        let took = self.meter.clock.monotonic().saturating_sub(began);
        self.meter.counts.took(&table::ASKED_DURATION, &[&host, method], took);
        self.meter.counts.count(&table::ASKED_REQUESTS, &[code, &host, method]);
    }
}

#[cfg(test)]
mod tests {
    use base::SystemClock;
    use http::{Request, Response};
    use kube::client::Body;

    use super::super::{Counts, meter};
    use super::*;

    /// Knows nothing, and hangs up at what nobody may ask.
    async fn answer(request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        if request.uri().path() == "/closed" {
            return Err(std::io::Error::other("connection reset"));
        }
        let answer = Response::builder().status(404).extension(Server("10.0.0.1:6443".into()));
        Ok(answer.body(Body::from(b"{}".to_vec())).unwrap())
    }

    fn series(counts: &Counts, row: &super::super::table::Row) -> Vec<String> {
        counts.read(row).keys().map(|labels| labels.join(" ")).collect()
    }

    #[tokio::test]
    async fn requests_are_counted_by_what_was_answered() {
        let meter = meter(SystemClock::shared());
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let client = counted(client, meter.clone());
        for path in ["/closed", "/nothing", "/closed"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answered = client.send(request).await;
            assert_eq!(answered.is_err(), path == "/closed");
        }
        let told = series(&meter.counts, &table::ASKED_REQUESTS);
        assert_eq!(told, ["404 10.0.0.1:6443 GET", "<error>  GET", "<error> 10.0.0.1:6443 GET"]);
        assert_eq!(series(&meter.counts, &table::ASKED_DURATION), [" GET", "10.0.0.1:6443 GET"]);
    }
}
