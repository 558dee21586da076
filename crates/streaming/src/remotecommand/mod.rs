//! Exec and attach: stdin, stdout, stderr, a terminal's size, and a status at the end.

mod client;
mod socket;
mod spdy;
mod status;

use std::time::Duration;

use http::Request;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use client::{ClientSession, PROTOCOLS as CLIENT_PROTOCOLS, client};
pub use status::Outcome;

use crate::upgrade::{self, Kind};
use crate::{Answer, Refusal, StreamError};

/// How long a SPDY client may take to open its streams.
const STREAM_CREATION: Duration = Duration::from_secs(30);

/// Which streams a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The client sends input.
    pub stdin: bool,
    /// The client wants output.
    pub stdout: bool,
    /// The client wants errors, apart from output.
    pub stderr: bool,
    /// There is a terminal, and so no stderr.
    pub tty: bool,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Lines.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// The accepting end of a session. Streams that were not asked for are absent.
pub struct Session {
    /// What the client sends; it ends when the client closes it or goes away.
    pub stdin: Option<DuplexStream>,
    /// What the client is to see.
    pub stdout: Option<DuplexStream>,
    /// What the client is to see as errors.
    pub stderr: Option<DuplexStream>,
    /// New sizes of the client's terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    finish: oneshot::Sender<Outcome>,
    done: oneshot::Receiver<()>,
}

impl Session {
    /// Ends the output, tells the client how it ended, and returns when all of it is sent.
    pub async fn finish(self, outcome: Outcome) {
        let Self { stdin, stdout, stderr, finish, done, .. } = self;
        drop((stdin, stdout, stderr));
        if finish.send(outcome).is_ok() {
            // An error means that the connection ended first.
            let _ = done.await;
        }
    }
}

/// Answers a request for an exec or attach session. The future gives the session once the answer
/// is out and the client has opened its streams.
pub fn accept<B>(mut request: Request<B>, options: Options) -> Result<Answer<Session>, Refusal> {
    let options = Options { stderr: options.stderr && !options.tty, ..options };
    let kind = upgrade::kind(request.headers())?;
    let (response, protocol) = match kind {
        Kind::WebSocket => upgrade::websocket(request.headers(), socket::PROTOCOLS)?,
        Kind::Spdy => upgrade::spdy(request.headers(), spdy::PROTOCOLS)?,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let session = async move {
        let io = TokioIo::new(upgraded.await.map_err(StreamError::Upgrade)?);
        match kind {
            Kind::WebSocket => Ok(socket::serve(io, options, protocol).await),
            Kind::Spdy => tokio::time::timeout(STREAM_CREATION, spdy::serve(io, options, protocol))
                .await
                .map_err(|_| StreamError::StreamsMissing)?,
        }
    };
    Ok((response, Box::pin(session)))
}
