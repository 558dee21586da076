//! How the Services of a node are, told as kube-proxy tells it: `/healthz` and `/livez` to everybody, `/proxyMode` to
//! the node.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::{SharedClock, TaskGroup};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// `healthzBindAddress` of a KubeProxyConfiguration.
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 10256);
/// `metricsBindAddress`.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// What is told at a path, if anything is.
pub(super) type Answer = Arc<dyn Fn(&str) -> Option<Told> + Send + Sync>;

/// What somebody is told.
pub(super) struct Told {
    /// Whether all is well.
    pub is_well: bool,
    /// The words.
    pub text: String,
    /// How much of the load is to come here, for whoever balances it.
    pub weight: Option<usize>,
}

impl Told {
    fn well(text: impl Into<String>) -> Self {
        Self { is_well: true, text: text.into(), weight: None }
    }
}

/// Serves both until the group stops. Where somebody else listens already, that one is left to it.
pub fn start(clock: SharedClock, tasks: &TaskGroup) {
    let health: Answer = Arc::new(move |path| {
        let now = clock.now();
        let text = || format!(r#"{{"lastUpdated": "{now}","currentTime": "{now}", "nodeEligible": true}}"#);
        matches!(path, "/healthz" | "/livez").then(|| Told::well(text()))
    });
    let mode: Answer = Arc::new(|path| match path {
        "/proxyMode" => Some(Told::well("nftables")),
        "/healthz" => Some(Told::well("ok")),
        _ => None,
    });
    for (address, answer) in [(HEALTH, health), (METRICS, mode)] {
        tasks.spawn(serve(address, answer));
    }
}

/// How often a place is tried that is taken: whoever had it may be about to let go of it.
const ATTEMPTS: u32 = 6;
/// Between the first two attempts; each later pause is twice as long. Also after a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);
/// How long somebody may take to say what it asks.
const PATIENCE: Duration = Duration::from_secs(10);

async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause *= 2;
    }
    TcpListener::bind(address).await
}

/// Answers there for as long as somebody waits for this to end.
pub(super) async fn serve(address: SocketAddr, answer: Answer) {
    let listener = match listen(address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%address, %error, "how Services are is not told there"),
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%address, %error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(respond(&request, &answer)))
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "somebody asked how Services are, and left");
            }
        });
    }
}

fn respond<B>(request: &Request<B>, answer: &Answer) -> Response<String> {
    let (code, text, weight) = match answer(request.uri().path()) {
        Some(Told { is_well: true, text, weight }) => (StatusCode::OK, text, weight),
        Some(Told { text, weight, .. }) => (StatusCode::SERVICE_UNAVAILABLE, text, weight),
        None => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned(), None),
    };
    let kind = if text.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(text);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static(kind));
    headers.insert("x-content-type-options", hyper::header::HeaderValue::from_static("nosniff"));
    if let Some(weight) = weight {
        headers.insert("x-load-balancing-endpoint-weight", weight.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_that_is_taken_is_tried_again() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let let_go = async {
            tokio::time::sleep(PAUSE / 2).await;
            drop(taken);
        };
        let (listener, ()) = tokio::join!(listen(address), let_go);
        assert_eq!(listener.unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn paths_that_are_known_are_answered() {
        let answer: Answer = Arc::new(|path| (path == "/proxyMode").then(|| Told::well("nftables")));
        let ask = |path: &str| respond(&Request::get(path).body(()).unwrap(), &answer);
        let mode = ask("/proxyMode");
        assert_eq!((mode.status().as_u16(), mode.body().as_str()), (200, "nftables"));
        assert_eq!(ask("/else").status().as_u16(), 404);
    }
}
