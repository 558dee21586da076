//! What an object stands for on the network: the address of a pod, one of the endpoints of a service, a kubelet.

use std::net::IpAddr;
use std::sync::Arc;

use schema::{Object, Value};

use super::super::resource::Call;
use crate::kubelet_client::{KubeletAddress, address_of};
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// Where a request goes.
pub(super) struct Location {
    /// `HOST:PORT`
    pub address: String,
    /// The address alone.
    pub ip: IpAddr,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Set when it is a kubelet, which knows the API server by its certificate.
    pub kubelet: Option<KubeletAddress>,
}

/// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'n> {
    pub tls: bool,
    pub name: &'n str,
    pub port: &'n str,
}

impl<'n> Asked<'n> {
    /// Reads the name of the path; `None` when it is no such form.
    pub fn parse(id: &'n str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (tls, name, port) = match parts.as_slice() {
            [name] => (false, *name, ""),
            [name, port] => (false, *name, *port),
            ["http" | "", name, port] => (false, *name, *port),
            ["https", name, port] => (true, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { tls, name, port })
    }
}

/// Finds where the request of a call goes.
///
/// # Errors
/// 400, 404 and 503.
pub(super) async fn find(call: &Call<'_>) -> Result<Location> {
    let id = call.authorized.info().name.as_str();
    let kind = call.resource.kind.to_lowercase();
    let asked =
        Asked::parse(id).ok_or_else(|| ApiError::bad_request(format!("invalid {kind} request {id:?}")))?;
    call.core.consistent().await?;
    let object = read(call, call.resource, asked.name)?
        .ok_or_else(|| ApiError::not_found("", &call.resource.plural, asked.name))?;
    match call.resource.plural.as_str() {
        "pods" => pod(&object, &asked),
        "services" => service(call, &object, &asked),
        _ => node(&object, &asked).await,
    }
}

fn read(call: &Call<'_>, resource: &Arc<Resource>, name: &str) -> Result<Option<Object>> {
    let (codec, cache) = call.core.codec(resource)?;
    let namespace = &call.authorized.info().namespace;
    let key = if resource.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
    cache.get(&key).map(|entry| codec.object(&entry).map_err(ApiError::internal)).transpose()
}

/// An address of the pod network: the API server is nobody's way to its own host or its neighbours'.
fn reachable(text: &str) -> Result<IpAddr> {
    let refused = || ApiError::bad_request("address not allowed");
    let ip: IpAddr = text.parse().map_err(|_| refused())?;
    let barred = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80,
    };
    if barred || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return Err(refused());
    }
    Ok(ip)
}

fn at(ip: IpAddr, port: u16, tls: bool) -> Location {
    Location { address: std::net::SocketAddr::new(ip, port).to_string(), ip, tls, kubelet: None }
}

fn number(port: &str, of: &str) -> Result<u16> {
    port.parse().map_err(|_| ApiError::bad_request(format!("{port:?} is no port of {of}")))
}

fn pod(pod: &Object, asked: &Asked<'_>) -> Result<Location> {
    let ip = reachable(pod.str_at(&["status", "podIP"]).unwrap_or_default())?;
    let port = match asked.port {
        "" => first_port(pod).unwrap_or(if asked.tls { 443 } else { 80 }),
        port => number(port, asked.name)?,
    };
    Ok(at(ip, port, asked.tls))
}

/// The first port that a container names.
fn first_port(pod: &Object) -> Option<u16> {
    let containers = pod.list_at(&["spec", "containers"])?;
    let ports = containers.iter().filter_map(|container| container.child("ports")?.as_list()?.first());
    ports.filter_map(|port| port.child("containerPort")?.as_int()).find_map(|port| u16::try_from(port).ok())
}

