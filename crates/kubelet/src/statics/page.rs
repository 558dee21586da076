//! Follows a page that has static pods, one or a PodList (`staticPodURL`). What cannot be read is not empty: everything
//! goes on as it was. An empty page is, as upstream has it, one without pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::folder::replace;
use super::manifest::{ManifestError, parse_page};
use crate::Shared;
use crate::pods::Pods;
use crate::pods::spec::PodExt;

/// Upstream's limits: of a request, and of what is read.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: usize = 10 << 20;
/// So many errors in a row are told before it is said that the next ones are not.
const TOLD: u32 = 3;

/// Why there are no pods to be had.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// There is no answer.
    #[error("{0}: see to staticPodURL of the kubelet's configuration, and to who serves it")]
    Asking(String),
    /// The answer is another.
    #[error("{url}: {status}")]
    Status { url: String, status: reqwest::StatusCode },
    /// It is longer than any manifest.
    #[error("{0}: the page is longer than 10 MiB")]
    Long(String),
    /// It says nothing.
    #[error("zero-length data received from {0}")]
    Empty(String),
    /// It says something else.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The page, and what it said last.
struct Page<'a> {
    url: &'a str,
    headers: HeaderMap,
    client: Client,
    data: Option<Vec<u8>>,
    known: BTreeMap<String, Arc<Pod>>,
}

/// Keeps the node's static pods what the page says, until the group stops.
pub async fn follow(shared: Arc<Shared>, pods: Pods) {
    let fields = &shared.config.configuration.fields;
    // Whoever has no other may have one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match Client::builder().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no page of static pods can be read"),
    };
    let (url, headers) = (fields.static_pod_url.as_str(), headers(&fields.static_pod_url_header));
    let mut page = Page { url, headers, client, data: None, known: BTreeMap::new() };
    let mut failures = 0;
    loop {
        match page.look(&shared, &pods).await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!(url, "static pods are read again");
                }
                failures = 0;
            }
            Err(error) => {
                match failures {
                    ..TOLD => tracing::warn!(%error, "static pods are not read"),
                    TOLD => tracing::warn!(%error, "static pods are still not read; this is not said again"),
                    _ => tracing::debug!(%error, "static pods are not read"),
                }
                failures += 1;
            }
        }
        tokio::time::sleep(fields.http_check_frequency).await;
    }
}

/// Those that can be sent; others are told of and left out.
fn headers(given: &BTreeMap<String, Vec<String>>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        for value in values {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => drop(headers.append(name, value)),
                _ => tracing::error!(name, "a header of staticPodURLHeader cannot be sent"),
            }
        }
    }
    headers
}

impl Page<'_> {
    async fn look(&mut self, shared: &Shared, pods: &Pods) -> Result<(), PageError> {
        let data = self.read().await?;
        if data.is_empty() {
            self.set(pods, Vec::new());
            return Err(PageError::Empty(self.url.to_owned()));
        }
        if self.data.as_ref() == Some(&data) {
            return Ok(());
        }
        let found = parse_page(self.url, &data, &shared.config.node_name, shared.config.clock.now())?;
        self.set(pods, found);
        self.data = Some(data);
        Ok(())
    }

    async fn read(&self) -> Result<Vec<u8>, PageError> {
        let asking = |error: reqwest::Error| PageError::Asking(whole(&error));
        let answer = self.client.get(self.url).headers(self.headers.clone()).send().await;
        let mut answer = answer.map_err(asking)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(PageError::Status { url: self.url.to_owned(), status: answer.status() });
        }
        let mut data = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(asking)? {
            data.extend_from_slice(&piece);
            if data.len() > MOST {
                return Err(PageError::Long(self.url.to_owned()));
            }
        }
        Ok(data)
    }

    fn set(&mut self, pods: &Pods, found: Vec<Pod>) {
        if found.is_empty() {
            self.data = None;
        }
        let found = found.into_iter().map(|pod| (pod.uid().to_owned(), Arc::new(pod))).collect();
        replace(pods, &mut self.known, found);
        pods.page_is_read();
    }
}

/// An error with all that it comes from.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_cannot_be_sent_are_left_out() {
        let given = [
            ("X-Node".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("no header".to_owned(), vec!["c".to_owned()]),
            ("X-Bad".to_owned(), vec!["d\n".to_owned()]),
        ];
        let sent = headers(&given.into());
        assert_eq!(sent.get_all("x-node").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(sent.len(), 2);
    }
}
