//! A container runtime that serves the CRI: sandboxes, containers, images, exec and attach, logs
//! and statistics.
//!
//! The map: [`plan`] decides what a container is to be and touches nothing; `pod` does it: it makes
//! sandboxes and containers, watches them and clears them away; `shim` talks to the small process
//! that is each pod's parent; `images` brings layers in; `service` translates between gRPC and
//! `pod`; `state` is what is written down, and `pod::recover` what a later runtime makes of it.
//!
//! It does not know of Kubernetes' API, of Services, or of how pods are connected ([`PodNetwork`]).
//!
//! Invariants:
//! - Nothing is global: a runtime is its [`Config`], and many can run on one machine, or in one process.
//! - Containers do not depend on this process. It may die at any moment; the next one finds them.
//! - An intent is written down before it is carried out, and a process is known by more than its pid.

mod bandwidth;
mod cdi;
mod cgroup;
mod cni;
mod config;
mod embedded;
mod events;
mod images;
mod import;
mod metrics;
mod network;
pub mod plan;
mod pod;
#[path = "../../shim/src/proto.rs"]
#[expect(dead_code, reason = "the shim and the launcher use the rest")]
mod proto;
mod root;
mod service;
mod shim;
mod state;
mod stats;
mod streaming_server;
mod sys;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Shutdown, TaskGroup};
use cri::v1::image_service_server::ImageServiceServer;
use cri::v1::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

pub use bandwidth::Bandwidth;
pub use cni::Settings as CniSettings;
pub use config::{Config, Registries};
pub use images::{ImageError, Source as ArchiveSource, Store as ImageStore, import as import_image};
pub use import::{ImportError, Progress, import_client};
pub use network::{Loopback, NetworkError, PodIps, PodNetwork, SandboxMeta};
pub use sys::namespace::in_network;

use pod::Core;

/// The service beside the CRI on the same socket.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    reason = "generated code"
)]
pub(crate) mod wire {
    tonic::include_proto!("knarr.runtime.v1");
}

/// Upstream's kubelet allows messages of this size.
const MAX_MESSAGE: usize = 16 << 20;

/// Why a runtime does not run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A folder or socket of its own.
    #[error("{what}")]
    Setup {
        /// Doing what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Its folders do not belong together.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// Its images.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// Finding what an earlier runtime left.
    #[error("finding the containers of an earlier runtime")]
    Recover(#[source] pod::PodError),
    /// Pods' network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Serving the CRI.
    #[error("serving the CRI")]
    Serve(#[from] tonic::transport::Error),
}

impl RuntimeError {
    fn setup(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Setup { what, source }
    }
}

/// Ends a group's tasks when the future that owns them is dropped.
struct EndTasks(TaskGroup);

impl Drop for EndTasks {
    fn drop(&mut self) {
        self.0.shutdown().trigger();
    }
}

/// Serves until `shutdown`. Containers go on when it returns, and when it is dropped.
pub async fn run(mut config: Config, shutdown: Shutdown) -> Result<(), RuntimeError> {
    // Whoever embeds us may have chosen a provider already; that one is used then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    for folder in [&config.root, &config.run_dir] {
        fs::create_dir_all(folder).map_err(RuntimeError::setup(format!("making {}", folder.display())))?;
    }
    if config.in_memory
        && let Err(error) = sys::mount::in_memory(&config.run_dir)
    {
        // It is only slower.
        tracing::warn!(folder = %config.run_dir.display(), %error, "the run folder stays on the disk");
    }
    let _only = lock(&config.run_dir).await?;
    root::claim(&config)?;
    let tasks = EndTasks(TaskGroup::new(&shutdown));
    let socket = config.socket.clone();
    if let Some(cni) = &config.cni {
        config.network = cni::Network::start(cni.clone(), config.network, config.clock.clone(), &tasks.0)?;
    }
    let core = Core::new(config, tasks.0.clone()).await?;
    pod::recover::recover(&core).await.map_err(RuntimeError::Recover)?;
    pod::sweep::sweep(&core).map_err(RuntimeError::Recover)?;
    core.collect_layers();
    let streaming = streaming_server::Server::start(core.clone())
        .await
        .map_err(RuntimeError::setup("listening for exec, attach and port-forward on loopback"))?;
    let listener = listen(&socket)?;
    let runtime = RuntimeServiceServer::new(service::RuntimeCalls::new(core.clone(), streaming))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let images = ImageServiceServer::new(service::ImageCalls::new(core.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let import = wire::images_server::ImagesServer::new(import::ImportCalls::new(core.clone()))
        .max_decoding_message_size(MAX_MESSAGE);
    tracing::info!(socket = %socket.display(), "container runtime is ready");
    tonic::transport::Server::builder()
        .add_service(runtime)
        .add_service(images)
        .add_service(import)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move { shutdown.wait().await })
        .await?;
    Ok(())
}

/// How long a runtime that is about to end may hold its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Two runtimes on the same folders would take each other's containers apart. One that was killed holds its lock
/// until the kernel has taken the last of it apart, and so do its children between fork and exec.
async fn lock(run_dir: &Path) -> Result<nix::fcntl::Flock<fs::File>, RuntimeError> {
    let path = run_dir.join("lock");
    let mut file =
        fs::File::create(&path).map_err(RuntimeError::setup(format!("opening {}", path.display())))?;
    let until = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, nix::Error::EAGAIN)) if tokio::time::Instant::now() < until => file = again,
            Err((_, errno)) => {
                return Err(RuntimeError::Setup {
                    what: format!(
                        "another runtime uses {}: stop it, or choose another folder",
                        run_dir.display()
                    ),
                    source: errno.into(),
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn listen(socket: &Path) -> Result<UnixListener, RuntimeError> {
    let failed = || RuntimeError::setup(format!("listening at {}", socket.display()));
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(failed())?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed())?;
    // Whoever can talk to a runtime is root on the machine.
    fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o660)).map_err(failed())?;
    Ok(listener)
}

type SharedCore = Arc<Core>;
