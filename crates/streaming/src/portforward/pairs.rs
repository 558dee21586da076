//! Connections over SPDY: two streams each, which find each other by the number of their request.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::Forward;
use crate::spdy::{Session, Stream};

/// The accepting end.
pub(super) struct Pairs {
    incoming: mpsc::Receiver<Stream>,
    halves: HashMap<String, Stream>,
    _connection: Session,
}

impl Pairs {
    pub(super) fn new<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (connection, incoming) = Session::server(io);
        Self { incoming, halves: HashMap::new(), _connection: connection }
    }

    /// The next connection to make; `None` when the client is gone.
    pub(super) async fn next(&mut self) -> Option<Forward> {
        loop {
            let stream = self.incoming.recv().await?;
            let (Some(port), Some(kind)) = (port(&stream), stream.header("streamType").map(str::to_owned))
            else {
                stream.reset().await;
                continue;
            };
            let id = request_id(&stream, &kind);
            let (data, error) = match (self.halves.remove(&id), kind.as_str()) {
                (Some(error), "data") if error.header("streamType") == Some("error") => (stream, error),
                (Some(data), "error") if data.header("streamType") == Some("data") => (data, stream),
                (None, "data" | "error") => {
                    self.halves.insert(id, stream);
                    continue;
                }
                _ => {
                    stream.reset().await;
                    continue;
                }
            };
            return Some(Forward { port, data: data.into_io(), error: error.into_io() });
        }
    }
}

fn port(stream: &Stream) -> Option<u16> {
    stream.header("port")?.parse().ok().filter(|port| *port > 0)
}

/// Clients older than the header number their streams in pairs, the error stream first.
fn request_id(stream: &Stream, kind: &str) -> String {
    match stream.header("requestID") {
        Some(id) => id.to_owned(),
        None if kind == "data" => stream.id.saturating_sub(2).to_string(),
        None => stream.id.to_string(),
    }
}
