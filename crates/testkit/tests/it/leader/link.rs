//! One lease on a server of a few lines, and the links of its clients, which can fail in every way.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How a client's requests fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// They are answered.
    Up,
    /// They come to nothing, at once.
    Fails,
    /// They never come to the server.
    Hangs,
    /// They come to the server, and its answers are lost.
    LosesAnswers,
}

/// A server that knows one lease, and writes it only where its version is the client's.
#[derive(Default)]
pub struct LeaseServer {
    lease: Mutex<Option<Value>>,
    /// Somebody writes between the next read and the write that follows it.
    pub strangers: Mutex<u32>,
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": reason, "metadata": {}});
    (code, status)
}

fn write(lease: &mut Option<Value>, mut new: Value) -> (u16, Value) {
    let version =
        |lease: &Value| lease["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let next = lease.as_ref().map_or(1, version) + 1;
    new["metadata"]["resourceVersion"] = next.to_string().into();
    *lease = Some(new.clone());
    (200, new)
}

impl LeaseServer {
    pub fn lease(&self) -> Value {
        self.lease.lock().clone().unwrap()
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut lease = self.lease.lock();
        match (method, lease.clone()) {
            (&Method::GET, None) => status(404, "NotFound"),
            (&Method::GET, Some(now)) => {
                let mut strangers = self.strangers.lock();
                if *strangers > 0 {
                    *strangers -= 1;
                    let mut theirs = now.clone();
                    theirs["spec"]["strategy"] = "OldestEmulationVersion".into();
                    write(&mut lease, theirs);
                }
                (200, now)
            }
            (&Method::POST, None) => write(&mut lease, serde_json::from_slice(body).unwrap()),
            (&Method::POST, Some(_)) => status(409, "AlreadyExists"),
            (&Method::PUT, Some(now)) => {
                let new: Value = serde_json::from_slice(body).unwrap();
                let same = new["metadata"]["resourceVersion"] == now["metadata"]["resourceVersion"];
                if same { write(&mut lease, new) } else { status(409, "Conflict") }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A client of the server over a link.
pub fn client(server: Arc<LeaseServer>, link: Arc<Mutex<Link>>) -> kube::Client {
    client::connect::local(tower::service_fn(move |request: Request<Body>| {
        let (server, link) = (server.clone(), link.clone());
        async move {
            let before = *link.lock();
            match before {
                Link::Fails => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
                Link::Hangs => std::future::pending::<()>().await,
                Link::Up | Link::LosesAnswers => {}
            }
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (code, answer) = server.answer(&parts.method, &body);
            if before == Link::LosesAnswers {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Full::new(bytes::Bytes::from(answer.to_string())));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            Ok::<_, std::io::Error>(response)
        }
    }))
}
