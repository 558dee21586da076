//! The objects that every cluster has. They are made through the pipeline, by the API server as itself.

use std::net::IpAddr;
use std::sync::Arc;

use auth::user::{MASTERS, User};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::body;
use crate::core::Core;
use crate::pipeline::authenticate::Peer;
use crate::pipeline::serve;
use crate::start::StartError;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The API server's own user.
pub fn own_user() -> Peer {
    Peer::InProcess(Arc::new(User::known("system:apiserver", &[MASTERS])))
}

/// Makes what is missing, and renews where this API server is found.
///
/// # Errors
/// [`StartError::Bootstrap`], naming the object.
pub async fn run(
    core: &Arc<Core>,
    advertise: (IpAddr, u16),
    initial: &[(String, Value)],
) -> Result<(), StartError> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(core, "/api/v1/namespaces", &namespace).await?;
    }
    for (name, value, what) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "cluster critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "node critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": format!("Used for system {what}"),
        });
        ensure(core, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    }
    for (path, object) in initial {
        ensure(core, path, object).await?;
    }
    own_service(core, advertise).await
}

/// The Service `kubernetes`, behind which this API server is.
async fn own_service(core: &Arc<Core>, (address, port): (IpAddr, u16)) -> Result<(), StartError> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": core.allocators.first_ip().to_string(),
            "ports": [{"name": "https", "port": 443, "targetPort": port, "protocol": "TCP"}],
        },
    });
    ensure(core, "/api/v1/namespaces/default/services", &service).await?;
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    replace(core, "/api/v1/namespaces/default/endpoints", &endpoints).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    replace(core, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await
}

async fn ensure(core: &Arc<Core>, collection: &str, object: &Value) -> Result<(), StartError> {
    // Asked for first: to make it once more could fail for what the one that is there holds.
    let path = format!("{collection}/{}", name_of(object));
    if send(core, Method::GET, &path, &Value::Null).await.0 == 200 {
        return Ok(());
    }
    match send(core, Method::POST, collection, object).await {
        (201 | 409, _) => Ok(()),
        (_, message) => Err(failed(collection, object, message)),
    }
}

async fn replace(core: &Arc<Core>, collection: &str, object: &Value) -> Result<(), StartError> {
    if send(core, Method::POST, collection, object).await.0 == 201 {
        return Ok(());
    }
    let path = format!("{collection}/{}", name_of(object));
    match send(core, Method::PUT, &path, object).await {
        (200, _) => Ok(()),
        (_, message) => Err(failed(collection, object, message)),
    }
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn failed(collection: &str, object: &Value, message: String) -> StartError {
    StartError::Bootstrap { path: format!("{collection}/{}", name_of(object)), message }
}

/// Sends a request through the pipeline as the API server itself. Returns the code, and the message of a failure.
pub async fn send(core: &Arc<Core>, method: Method, path: &str, object: &Value) -> (u16, String) {
    send_as(core, method, path, "application/json", object).await
}

/// The same with a body of another type: for patches.
pub async fn send_as(
    core: &Arc<Core>,
    method: Method,
    path: &str,
    media_type: &str,
    object: &Value,
) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, media_type)
        .header(http::header::USER_AGENT, "kube-apiserver")
        .body(body::full(Bytes::from(object.to_string())));
    let request = match request {
        Ok(request) => request,
        Err(error) => return (500, error.to_string()),
    };
    let response = Box::pin(serve(core, &own_user(), request)).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let message = bytes.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let message = message.and_then(|status| Some(status.get("message")?.as_str()?.to_owned()));
    (code, message.unwrap_or_default())
}
