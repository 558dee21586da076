//! The socket at which device plugins register (`<root>/device-plugins/kubelet.sock`).

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use cri::device_plugin as wire;
use tonic::{Request, Response, Status};
use wire::registration_server::{Registration, RegistrationServer};

use super::{Devices, validate};
use crate::socket::{SocketError, listen};

struct Calls(Arc<Devices>);

#[tonic::async_trait]
impl Registration for Calls {
    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::Empty>, Status> {
        let request = request.into_inner();
        let refuse = |error: super::ConnectError| {
            tracing::warn!(resource = request.resource_name, %error, "a device plugin is refused");
            Status::unknown(error.to_string())
        };
        validate(&request.resource_name, std::slice::from_ref(&request.version)).map_err(refuse)?;
        let socket = self.0.folder.join(&request.endpoint);
        self.0.connect(&request.resource_name, &socket).await.map_err(refuse)?;
        Ok(Response::new(wire::Empty {}))
    }
}

/// Listens. Sockets of plugins that were there go: their plugins see it, and come again.
///
/// # Errors
/// [`SocketError`].
pub fn serve(devices: &Arc<Devices>) -> Result<(), SocketError> {
    let path = devices.folder.join("kubelet.sock");
    match clear(&devices.folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(SocketError { path, source }),
        _ => {}
    }
    let incoming = listen(&path)?;
    let shutdown = devices.tasks.shutdown().clone();
    let server =
        tonic::transport::Server::builder().add_service(RegistrationServer::new(Calls(devices.clone())));
    devices.tasks.spawn(async move {
        let end = async move { shutdown.wait().await };
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, end).await {
            tracing::error!(%error, "device plugins cannot register any more");
        }
    });
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
