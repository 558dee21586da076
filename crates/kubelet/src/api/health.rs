//! Health for whoever is on the node: plain HTTP at `healthzBindAddress` and `healthzPort`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Body, accept, full};
use crate::Shared;

/// How long an address that is taken is left alone, as upstream.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves until the group stops. An address that is taken is told, and leaves everything else as it is, as upstream.
pub async fn serve(shared: Arc<Shared>) {
    let fields = &shared.config.configuration.fields;
    let port = u16::try_from(fields.healthz_port).unwrap_or(0);
    let Ok(ip) = fields.healthz_bind_address.parse::<IpAddr>() else {
        return tracing::error!(
            address = fields.healthz_bind_address,
            "healthzBindAddress is no address: health is not served there"
        );
    };
    if port == 0 {
        return;
    }
    let address = SocketAddr::from((ip, port));
    let listener = listen(address).await;
    loop {
        let stream = accept(&listener).await;
        shared.tasks.spawn(async move {
            let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// Listens once nobody else does: a kubelet that this one follows may take a while to end.
async fn listen(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::warn!(%address, %error, "health is not served there: set another healthzPort");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn answer(request: &Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/healthz" | "/healthz/ping" | "/healthz/log" | "/healthz/syncloop" => Response::new(full("ok")),
        _ => {
            let mut response = Response::new(full("404 page not found\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_was_taken_is_listened_at_once_it_is_free() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let waits = tokio::spawn(listen(address));
        tokio::time::sleep(2 * AGAIN).await;
        assert!(!waits.is_finished());
        drop(taken);
        assert_eq!(waits.await.unwrap().local_addr().unwrap(), address);
    }
}
