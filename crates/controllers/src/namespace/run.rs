//! Deletes everything in a terminating namespace, whatever its kind, by discovery.

use std::sync::Arc;
use std::time::Duration;

use http::Request;

use crate::context::Context;

/// How long until a namespace that still holds something is looked at again.
const AGAIN: Duration = Duration::from_millis(250);

/// Why a namespace is not empty yet.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The API refused.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// A request could not be made.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// An answer could not be read.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Brings one terminating namespace closer to its end.
///
/// # Errors
/// [`Failed`]; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, name: String) -> Result<Option<Duration>, Failed> {
    let Some(namespace) = context.informers.namespaces.get(&name) else { return Ok(None) };
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|name| name == "kubernetes")
    {
        return Ok(None);
    }
    let mut left = 0;
    for (root, plural) in namespaced_resources(&context.clients.namespaces).await? {
        let path = format!("{root}/namespaces/{name}/{plural}");
        let list: serde_json::Value = get(
            &context.clients.namespaces,
            &format!("{path}?limit=500"),
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
        .await?;
        let items = list.get("items").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        if items == 0 {
            continue;
        }
        left += items;
        let body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        let request = Request::delete(&path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())?;
        context.clients.namespaces.request_text(request).await?;
    }
    if left > 0 {
        tracing::debug!(namespace = %name, left, "the namespace is not empty yet");
        return Ok(Some(AGAIN));
    }
    let others: Vec<&String> = finalizers.iter().filter(|name| *name != "kubernetes").collect();
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": others},
    });
    let request = Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())?;
    match context.clients.namespaces.request_text(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        other => other.map(|_| None).map_err(Failed::from),
    }
}

async fn get(client: &kube::Client, path: &str, accept: &str) -> Result<serde_json::Value, Failed> {
    let request = Request::get(path).header("accept", accept).body(Vec::new())?;
    let text = client.request_text(request).await?;
    Ok(serde_json::from_str(&text)?)
}

/// Paths and names of everything that lives in namespaces and can be deleted, one version of each.
async fn namespaced_resources(client: &kube::Client) -> Result<Vec<(String, String)>, Failed> {
    let mut found = Vec::new();
    for root in ["/api", "/apis"] {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let list = get(client, root, accept).await?;
        for group in list.get("items").and_then(serde_json::Value::as_array).into_iter().flatten() {
            let name =
                group.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or_default();
            let mut seen = std::collections::BTreeSet::new();
            for version in group.get("versions").and_then(serde_json::Value::as_array).into_iter().flatten() {
                let tag = version.get("version").and_then(serde_json::Value::as_str).unwrap_or_default();
                let path =
                    if name.is_empty() { format!("/api/{tag}") } else { format!("/apis/{name}/{tag}") };
                for resource in
                    version.get("resources").and_then(serde_json::Value::as_array).into_iter().flatten()
                {
                    let text = |field: &str| {
                        resource.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
                    };
                    let verbs = resource.get("verbs").and_then(serde_json::Value::as_array);
                    let deletes =
                        verbs.is_some_and(|verbs| verbs.iter().any(|verb| verb == "deletecollection"));
                    if text("scope") == "Namespaced" && deletes && seen.insert(text("resource").to_owned()) {
                        found.push((path.clone(), text("resource").to_owned()));
                    }
                }
            }
        }
    }
    // Events last: they may tell of the end of the others.
    found.sort_by_key(|(_, plural)| plural == "events");
    Ok(found)
}
