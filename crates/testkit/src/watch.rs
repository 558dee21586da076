//! A watch in JSON, event by event.

use bytes::BytesMut;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::http::Call;
use crate::wait::DEADLINE;

/// An open watch.
pub struct Watch {
    body: Body,
    buffer: BytesMut,
}

impl Watch {
    /// Opens a watch.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(client: &Client, path: &str) -> Self {
        Self::try_open(client, path).await.unwrap()
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// When there is no connection, or the watch is refused.
    pub async fn try_open(client: &Client, path: &str) -> anyhow::Result<Self> {
        let response = Call::get(path).stream(client).await?;
        anyhow::ensure!(response.status() == 200, "{}", response.status());
        Ok(Self::of(response))
    }

    /// The watch that an answer is.
    pub fn of(response: http::Response<Body>) -> Self {
        Self { body: response.into_body(), buffer: BytesMut::new() }
    }

    /// The next event; `None` when the watch has ended.
    ///
    /// # Panics
    /// When what came is no event, or nothing came within [`DEADLINE`].
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no event came within {DEADLINE:?}"))?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref()?);
        }
    }
}
