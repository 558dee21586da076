//! The endpoint slices of a Service. Pure (`pkg/controller/endpointslice`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use crate::view::PodView;

/// The label that names the Service of a slice.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] of this controller.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The most endpoints of a slice.
const MAX: usize = 100;

/// What is to be done for a Service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Slices to make; their names are generated.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace, whole.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete, by name.
    pub delete: Vec<String>,
}

/// Says that a Service has no address of its own; a Service's own label of that name says nothing.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The ports of endpoints.
pub type Ports = Vec<EndpointPort>;

/// Looks at a Service, the pods of its namespace and the slices it has.
pub fn plan(service: &Service, pods: &[Arc<PodView>], slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let own: Vec<&Arc<EndpointSlice>> = slices
        .iter()
        .filter(|slice| {
            slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(MANAGED_BY))
                .is_some_and(|by| by == MANAGER)
        })
        .collect();
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let Some(selector) = selector.filter(|_| !external && service.metadata.deletion_timestamp.is_none())
    else {
        plan.delete = own.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
        return plan;
    };
    let mut groups: BTreeMap<String, (Ports, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value)))
    {
        if pod.status.ipv4().is_empty() || pod.is_finished() {
            continue;
        }
        let ports = ports(service, pod);
        let name = serde_json::to_string(&ports).unwrap_or_default();
        groups.entry(name).or_insert_with(|| (ports, Vec::new())).1.push(endpoint(service, pod));
    }
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let mut free: Vec<&Arc<EndpointSlice>> = own;
    for (ports, mut endpoints) in groups.into_values() {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        let chunks: Vec<Vec<Endpoint>> = match endpoints.is_empty() {
            true => vec![Vec::new()],
            false => endpoints.chunks(MAX).map(<[Endpoint]>::to_vec).collect(),
        };
        for chunk in chunks {
            place(service, &ports, chunk, &mut free, &mut plan);
        }
    }
    plan.delete = free.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
    plan
}

/// Puts endpoints into a slice that exists, the most similar first, or into a new one.
fn place(
    service: &Service,
    ports: &Ports,
    chunk: Vec<Endpoint>,
    free: &mut Vec<&Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let wanted = slice(service, ports, chunk);
    let same = |slice: &EndpointSlice| {
        slice.endpoints == wanted.endpoints
            && slice.ports == wanted.ports
            // One that the Service has lost goes: it may say that the slice is another proxy's.
            && slice.metadata.labels == wanted.metadata.labels
    };
    if let Some(at) = free.iter().position(|slice| same(slice)) {
        free.remove(at);
        return;
    }
    let similar = free.iter().position(|slice| slice.ports == wanted.ports).or(if free.is_empty() {
        None
    } else {
        Some(0)
    });
    match similar {
        Some(at) => {
            let old = free.remove(at);
            let mut new = wanted;
            new.metadata.name = old.metadata.name.clone();
            new.metadata.generate_name = None;
            new.metadata.resource_version = old.metadata.resource_version.clone();
            plan.update.push(new);
        }
        None => plan.create.push(wanted),
    }
}

fn slice(service: &Service, ports: &Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name,
                uid: service.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
        ports: Some(ports.clone()).filter(|ports| !ports.is_empty()),
    }
}

