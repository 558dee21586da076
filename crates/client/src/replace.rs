//! A client whose way to the API server is replaced while it is used: with a renewed certificate, or with the first
//! one. Requests that are under way end on the old way; a watch goes on there until its server ends it.

use std::time::Duration;

use http::{Request, Response};
use kube::client::Body;
use tokio::sync::watch;

/// How long a request waits for the first way. Then it fails, so that whoever sent it can say so and try again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// There is nobody yet as whom it could be sent.
    #[error("there is no client certificate yet to show to the API server")]
    Nobody,
    /// It was sent, and failed.
    #[error(transparent)]
    Failed(#[from] kube::Error),
}

/// Replaces the way of the client that [`replaceable`] gave.
#[derive(Debug, Clone)]
pub struct Replacer(watch::Sender<Way>);

/// `kube::Client` cannot be shown.
#[derive(Clone, Default)]
struct Way(Option<kube::Client>);

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Way(known)" } else { "Way(none)" })
    }
}

impl Replacer {
    /// Requests from now on go this way.
    pub fn replace(&self, client: kube::Client) {
        self.0.send_replace(Way(Some(client)));
    }
}

/// A client that goes where `first` does, until that is replaced. Without one, requests wait a little.
pub fn replaceable(first: Option<kube::Client>) -> (kube::Client, Replacer) {
    let (sender, receiver) = watch::channel(Way(first));
    let service = tower::service_fn(move |request| send(receiver.clone(), request));
    (kube::Client::new(service, "default"), Replacer(sender))
}

async fn send(
    mut ways: watch::Receiver<Way>,
    request: Request<Body>,
) -> Result<Response<Body>, ReplaceError> {
    let known = ways.wait_for(|way| way.0.is_some());
    let way = match tokio::time::timeout(PATIENCE, known).await {
        Ok(Ok(way)) => way.0.clone(),
        Ok(Err(_)) | Err(_) => None,
    };
    let client = way.ok_or(ReplaceError::Nobody)?;
    Ok(client.send(request).await?)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::connect::local;

    fn says(text: &'static str) -> kube::Client {
        local(tower::service_fn(async move |_: Request<Body>| {
            Ok::<_, Infallible>(Response::new(Body::from(text.as_bytes().to_vec())))
        }))
    }

    async fn ask(client: &kube::Client) -> Result<String, kube::Error> {
        client.request_text(Request::get("/").body(Vec::new()).unwrap()).await
    }

    #[tokio::test]
    async fn requests_go_the_newest_way() {
        let (client, replacer) = replaceable(Some(says("old")));
        assert_eq!(ask(&client).await.unwrap(), "old");
        replacer.replace(says("new"));
        assert_eq!(ask(&client).await.unwrap(), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_way_but_not_forever() {
        let (client, replacer) = replaceable(None);
        let failed = ask(&client).await.unwrap_err().to_string();
        assert!(failed.contains("no client certificate yet"), "{failed}");
        let waiting = tokio::spawn(async move { ask(&client).await });
        tokio::task::yield_now().await;
        replacer.replace(says("first"));
        assert_eq!(waiting.await.unwrap().unwrap(), "first");
    }
}
