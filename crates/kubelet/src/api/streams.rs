//! Exec, attach and port-forward: the runtime serves them on loopback; the two connections are joined.

use bytes::Bytes;
use cri::v1 as wire;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Body, Refusal, Server, full, ports, query};
use crate::pods::Handle;
use crate::pods::observed::{Instance, State};

/// Passes a request on to the runtime.
pub async fn handle(
    server: &Server,
    request: Request<Incoming>,
    parts: &[&str],
) -> Result<Response<Body>, Refusal> {
    let [verb, namespace, name, rest @ ..] = parts else {
        return Err(Refusal::not_found("404 page not found"));
    };
    let handle = server
        .pods
        .find(namespace, name)
        .ok_or_else(|| Refusal::not_found(format!("pod \"{name}_{namespace}\" not found")))?;
    let params = query(&request);
    let url = match *verb {
        "portForward" => {
            let ports = ports::asked(request.headers(), &params)?;
            port_forward(server, &handle, ports).await?
        }
        verb => {
            let container = rest.last().copied().unwrap_or_default();
            command(server, &handle, verb, container, &params).await?
        }
    };
    let url: Uri = url
        .parse()
        .map_err(|_| Refusal::internal(format!("the runtime's streaming address {url:?} is no URL")))?;
    forward(request, &url).await
}

/// The running container of that name.
fn running(handle: &Handle, name: &str) -> Result<Instance, Refusal> {
    let observed = handle.observed.lock().clone();
    let found = observed.instances(name).find(|container| container.state == State::Running).cloned();
    found.ok_or_else(|| Refusal::not_found(format!("container not found (\"{name}\")")))
}

async fn command(
    server: &Server,
    handle: &Handle,
    verb: &str,
    name: &str,
    params: &[(String, String)],
) -> Result<String, Refusal> {
    let id = running(handle, name)?.id;
    let flag =
        |name: &str| params.iter().any(|(key, value)| key == name && matches!(value.as_str(), "1" | "true"));
    let (tty, stdin, stdout, stderr) = (flag("tty"), flag("input"), flag("output"), flag("error"));
    if !stdin && !stdout && !stderr {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    // A terminal has one output.
    let stderr = stderr && !tty;
    let runtime = &server.shared.runtime;
    let answer = if verb == "exec" {
        let cmd = params.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
        runtime.exec(wire::ExecRequest { container_id: id, cmd, tty, stdin, stdout, stderr }).await
    } else {
        runtime.attach(wire::AttachRequest { container_id: id, stdin, tty, stdout, stderr }).await
    };
    answer.map_err(|status| Refusal::internal(status.message()))
}

async fn port_forward(server: &Server, handle: &Handle, ports: Vec<i32>) -> Result<String, Refusal> {
    let sandbox = handle.observed.lock().sandbox().map(|sandbox| sandbox.id.clone());
    let sandbox = sandbox.ok_or_else(|| Refusal::not_found("pod not found"))?;
    let answer = server.shared.runtime.port_forward(&sandbox, ports).await;
    answer.map_err(|status| Refusal::internal(status.message()))
}

async fn forward(mut request: Request<Incoming>, url: &Uri) -> Result<Response<Body>, Refusal> {
    let authority =
        url.authority().ok_or_else(|| Refusal::internal("the runtime's streaming address has no host"))?;
    let stream = TcpStream::connect(authority.as_str()).await.map_err(Refusal::internal)?;
    super::undelayed(&stream);
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(Refusal::internal)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the runtime ended");
        }
    });
    let client = hyper::upgrade::on(&mut request);
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let mut onward = Request::builder()
        .method(request.method())
        .uri(target)
        .body(Full::new(Bytes::new()))
        .map_err(Refusal::internal)?;
    for (name, value) in request.headers() {
        if !matches!(name.as_str(), "host" | "authorization" | "content-length" | "transfer-encoding") {
            onward.headers_mut().append(name.clone(), value.clone());
        }
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(Refusal::internal)?;
    onward.headers_mut().insert(header::HOST, host);
    let mut response = sender.send_request(onward).await.map_err(Refusal::internal)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = response.into_parts();
        let body = body.map_err(std::io::Error::other).boxed_unsync();
        return Ok(Response::from_parts(parts, body));
    }
    let backend = hyper::upgrade::on(&mut response);
    let headers = response.headers().clone();
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a connection could not be joined"),
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(%error, "a joined connection ended");
        }
    });
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    Ok(answer)
}
