use std::io;
use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;

/// Lists of many containers outgrow tonic's 4 MiB; upstream's kubelet allows the same 16 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// A client of the runtime half.
pub type RuntimeClient = RuntimeServiceClient<Channel>;
/// A client of the image half.
pub type ImageClient = ImageServiceClient<Channel>;

/// Why a runtime cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not a unix socket.
    #[error("container runtime endpoint {0:?} is not a unix socket: use unix:///path/to/socket")]
    NotUnix(String),
    /// Nobody answers there.
    #[error("connecting to {path}: does anybody serve there?")]
    Connect {
        /// The socket.
        path: String,
        /// What the transport says.
        source: tonic::transport::Error,
    },
}

/// Connects to `unix:///path` (or a bare absolute path). Both clients share one connection, which
/// is made anew after the runtime was restarted.
pub async fn connect(endpoint: &str) -> Result<(RuntimeClient, ImageClient), ConnectError> {
    let channel = channel(endpoint).await?;
    Ok((
        RuntimeServiceClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
        ImageServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    ))
}

/// The connection alone, for services beside the CRI on the same socket.
pub async fn channel(endpoint: &str) -> Result<Channel, ConnectError> {
    let path = match endpoint.strip_prefix("unix://") {
        Some(path) => Path::new(path),
        None if endpoint.starts_with('/') => Path::new(endpoint),
        None => return Err(ConnectError::NotUnix(endpoint.to_owned())),
    };
    let connected = Endpoint::from_static("http://localhost").connect_with_connector(connector(path)).await;
    connected.map_err(|source| ConnectError::Connect { path: path.display().to_string(), source })
}

/// A connection that is made, and made again, when something is asked: whoever is to answer need not be there yet.
pub fn later(socket: &Path) -> Channel {
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector(socket))
}

fn connector(
    path: &Path,
) -> impl tower::Service<Uri, Response = TokioIo<UnixStream>, Error = io::Error, Future: Send> + Send + 'static
{
    let path = path.to_owned();
    service_fn(move |_: Uri| {
        let path = path.clone();
        async move { crate::reach::reach(&path).await.map(TokioIo::new) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_is_no_socket_says_so() {
        let err = connect("tcp://127.0.0.1:1").await.unwrap_err();
        assert!(err.to_string().contains("unix:///"), "{err}");
        let err = connect("unix:///nonexistent/cri.sock").await.unwrap_err();
        assert!(err.to_string().contains("/nonexistent/cri.sock"), "{err}");
    }
}
