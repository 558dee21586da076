//! The port on which anybody may read how the node and its pods are, without TLS and without being known
//! (`readOnlyPort`; off unless somebody asks for it).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{Body, Refusal, Server, accept, access, full, pages, undelayed};
use crate::pods::Pods;
use crate::{KubeletError, Shared};

/// Listens where the configuration says, if it does.
///
/// # Errors
/// When somebody else does.
pub async fn listen(shared: &Shared) -> Result<Option<TcpListener>, KubeletError> {
    let fields = &shared.config.configuration.fields;
    let Some(port) = u16::try_from(fields.read_only_port).ok().filter(|port| *port > 0) else {
        return Ok(None);
    };
    let address = SocketAddr::new(shared.config.listen.ip(), port);
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|source| KubeletError::Listen { address, source })
}

/// Serves until the group stops.
pub async fn serve(shared: Arc<Shared>, pods: Pods, listener: TcpListener) {
    let access = Arc::new(access::Access::new(&shared.config.clock));
    loop {
        let stream = accept(&listener).await;
        undelayed(&stream);
        let server = Server { shared: shared.clone(), pods: pods.clone(), access: access.clone() };
        shared.tasks.spawn(connection(server, stream));
    }
}

async fn connection(server: Server, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(&server, &request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Whether a page is among those that anybody may read: how the node is and what it measures, not how it is configured.
fn is_open(parts: &[&str]) -> bool {
    matches!(parts, ["healthz" | "pods" | "metrics" | "stats", ..])
}

async fn answer(server: &Server, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let page = match request.method() == Method::GET && is_open(&parts) {
        true => server.page(request, &parts).await,
        false => None,
    };
    match page {
        Some(Ok(response)) => response,
        Some(Err(Refusal(code, message))) => refusal(code, message),
        None if pages::debugging(&parts) == pages::Debugging::Disabled => {
            refusal(StatusCode::METHOD_NOT_ALLOWED, pages::DISABLED.to_owned())
        }
        None => refusal(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    }
}

fn refusal(code: StatusCode, message: String) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn only_what_is_measured_is_open_to_anybody() {
        for open in [&["pods"][..], &["metrics", "cadvisor"], &["stats", "summary"], &["healthz"]] {
            assert!(is_open(open), "{open:?}");
        }
        for closed in [&["configz"][..], &["runningpods"], &["exec", "a", "b", "c"], &["logs"], &["flagz"]] {
            assert!(!is_open(closed), "{closed:?}");
        }
    }
}
