//! A kubelet without an API server, which runs static pods only (upstream's standalone mode). Its client is answered
//! here: every list is empty and stays so, what is created (events) is taken, and everything else is not there.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use kube::client::Body;

use crate::Shared;

/// An empty list of version 1 as protobuf, in its envelope.
const EMPTY: &[u8] = b"k8s\0\x12\x05\x0a\x03\x12\x01\x31";

/// The client of a kubelet that has no API server.
pub fn client() -> kube::Client {
    kube::Client::new(tower::service_fn(answer), "default")
}

/// What is known at once, or a watch.
type Answer = Either<Full<Bytes>, StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: Request<Body>) -> Result<Response<Answer>, kube::Error> {
    let query = request.uri().query().unwrap_or_default();
    let (code, body) = match *request.method() {
        Method::POST => (StatusCode::CREATED, at_once(request.into_body().collect().await?.to_bytes())),
        Method::GET if query.contains("watch=true") => {
            (StatusCode::OK, Either::Right(StreamBody::new(stream::pending())))
        }
        Method::GET if query.contains("limit=") => (StatusCode::OK, at_once(EMPTY)),
        _ => {
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "there is no API server",
            });
            (StatusCode::NOT_FOUND, at_once(status.to_string()))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    Ok(response)
}

fn at_once(body: impl Into<Bytes>) -> Answer {
    Either::Left(Full::new(body.into()))
}

/// Tells the runtime the range of pods' addresses, which nobody else does (`podCIDR`).
pub(crate) async fn tell_pod_cidr(shared: Arc<Shared>) {
    let cidr = &shared.config.configuration.fields.pod_cidr;
    if cidr.is_empty() {
        return;
    }
    while let Err(status) = shared.runtime.set_pod_cidr(cidr).await {
        tracing::warn!(%status, "the runtime does not take the pod network");
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{Shutdown, TaskGroup};
    use client::{Informer, Resource};
    use k8s_openapi::api::core::v1::{Event, Pod};
    use kube::Api;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Nothing {}

    #[tokio::test]
    async fn there_is_nothing_and_it_stays_so() {
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let services = Informer::<Nothing>::new(client(), Resource::all("", "v1", "Service", "services"));
        let services = services.start(&tasks);
        assert!(tokio::time::timeout(Duration::from_secs(5), services.synced()).await.unwrap());
        let pods: Api<Pod> = Api::default_namespaced(client());
        assert!(pods.get_opt("p").await.unwrap().is_none());
        let events: Api<Event> = Api::default_namespaced(client());
        let event = Event { reason: Some("Started".to_owned()), ..Event::default() };
        assert_eq!(events.create(&Default::default(), &event).await.unwrap(), event);
        shutdown.trigger();
    }
}
