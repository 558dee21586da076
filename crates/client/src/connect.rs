//! A `kube::Client` for an API server in this process, or behind a kubeconfig.

use std::time::Duration;

use http::{Request, Response};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

use crate::reach::watched;

/// How long a connection that nobody uses is kept: longer than the pauses between renewals of a lease, which would
/// shake hands for each otherwise, and not for ever, as `kube` keeps each that a busy moment opened (35 KiB here and
/// 24 at the server).
const KEPT: Duration = Duration::from_secs(15);

/// Who answered, as host and port: an extension of each response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(pub std::sync::Arc<str>);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig makes no sense.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client cannot be built of it.
    #[error("{0}")]
    Client(#[from] kube::Error),
}

/// A client of a service in this process: a request is a function call.
pub fn local<S, B>(service: S) -> kube::Client
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    kube::Client::new(service, "default")
}

/// A client of the current context of a kubeconfig's text.
///
/// # Errors
/// [`ConnectError`].
pub async fn kubeconfig(yaml: &str) -> Result<kube::Client, ConnectError> {
    let kubeconfig = Kubeconfig::from_yaml(yaml)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(watched(of(config)?))
}

/// The client of a configuration: as `kube` builds it, but for connections that are closed once they are not used.
///
/// # Errors
/// Credentials or addresses that cannot be read.
pub fn of(config: kube::Config) -> Result<kube::Client, kube::Error> {
    if let Some(proxy) = &config.proxy_url {
        tracing::warn!(%proxy, server = %config.cluster_url, "proxies are not supported: going straight to the server");
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector()?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .build::<_, Body>(connector);
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let server = Server(host.into());
    let service = ServiceBuilder::new()
        .map_response(move |mut answer: Response<_>| {
            answer.extensions_mut().insert(server.clone());
            answer
        })
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::{Barrier, mpsc};

    use super::*;

    /// Answers each request on a connection once all connections have one, and tells when a connection ends.
    async fn serve(listener: TcpListener, together: usize, ended: mpsc::UnboundedSender<()>) {
        let all = std::sync::Arc::new(Barrier::new(together));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (all, ended) = (all.clone(), ended.clone());
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    all.wait().await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                }
                let _ = ended.send(());
            });
        }
    }

    #[tokio::test]
    async fn connections_of_a_busy_moment_are_closed_when_it_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, mut ended) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, 3, sender));
        let client = of(kube::Config::new(address.parse().unwrap())).unwrap();
        let ask =
            || async { client.request_text(Request::get("/").body(Vec::new()).unwrap()).await.unwrap() };
        assert_eq!(futures::join!(ask(), ask(), ask()), ("{}".into(), "{}".into(), "{}".into()));
        assert!(ended.try_recv().is_err(), "they are kept for what may follow");
        tokio::time::pause();
        tokio::time::sleep(KEPT * 3).await;
        tokio::time::resume();
        for _ in 0..3 {
            tokio::time::timeout(KEPT, ended.recv()).await.unwrap();
        }
    }
}
