//! Where the URLs of `Exec`, `Attach` and `PortForward` lead: a server on loopback. A URL is good
//! once, and for a minute.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use streaming::portforward::{self, Forward};
use streaming::remotecommand::{self, Options};
use tokio::net::{TcpListener, TcpStream};

use crate::SharedCore;
use crate::pod::exec::Command;
use crate::pod::{Container, Sandbox, attach, exec};
use crate::sys::namespace;

const LIFETIME: Duration = Duration::from_secs(60);

/// What a URL stands for.
pub enum Ticket {
    /// A command in a container.
    Exec { container: Arc<Container>, command: Command, options: Options },
    /// A container's own streams.
    Attach { container: Arc<Container>, options: Options },
    /// Connections into a pod.
    PortForward { sandbox: Arc<Sandbox>, ports: Vec<u16> },
}

/// The server.
pub struct Server {
    core: SharedCore,
    address: SocketAddr,
    tickets: Mutex<HashMap<String, (Duration, Ticket)>>,
}

impl Server {
    /// Listens on a free port of loopback.
    pub async fn start(core: SharedCore) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Arc::new(Self { core: core.clone(), address, tickets: Mutex::default() });
        core.tasks.spawn({
            let server = server.clone();
            async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            if let Err(error) = stream.set_nodelay(true) {
                                tracing::debug!(%error, "a connection sends with delay");
                            }
                            server.clone().connection(stream);
                        }
                        Err(error) => {
                            // Out of descriptors, for example: it passes.
                            tracing::warn!(%error, "accepting a streaming connection");
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            }
        });
        Ok(server)
    }

    /// A URL for something.
    pub fn issue(&self, ticket: Ticket) -> String {
        let kind = match ticket {
            Ticket::Exec { .. } => "exec",
            Ticket::Attach { .. } => "attach",
            Ticket::PortForward { .. } => "portforward",
        };
        let token = self.core.new_id();
        let now = self.core.config.clock.monotonic();
        let mut tickets = self.tickets.lock();
        tickets.retain(|_, (issued, _)| now.saturating_sub(*issued) < LIFETIME);
        tickets.insert(token.clone(), (now, ticket));
        format!("http://{}/{kind}/{token}", self.address)
    }

    fn redeem(&self, path: &str) -> Option<Ticket> {
        let token = path.rsplit('/').next()?;
        let (issued, ticket) = self.tickets.lock().remove(token)?;
        (self.core.config.clock.monotonic().saturating_sub(issued) < LIFETIME).then_some(ticket)
    }

    fn connection(self: Arc<Self>, stream: TcpStream) {
        let tasks = self.core.tasks.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let server = self.clone();
                async move { Ok::<_, Infallible>(server.answer(request)) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "streaming connection ended");
            }
        });
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(ticket) = self.redeem(request.uri().path()) else {
            let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let core = self.core.clone();
        let answer = match ticket {
            Ticket::Exec { container, command, options } => {
                remotecommand::accept(request, options).map(|(response, session)| {
                    self.spawn(session, |session| exec::attend(core, container, command, session));
                    response
                })
            }
            Ticket::Attach { container, options } => {
                remotecommand::accept(request, options).map(|(response, session)| {
                    self.spawn(session, |session| attach::attend(core, container, session));
                    response
                })
            }
            Ticket::PortForward { sandbox, ports } => {
                portforward::accept(request, &ports).map(|(response, forwards)| {
                    self.spawn(forwards, |mut forwards| async move {
                        while let Some(forward) = forwards.next().await {
                            core.tasks.spawn(connect(sandbox.clone(), forward));
                        }
                    });
                    response
                })
            }
        };
        answer.unwrap_or_else(streaming::Refusal::into_response)
    }

    fn spawn<T, F>(
        &self,
        session: impl Future<Output = Result<T, streaming::StreamError>> + Send + 'static,
        serve: impl FnOnce(T) -> F + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.core.tasks.spawn(async move {
            match session.await {
                Ok(session) => serve(session).await,
                Err(error) => tracing::debug!(%error, "streaming session did not begin"),
            }
        });
    }
}

/// Joins a client with a port of a pod.
async fn connect(sandbox: Arc<Sandbox>, mut forward: Forward) {
    let port = forward.port;
    match dial(&sandbox, port).await {
        Ok(mut stream) => {
            if let Err(error) = tokio::io::copy_bidirectional(&mut forward.data, &mut stream).await {
                tracing::debug!(%error, port, "forwarded connection ended");
            }
            forward.finish(None).await;
        }
        Err(error) => {
            let text = format!(
                "error forwarding port {port} to pod {}, uid : failed to connect to localhost:{port} inside the pod: {error}",
                sandbox.id
            );
            forward.finish(Some(text)).await;
        }
    }
}

/// Connects to loopback inside the pod, by either version of IP.
async fn dial(sandbox: &Sandbox, port: u16) -> io::Result<TcpStream> {
    let netns = sandbox.netns();
    let stream = tokio::task::spawn_blocking(move || {
        let connect = || {
            let addresses = [
                SocketAddr::from(([127, 0, 0, 1], port)),
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
            ];
            std::net::TcpStream::connect(addresses.as_slice())
        };
        match netns {
            Some(netns) => namespace::in_network(&netns, connect),
            None => connect(),
        }
    })
    .await
    .map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