/// The Service's ports with the numbers that they have on this pod: a named one is looked up there.
pub fn ports(service: &Service, pod: &PodView) -> Ports {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match &port.target_port {
                None => Some(port.port),
                Some(IntOrString::Int(number)) => Some(*number),
                Some(IntOrString::String(name)) => pod
                    .spec
                    .serving()
                    .flat_map(|container| &container.ports)
                    .find(|port| {
                        port.name == *name && (port.protocol == protocol || port.protocol.is_empty())
                    })
                    .map(|port| port.container_port),
            }?;
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// What a pod is behind a Service.
pub fn endpoint(service: &Service, pod: &PodView) -> Endpoint {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = pod.ready().is_some();
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let named = !pod.spec.hostname.is_empty() && Some(&pod.spec.subdomain) == service.metadata.name.as_ref();
    Endpoint {
        addresses: vec![pod.status.ipv4().to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: named.then(|| pod.spec.hostname.clone()),
        node_name: Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.metadata.name.clone()),
            namespace: Some(pod.metadata.namespace.clone()),
            uid: Some(pod.metadata.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: serde_json::Value) -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": port}]},
        }))
        .unwrap()
    }

    fn pod(ip: &str, ready: &str) -> Arc<PodView> {
        let pod = serde_json::json!({
            "metadata": {"name": format!("pod-{ip}"), "namespace": "n", "uid": ip, "labels": {"app": "web"}},
            "spec": {"nodeName": "a", "containers": [{"ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn named_ports_are_looked_up_on_the_pod() {
        let plan = plan(&service("http".into()), &[pod("10.0.0.1", "True"), pod("10.0.0.2", "False")], &[]);
        let slice = &plan.create[0];
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
        let ready: Vec<_> =
            slice.endpoints.iter().flatten().map(|e| e.conditions.as_ref().unwrap().ready).collect();
        assert_eq!(ready, [Some(true), Some(false)]);
    }

    #[test]
    fn ports_of_containers_that_run_beside_count_and_of_those_that_end_do_not() {
        let beside = |restart_policy: &str| {
            let mut pod = PodView::clone(&pod("10.0.0.1", "True"));
            pod.spec.init_containers = std::mem::take(&mut pod.spec.containers);
            pod.spec.init_containers[0].restart_policy = restart_policy.to_owned();
            let slice = plan(&service("http".into()), &[Arc::new(pod)], &[]).create.remove(0);
            slice.ports.map(|ports| ports[0].port)
        };
        assert_eq!(beside("Always"), Some(Some(8080)));
        assert_eq!(beside(""), None);
    }

    #[test]
    fn services_lead_to_pods_by_ipv4_whatever_comes_first() {
        let dual = |ips: &[&str]| {
            let mut pod = PodView::clone(&pod(ips[0], "True"));
            pod.status.pod_ips = ips.iter().map(|&ip| crate::view::PodIpView { ip: ip.to_owned() }).collect();
            Arc::new(pod)
        };
        let pods = [dual(&["fd00::2", "10.0.0.2"]), dual(&["fd00::3"])];
        let slice = plan(&service(80.into()), &pods, &[]).create.remove(0);
        let addresses: Vec<_> = slice.endpoints.iter().flatten().map(|e| e.addresses[0].as_str()).collect();
        assert_eq!(addresses, ["10.0.0.2"]);
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let pods = [pod("10.0.0.1", "True")];
        let mut made = plan(&service(80.into()), &pods, &[]).create.remove(0);
        made.metadata.name = Some("web-x".to_owned());
        let have = [Arc::new(made)];
        assert_eq!(plan(&service(80.into()), &pods, &have), Plan::default());
        let more = [pod("10.0.0.1", "True"), pod("10.0.0.2", "True")];
        let changed = plan(&service(80.into()), &more, &have);
        assert_eq!((changed.update.len(), changed.create.len(), changed.delete.len()), (1, 0, 0));
    }

    #[test]
    fn slices_have_the_labels_of_their_service_and_lose_them_with_it() {
        let pods = [pod("10.0.0.1", "True")];
        let mut labelled = service(80.into());
        let theirs = ["service.kubernetes.io/service-proxy-name", HEADLESS]
            .map(|key| (key.to_owned(), "x".to_owned()));
        labelled.metadata.labels = Some(theirs.into());
        let mut made = plan(&labelled, &pods, &[]).create.remove(0);
        let keys: Vec<_> = made.metadata.labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, [MANAGED_BY, SERVICE, "service.kubernetes.io/service-proxy-name"]);
        made.metadata.name = Some("web-x".to_owned());
        let changed = plan(&service(80.into()), &pods, &[Arc::new(made)]);
        assert_eq!((changed.update.len(), changed.create.len(), changed.delete.len()), (1, 0, 0));
        assert_eq!(changed.update[0].metadata.labels.as_ref().map(BTreeMap::len), Some(2));
    }

    #[test]
    fn a_hundred_endpoints_fill_a_slice() {
        let pods: Vec<_> = (0..150).map(|n| pod(&format!("10.0.{}.{}", n / 100, n % 100), "True")).collect();
        assert_eq!(plan(&service(80.into()), &pods, &[]).create.len(), 2);
    }
}
