//! How the Services of a node are, told as kube-proxy tells it: `/healthz` and `/livez` to everybody, `/proxyMode` to
//! the node.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base::{SharedClock, TaskGroup};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
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

/// Answers there for as long as somebody waits for this to end.
pub(super) async fn serve(address: SocketAddr, answer: Answer) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%address, %error, "how Services are is not told there"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(respond(&request, &answer)))
            });
            let connection = hyper::server::conn::http1::Builder::new();
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

    #[test]
    fn paths_that_are_known_are_answered() {
        let answer: Answer = Arc::new(|path| (path == "/proxyMode").then(|| Told::well("nftables")));
        let ask = |path: &str| respond(&Request::get(path).body(()).unwrap(), &answer);
        let mode = ask("/proxyMode");
        assert_eq!((mode.status().as_u16(), mode.body().as_str()), (200, "nftables"));
        assert_eq!(ask("/else").status().as_u16(), 404);
    }
}
