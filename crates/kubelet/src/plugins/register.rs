//! One plugin: asked what it is, taken or not, and told so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use cri::registration as wire;
use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::Channel;
use wire::registration_client::RegistrationClient;

use super::{Handler, Handlers, described};

const DIAL: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(5);
/// Between two attempts; upstream's.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(122);

/// Why a plugin is not registered, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("RegisterPlugin error -- dial failed at socket {path}, err: {why}")]
    Dial { path: String, why: String },
    #[error(
        "RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {path}, err: {}",
        described(source)
    )]
    Info { path: String, source: Status },
    #[error("RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {path}")]
    NoHandler { kind: String, path: String },
    #[error("RegisterPlugin error -- plugin validation failed with err: {0}")]
    Invalid(String),
    #[error("RegisterPlugin error -- plugin registration failed with err: {0}")]
    Refused(String),
    #[error(
        "RegisterPlugin error -- failed to send registration status at socket {path}, err: {}",
        described(source)
    )]
    Tell { path: String, source: Status },
}

/// A plugin that was handed over, if it was.
#[derive(Default)]
pub struct Registration {
    state: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    taken: Option<Taken>,
    /// Its socket is gone: whoever is taken after that is given back at once.
    ended: bool,
}

struct Taken {
    handler: Arc<dyn Handler>,
    name: String,
    endpoint: PathBuf,
}

impl Registration {
    /// The plugin's socket is gone.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.give_back();
    }

    fn take(&self, taken: Taken) {
        let mut state = self.state.lock();
        state.taken = Some(taken);
        let ended = state.ended;
        drop(state);
        if ended {
            self.give_back();
        }
    }

    fn give_back(&self) {
        let taken = self.state.lock().taken.take();
        if let Some(taken) = taken {
            tracing::info!(plugin = taken.name, endpoint = %taken.endpoint.display(), "a plugin has gone");
            taken.handler.deregister(&taken.name, &taken.endpoint);
        }
    }
}

/// Registers a plugin, for as many attempts as it takes.
pub async fn keep(socket: PathBuf, handlers: Arc<Handlers>, registration: Arc<Registration>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        match register(&socket, &handlers, &registration).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "a plugin is not registered"),
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

async fn register(
    socket: &Path,
    handlers: &Handlers,
    registration: &Registration,
) -> Result<(), RegisterError> {
    let path = socket.display().to_string();
    let mut client = dial(&path).await?;
    let info = client.get_info(within(wire::InfoRequest {}, ASK)).await;
    let info = info.map_err(|source| RegisterError::Info { path: path.clone(), source })?.into_inner();
    match take(&path, info, handlers, registration).await {
        Ok(()) => {
            let told = tell(&mut client, true, String::new()).await;
            told.map_err(|source| {
                registration.give_back();
                RegisterError::Tell { path, source }
            })
        }
        Err(error) => {
            if let Err(status) = tell(&mut client, false, error.to_string()).await {
                tracing::debug!(path, %status, "a plugin was not told why it is not registered");
            }
            Err(error)
        }
    }
}

async fn take(
    path: &str,
    info: wire::PluginInfo,
    handlers: &Handlers,
    registration: &Registration,
) -> Result<(), RegisterError> {
    let (kind, name, versions) = (info.r#type, info.name, info.supported_versions);
    let endpoint = if info.endpoint.is_empty() { path.to_owned() } else { info.endpoint };
    let endpoint = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(&endpoint));
    let handler = handlers
        .get(kind.as_str())
        .ok_or_else(|| RegisterError::NoHandler { kind: kind.clone(), path: path.to_owned() })?;
    handler.validate(&name, &versions).map_err(RegisterError::Invalid)?;
    handler.register(&name, &endpoint, &versions).await.map_err(RegisterError::Refused)?;
    tracing::info!(plugin = name, kind, path, "a plugin is registered");
    registration.take(Taken { handler: handler.clone(), name, endpoint });
    Ok(())
}

async fn dial(path: &str) -> Result<RegistrationClient<Channel>, RegisterError> {
    let failed = |why: String| RegisterError::Dial { path: path.to_owned(), why };
    let channel = tokio::time::timeout(DIAL, cri::channel(path)).await;
    let channel = channel.map_err(|_| failed("context deadline exceeded".to_owned()))?;
    Ok(RegistrationClient::new(channel.map_err(|error| failed(error.to_string()))?))
}

async fn tell(
    client: &mut RegistrationClient<Channel>,
    registered: bool,
    error: String,
) -> Result<(), Status> {
    let status = wire::RegistrationStatus { plugin_registered: registered, error };
    client.notify_registration_status(within(status, TELL)).await.map(drop)
}

fn within<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}
