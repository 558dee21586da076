//! What nodes and pods use now: the resource metrics API (`metrics.k8s.io`), which elsewhere is an add-on that asks every
//! kubelet every few seconds. Here they are asked when somebody wants to know, and nobody otherwise.
//!
//! Processor time is a rate between two looks. What the last request saw is the first one, if it is not too old; else
//! there are two, a second apart.

mod sample;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::resource::Call;
use crate::answer::plain_object;
use crate::body::Body;
use crate::cache::Entry;
use crate::core::Core;
use crate::kubelet_client::{KubeletAddress, address_of};
use crate::negotiate;
use crate::read::{get, select::Selection};
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use sample::Sample;

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";

/// How long one kubelet may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far two looks are apart at least.
const LEAST: Duration = Duration::from_secs(1);
/// A look that is older says nothing of now.
const OLDEST: Duration = Duration::from_secs(120);
/// How many kubelets are asked at once.
const AT_ONCE: usize = 64;
/// The longest answer of a kubelet.
const LONGEST: usize = 64 << 20;

/// What the last look at each node showed.
#[derive(Default)]
pub struct Samples(Mutex<HashMap<String, Arc<Sample>>>);

/// Answers `get` and `list` of nodes' and pods' metrics.
///
/// # Errors
/// 404 for what is not there, or has not been measured yet.
pub async fn handle(call: &Call<'_>) -> Result<Response<Body>> {
    let info = call.authorized.info();
    let output = negotiate::accept(&call.parts.headers, false)?;
    let selection = Selection::read(info, call.resource)?;
    get::fresh_enough(call.core, info.param("resourceVersion").filter(|version| *version == "0")).await?;
    let mut items = if call.resource.plural == "nodes" {
        nodes(call.core, &selection).await?
    } else {
        pods(call.core, &selection).await?
    };
    if info.verb == "get" {
        let Some(item) = items.pop() else {
            let named = if call.resource.namespaced { format!("{}/", info.namespace) } else { String::new() };
            let plural = call.resource.kind.to_lowercase();
            return Err(ApiError::not_found(GROUP, &plural, &format!("{named}{}", info.name)));
        };
        let object = decode(&call.resource.ty, call.resource, &call.resource.kind, item)?;
        return plain_object(&object, output.encoding, 200);
    }
    let resource = call.resource;
    let list = schema::catalogue::builtin()
        .kind(&resource.group, &resource.version, &resource.list_kind)
        .ok_or_else(|| ApiError::internal("lists of metrics have no type"))?;
    let list = decode(&list.ty, resource, &resource.list_kind, json!({"metadata": {}, "items": items}))?;
    plain_object(&list, output.encoding, 200)
}

fn decode(
    ty: &schema::types::StructRef,
    resource: &Resource,
    kind: &str,
    mut value: Value,
) -> Result<schema::Object> {
    if let Value::Object(map) = &mut value {
        map.insert("kind".to_owned(), json!(kind));
        map.insert("apiVersion".to_owned(), json!(resource.api_version()));
    }
    let decoded = schema::json::decode(ty, value.to_string().as_bytes()).map_err(ApiError::internal)?;
    Ok(decoded.object)
}

async fn nodes(core: &Arc<Core>, selection: &Selection) -> Result<Vec<Value>> {
    let cache = core.cache("", "nodes").ok_or_else(|| ApiError::internal("nodes are not served"))?;
    let (_, mut entries) = cache.list("");
    entries.retain(|entry| selection.matches(entry));
    let looks = look_at(core, entries.iter().map(|entry| entry.name().to_owned()).collect()).await?;
    let measured = |entry: &Arc<Entry>| {
        let (before, now) = looks.get(entry.name())?;
        let used = now.node.since(&before.node, now.at - before.at)?;
        Some(item(entry, now, now.at - before.at, ("usage", used.to_json())))
    };
    Ok(entries.iter().filter_map(measured).collect())
}