fn service(call: &Call<'_>, service: &Object, asked: &Asked<'_>) -> Result<Location> {
    let (name, id) = (asked.name, &call.authorized.info().name);
    let text = |value: &'_ Value, field: &str| {
        value.child(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut wanted = asked.port.to_owned();
    if let Ok(number) = asked.port.parse::<i64>() {
        let ports = service.list_at(&["spec", "ports"]).unwrap_or_default();
        let port = ports.iter().find(|port| port.child("port").and_then(Value::as_int) == Some(number));
        wanted = port.map(|port| text(port, "name")).ok_or_else(|| {
            ApiError::unavailable(format!("no service port {number} found for service {name:?}"))
        })?;
    }
    let registry = call.core.registry();
    let slices = registry.preferred("discovery.k8s.io", "endpointslices");
    let mut candidates: Vec<(String, u16)> = Vec::new();
    if let Some(slices) = slices {
        let (codec, cache) = call.core.codec(slices)?;
        for entry in cache.list(service.namespace()).1 {
            let slice = codec.object(&entry).map_err(ApiError::internal)?;
            if slice.label("kubernetes.io/service-name") == Some(name) {
                candidates.extend(endpoints(call, &slice, &wanted)?);
            }
        }
    }
    let chosen = call.core.random.below(candidates.len() as u64);
    let chosen = usize::try_from(chosen).ok().and_then(|index| candidates.get(index));
    let (ip, port) =
        chosen.ok_or_else(|| ApiError::unavailable(format!("no endpoints available for service {id:?}")))?;
    Ok(at(reachable(ip)?, *port, asked.tls))
}

/// The endpoints of a slice that are ready, with the port of this name. Only addresses that are those of pods count:
/// who may write slices must not make the API server call whom they like.
fn endpoints(call: &Call<'_>, slice: &Object, wanted: &str) -> Result<Vec<(String, u16)>> {
    let ports = slice.list_at(&["ports"]).unwrap_or_default();
    let named = |port: &&Value| port.child("name").and_then(Value::as_str).unwrap_or_default() == wanted;
    let number = ports.iter().find(named).and_then(|port| port.child("port")?.as_int());
    let Some(port) = number.and_then(|number| u16::try_from(number).ok()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for endpoint in slice.list_at(&["endpoints"]).unwrap_or_default() {
        let conditions = endpoint.child("conditions");
        if conditions.and_then(|c| c.child("ready")).and_then(Value::as_bool) == Some(false) {
            continue;
        }
        let addresses = endpoint.child("addresses").and_then(Value::as_list).unwrap_or_default();
        let Some(ip) = addresses.first().and_then(Value::as_str) else { continue };
        if is_pod(call, endpoint, ip)? {
            found.push((ip.to_owned(), port));
        }
    }
    Ok(found)
}

/// Whether an endpoint names a pod that has this address.
fn is_pod(call: &Call<'_>, endpoint: &Value, ip: &str) -> Result<bool> {
    let target = |field: &str| endpoint.child("targetRef")?.child(field)?.as_str();
    let (Some("Pod"), Some(name)) = (target("kind"), target("name")) else { return Ok(false) };
    let registry = call.core.registry();
    let pods = registry.preferred("", "pods").ok_or_else(|| ApiError::internal("pods are not served"))?;
    let Some(pod) = read(call, pods, name)? else { return Ok(false) };
    let ips = pod.list_at(&["status", "podIPs"]).unwrap_or_default();
    let listed = ips.iter().any(|own| own.child("ip").and_then(Value::as_str) == Some(ip));
    Ok(listed || pod.str_at(&["status", "podIP"]) == Some(ip))
}

async fn node(node: &Object, asked: &Asked<'_>) -> Result<Location> {
    let kubelet = address_of(node).ok_or_else(|| {
        ApiError::internal(format!("no preferred addresses found for node {:?}", asked.name))
    })?;
    let port = if asked.port.is_empty() { kubelet.port } else { number(asked.port, asked.name)? };
    let host = kubelet.host.clone();
    let unknown = |error: std::io::Error| ApiError::bad_request(format!("{host}: {error}"));
    let mut found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(unknown)?;
    let ip = found.next().map(|address| address.ip());
    let ip = reachable(&ip.map(|ip| ip.to_string()).unwrap_or_default())?;
    let mut location = at(ip, port, asked.tls);
    if port == kubelet.port {
        location.kubelet = Some(kubelet);
    }
    Ok(location)
}
