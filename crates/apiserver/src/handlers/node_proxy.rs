//! What only the kubelet can answer: logs, exec, attach, port-forward. The request is passed on, and where it
//! switches protocols (WebSocket or SPDY) the two connections are joined.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use schema::{Object, Value};

use super::pod_logs::LogOptions;
use super::resource::Call;
use super::subresource::ConnectionParts;
use crate::body::{Body, BoxError};
use crate::https::CallError;
use crate::kubelet_client::{KubeletAddress, address_of};
use crate::read::get;
use crate::status::{ApiError, Result};

/// Passes a request on to the kubelet of the pod.
///
/// # Errors
/// 400 when no container is chosen, 500 when the kubelet cannot be reached.
pub async fn handle(call: &Call<'_>, connection: ConnectionParts, _body: Body) -> Result<Response<Body>> {
    let info = call.authorized.info();
    if call.resource.plural != "pods" {
        return Err(ApiError::wrong_method());
    }
    let entry = get::entry(call.core, call.authorized, call.resource).await?;
    let (codec, _) = call.core.codec(call.resource)?;
    let pod = codec.object(&entry).map_err(ApiError::internal)?;
    let is_log = info.subresource == "log";
    let target = target(call, &pod)?;
    if is_log && node_of(&pod).is_empty() {
        // What runs nowhere has said nothing.
        let mut nothing = Response::new(crate::body::full(Bytes::new()));
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    }
    let address = kubelet_of(call, &pod)?;
    let upgrade = connection.upgrade.filter(|_| wants_upgrade(&call.parts.headers));
    if !is_log && upgrade.is_none() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let request = forwarded(call, &target, upgrade.is_some())?;
    let fail = |error: CallError| {
        let why = match is_log {
            true => format!("Get \"https://{}{target}\": {error}", address.host_port()),
            false => format!("error dialing backend: {error}"),
        };
        ApiError::with_code(500, "", why)
    };
    let backend = call.core.kubelets.connect(&address).await.map_err(fail)?;
    let response = backend.send(request).await.map_err(fail)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            return Err(ApiError::internal(
                "the kubelet switched protocols and the client did not ask for it",
            ));
        };
        return Ok(join(upgrade, response));
    }
    relay(response).await
}

async fn relay(response: Response<hyper::body::Incoming>) -> Result<Response<Body>> {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        let text = crate::https::read(body, 1 << 20).await.map_err(ApiError::internal)?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let reason = if parts.status == StatusCode::NOT_FOUND { "NotFound" } else { "BadRequest" };
        return Err(match parts.status.as_u16() {
            code if code >= 500 => ApiError::internal(text),
            code => ApiError::with_code(code, reason, text),
        });
    }
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONNECTION);
    Ok(Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync()))
}

/// Answers with the kubelet's 101 and then copies bytes both ways until either side ends.
pub(super) fn join(
    client: hyper::upgrade::OnUpgrade,
    mut backend: Response<hyper::body::Incoming>,
) -> Response<Body> {
    let backend_upgrade = hyper::upgrade::on(&mut backend);
    let headers = backend.headers().clone();
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend_upgrade) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be joined");
                return;
            }
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(%error, "a joined connection ended");
        }
    });
    let mut response = Response::new(crate::body::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some()
}

/// The pod's node; empty while it has none.
fn node_of(pod: &Object) -> &str {
    pod.str_at(&["spec", "nodeName"]).unwrap_or_default()
}

fn kubelet_of(call: &Call<'_>, pod: &Object) -> Result<KubeletAddress> {
    let name = node_of(pod);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    }
    let registry = call.core.registry();
    let nodes = registry.preferred("", "nodes").ok_or_else(|| ApiError::internal("nodes are not served"))?;
    let (codec, cache) = call.core.codec(nodes)?;
    let entry = cache.get(name).ok_or_else(|| ApiError::not_found("", "nodes", name))?;
    let node = codec.object(&entry).map_err(ApiError::internal)?;
    address_of(&node)
        .ok_or_else(|| ApiError::internal(format!("no preferred addresses found for node {name:?}")))
}

/// The container that is asked for, or the only one there is.
fn container<'p>(call: &'p Call<'_>, pod: &'p Object) -> Result<&'p str> {
    let names = |list: &str| -> Vec<&'p str> {
        let containers = pod.list_at(&["spec", list]).unwrap_or_default();
        containers.iter().filter_map(|container| container.child("name").and_then(Value::as_str)).collect()
    };
    let main = names("containers");
    let all = || [names("initContainers"), main.clone(), names("ephemeralContainers")].concat();
    match call.authorized.info().param("container").unwrap_or_default() {
        "" => match main.as_slice() {
            [only] => Ok(only),
            [] => Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}",
                pod.name()
            ))),
            _ => Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                all().join(" ")
            ))),
        },
        asked if all().contains(&asked) => Ok(asked),
        asked => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {}", pod.name()))),
    }
}

/// The kubelet's path and query for a request.
fn target(call: &Call<'_>, pod: &Object) -> Result<String> {
    let info = call.authorized.info();
    let (namespace, name) = (pod.namespace(), pod.name());
    let mut query: Vec<(String, String)> = Vec::new();
    let path = match info.subresource.as_str() {
        "log" => {
            query.extend(LogOptions::of(info, name, call.core.settings.gates)?.query());
            format!("/containerLogs/{namespace}/{name}/{}", container(call, pod)?)
        }
        "portforward" => {
            let ports: Vec<&str> = info
                .query
                .iter()
                .filter(|(key, _)| key == "ports")
                .map(|(_, value)| value.as_str())
                .collect();
            if !ports.is_empty() {
                query.push(("port".to_owned(), ports.join(",")));
            }
            format!("/portForward/{namespace}/{name}")
        }
        sub => {
            for (key, value) in &info.query {
                let renamed = match key.as_str() {
                    "stdin" => "input",
                    "stdout" => "output",
                    "stderr" => "error",
                    "container" => continue,
                    other => other,
                };
                let value = if value == "true" && key != "command" { "1" } else { value };
                query.push((renamed.to_owned(), value.to_owned()));
            }
            format!("/{sub}/{namespace}/{name}/{}", container(call, pod)?)
        }
    };
    let query: Vec<_> = query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    Ok(if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) })
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn forwarded(call: &Call<'_>, target: &str, upgrade: bool) -> Result<Request<Full<Bytes>>> {
    let method = if upgrade { call.parts.method.clone() } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "kubelet")
        .body(Full::new(Bytes::new()))
        .map_err(ApiError::internal)?;
    if upgrade {
        for (name, value) in &call.parts.headers {
            let text = name.as_str();
            let wanted = text.starts_with("sec-websocket-")
                || text == "upgrade"
                || text.starts_with("x-stream-protocol-version");
            if wanted {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    Ok(request)
}
