//! A webhook over TLS whose answers a test chooses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use auth::pki::CertKey;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the webhook does when it is asked.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with this `response`, to which `uid` is added.
    Says(Value),
    /// Answers with this status and body, whatever they are.
    Sends(u16, Vec<u8>),
    /// Does not answer.
    Hangs,
}

impl Reply {
    pub fn allow() -> Self {
        Self::Says(json!({"allowed": true}))
    }
}

struct State {
    reply: Mutex<Reply>,
    asked: Mutex<Vec<(String, Value)>>,
}

/// A running webhook. It ends when it is dropped.
pub struct Webhook {
    state: Arc<State>,
    address: SocketAddr,
    pub ca_pem: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn certificate() -> CertKey {
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    CertKey { cert_pem: signed.cert.pem(), key_pem: signed.signing_key.serialize_pem() }
}

impl Webhook {
    pub async fn start() -> Self {
        let certificate = certificate();
        let tls = TlsAcceptor::from(auth::pki::server_config(&certificate, None).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { reply: Mutex::new(Reply::allow()), asked: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, tls, state.clone()));
        Self { state, address, ca_pem: certificate.cert_pem, accepting }
    }

    pub fn url(&self) -> String {
        format!("https://{}/validate", self.address)
    }

    pub fn reply(&self, reply: Reply) {
        *self.state.reply.lock() = reply;
    }

    /// The requests of the reviews that came since this was asked last.
    pub fn asked(&self) -> Vec<Value> {
        self.calls().into_iter().map(|(_, review)| review["request"].clone()).collect()
    }

    /// The same with the path that they came to, and the whole review.
    pub fn calls(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.state.asked.lock())
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            // A client that does not trust us goes away.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| answer(state.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let uid = review["request"]["uid"].clone();
    state.asked.lock().push((path, review));
    let reply = state.reply.lock().clone();
    let (code, body) = match reply {
        Reply::Says(mut response) => {
            if response.get("uid").is_none() {
                response["uid"] = uid;
            }
            let review =
                json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            (200, review.to_string().into_bytes())
        }
        Reply::Sends(code, body) => (code, body),
        Reply::Hangs => std::future::pending().await,
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code.try_into().unwrap();
    Ok(response)
}
