use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use base::Shutdown;
use http::Response;

use super::*;
use crate::connect::local;

/// An empty list, and watches with this code, which end at once.
#[derive(Clone)]
struct Server {
    code: u16,
    watches: Arc<AtomicU32>,
}

/// `{"metadata":{"resourceVersion":"5"}}` in its envelope.
const LIST: &[u8] = b"k8s\0\x12\x05\x0a\x03\x12\x015";

impl tower::Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = if request.uri().query().unwrap_or_default().contains("watch=true") {
            self.watches.fetch_add(1, Ordering::Relaxed);
            Response::builder().status(self.code).body(Body::empty()).unwrap()
        } else {
            Response::new(Body::from(LIST.to_vec()))
        };
        std::future::ready(Ok(response))
    }
}

/// How many watches are asked for within a minute.
async fn watches(code: u16) -> u32 {
    let tasks = TaskGroup::new(&Shutdown::new());
    let server = Server { code, watches: Arc::default() };
    let pods = Resource::all("", "v1", "Pod", "pods");
    let informer = Informer::<serde_json::Value>::new(local(server.clone()), pods);
    let _reflector = informer.start(&tasks);
    tokio::time::sleep(Duration::from_secs(60)).await;
    tasks.stop().await;
    server.watches.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_watches_or_ends_them_at_once_is_asked_less_and_less() {
    for code in [403, 503, 200] {
        let asked = watches(code).await;
        assert!((5..=14).contains(&asked), "{asked} watches in a minute that get {code}");
    }
}