async fn pods(core: &Arc<Core>, selection: &Selection) -> Result<Vec<Value>> {
    let registry = core.registry();
    let resource = registry.preferred("", "pods").ok_or_else(|| ApiError::internal("pods are not served"))?;
    let at = resource.rules.selectable.iter().position(|(name, _)| *name == "spec.nodeName");
    let node = |entry: &Arc<Entry>| at.and_then(|at| entry.fields.get(at)).map(ToString::to_string);
    let cache = core.cache("", "pods").ok_or_else(|| ApiError::internal("pods are not served"))?;
    let (_, mut entries) = cache.list(selection.namespace());
    entries.retain(|entry| selection.matches(entry));
    let mut names: Vec<String> = entries.iter().filter_map(node).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let looks = look_at(core, names).await?;
    let measured = |entry: &Arc<Entry>| {
        let (before, now) = looks.get(&node(entry)?)?;
        let window = now.at - before.at;
        let containers = now.containers(entry.namespace(), entry.name()).map(|(name, used)| {
            let earlier = before.container(entry.namespace(), entry.name(), name).unwrap_or_default();
            Some(json!({"name": name, "usage": used.since(&earlier, window)?.to_json()}))
        });
        let containers: Vec<Value> = containers.collect::<Option<_>>()?;
        (!containers.is_empty()).then(|| item(entry, now, window, ("containers", containers.into())))
    };
    Ok(entries.iter().filter_map(measured).collect())
}

fn item(entry: &Entry, now: &Sample, window: Duration, (field, value): (&str, Value)) -> Value {
    let time = now.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let labels: BTreeMap<&str, &str> = entry.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    let mut metadata = json!({"name": entry.name(), "creationTimestamp": time});
    if let Value::Object(map) = &mut metadata {
        if !entry.namespace().is_empty() {
            map.insert("namespace".to_owned(), json!(entry.namespace()));
        }
        if !labels.is_empty() {
            map.insert("labels".to_owned(), json!(labels));
        }
    }
    json!({"metadata": metadata, "timestamp": time, "window": format!("{}s", window.as_secs_f64()), field: value})
}

/// Two looks at each node, the last one now. Nodes that do not answer are left out.
async fn look_at(
    core: &Arc<Core>,
    nodes: Vec<String>,
) -> Result<HashMap<String, (Arc<Sample>, Arc<Sample>)>> {
    let cache = core.cache("", "nodes").ok_or_else(|| ApiError::internal("nodes are not served"))?;
    let registry = core.registry();
    let resource =
        registry.preferred("", "nodes").ok_or_else(|| ApiError::internal("nodes are not served"))?;
    let (codec, _) = core.codec(resource)?;
    let mut known = Vec::new();
    for name in nodes {
        let Some(entry) = cache.get(&name) else { continue };
        let node = codec.object(&entry).map_err(ApiError::internal)?;
        known.extend(address_of(&node).map(|address| (name, address)));
    }
    let looks = futures::stream::iter(known).map(|(name, address)| async move {
        match twice(core, &name, &address).await {
            Ok(both) => Some((name, both)),
            Err(why) => {
                tracing::warn!(node = name, why, "a node does not tell what it uses, and is left out");
                None
            }
        }
    });
    let looks: HashMap<_, _> = looks.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    // Nodes come and go.
    core.usage.0.lock().retain(|name, _| cache.get(name).is_some());
    Ok(looks)
}

async fn twice(
    core: &Core,
    name: &str,
    address: &KubeletAddress,
) -> std::result::Result<(Arc<Sample>, Arc<Sample>), String> {
    let age = |sample: &Sample| core.clock.monotonic().saturating_sub(sample.at);
    let kept = core.usage.0.lock().get(name).cloned().filter(|sample| age(sample) <= OLDEST);
    let before = match kept {
        Some(sample) => sample,
        None => Arc::new(once(core, address).await?),
    };
    tokio::time::sleep(LEAST.saturating_sub(age(&before))).await;
    let now = Arc::new(once(core, address).await?);
    core.usage.0.lock().insert(name.to_owned(), now.clone());
    Ok((before, now))
}

async fn once(core: &Core, address: &KubeletAddress) -> std::result::Result<Sample, String> {
    let ask = async {
        let request = Request::get("/stats/summary?only_cpu_and_memory=true")
            .header(header::HOST, "kubelet")
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let connection = core.kubelets.connect(address).await.map_err(|error| error.to_string())?;
        let response = connection.send(request).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("the kubelet answers {}", response.status()));
        }
        let bytes = crate::https::read(response.into_body(), LONGEST).await.map_err(|e| e.to_string())?;
        Sample::read(&bytes, core.clock.monotonic(), core.clock.now()).map_err(|error| error.to_string())
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}
