//! Requests as a client sends them, and the whole answer.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

/// The media type of Kubernetes' protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// JSON.
pub const JSON: &str = "application/json";
/// A merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The `message` of a Status.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The resource version of an object or a list.
    ///
    /// # Panics
    /// When there is none.
    pub fn revision(&self) -> u64 {
        revision(&self.json())
    }

    /// The texts of the `Warning` headers.
    ///
    /// # Panics
    /// When one is not as RFC 7234 has it.
    pub fn warnings(&self) -> Vec<String> {
        let text = |value: &http::HeaderValue| {
            let quoted = value.to_str().unwrap().strip_prefix("299 - \"").unwrap().strip_suffix('"').unwrap();
            quoted.replace("\\\"", "\"").replace("\\\\", "\\")
        };
        self.headers.get_all(http::header::WARNING).iter().map(text).collect()
    }

    /// Insists on a status code.
    ///
    /// # Panics
    /// When it is another.
    #[must_use]
    pub fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// A client of a kubeconfig. Unlike most, it never asks again by itself: a test wants each answer.
///
/// # Panics
/// When the kubeconfig makes no sense.
pub async fn connect(kubeconfig: &str) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

/// The resource version of an object or a list.
///
/// # Panics
/// When there is none.
pub fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse().unwrap()
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Call {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A DELETE without options.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// A POST of JSON.
    pub fn post(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path).body(JSON, object.to_string())
    }

    /// A PUT of JSON.
    pub fn put(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PUT, path).body(JSON, object.to_string())
    }

    /// A merge patch.
    pub fn patch(path: impl Into<String>, patch: &Value) -> Self {
        Self::new(Method::PATCH, path).body(MERGE_PATCH, patch.to_string())
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn request(&self) -> Request<Body> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Body::from(self.body.to_vec())).unwrap()
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// Those of the connection: no answer, or a part of one.
    pub async fn try_send(&self, client: &kube::Client) -> anyhow::Result<Answer> {
        let (parts, body) = client.send(self.request()).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(&self, client: &kube::Client) -> Answer {
        match self.try_send(client).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} {}: {error:#}", self.method, self.path),
        }
    }

    /// Sends it and hands out the head of the answer, with a body that still comes.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn stream(&self, client: &kube::Client) -> anyhow::Result<http::Response<Body>> {
        Ok(client.send(self.request()).await?)
    }
}
