//! A `kube::Client` for an API server in this process, or behind a kubeconfig.

use http::{Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::reach::watched;

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
    S: tower_service::Service<Request<Body>, Response = Response<B>> + Send + 'static,
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
    Ok(watched(kube::Client::try_from(config)?))
}
