//! The `Endpoints` of a Service that selects pods. Pure (`pkg/controller/endpoint`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use kube::api::ObjectMeta;

use super::subsets::{Pair, pack, unpack};
use crate::endpointslice::plan::{endpoint, ports};
use crate::view::PodView;

/// The most addresses that are told.
const MAX: usize = 1000;
/// Says that there are more than are told.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What the `Endpoints` must be, if they are to be others than they are.
pub fn plan(service: &Service, pods: &[Arc<PodView>], current: Option<&Endpoints>) -> Option<Endpoints> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") || service.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let selects = |pod: &&Arc<PodView>| {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
    };
    let mut pairs: Vec<Pair> = pods.iter().filter(selects).flat_map(|pod| of_pod(service, pod)).collect();
    let is_over = truncate(&mut pairs);
    let subsets = Some(pack(pairs)).filter(|subsets| !subsets.is_empty());

    let mut metadata = ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    if let Some(current) = current {
        metadata = current.metadata.clone();
        metadata.managed_fields = None;
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    metadata.labels = Some(labels);
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if is_over {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());

    let wanted = Endpoints { metadata, subsets };
    let is_right = current.is_some_and(|current| {
        current.metadata.labels == wanted.metadata.labels
            && current.metadata.annotations == wanted.metadata.annotations
            && same(current.subsets.as_deref(), wanted.subsets.as_deref())
    });
    (!is_right).then_some(wanted)
}

/// Whether this controller made them, or is to look after them.
pub fn is_own(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|by| by == MANAGED_BY.1)
}

/// Whether a component keeps its leader's name in them.
pub fn elects(endpoints: &Endpoints) -> bool {
    const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
    endpoints.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER))
}

/// Whether they say the same, in whatever order, and whichever version of a pod they name.
fn same(old: Option<&[EndpointSubset]>, new: Option<&[EndpointSubset]>) -> bool {
    let form = |subsets: Option<&[EndpointSubset]>| {
        let mut pairs = unpack(subsets.unwrap_or_default());
        for target in pairs.iter_mut().filter_map(|pair| pair.address.target_ref.as_mut()) {
            target.resource_version = None;
        }
        pack(pairs)
    };
    form(old) == form(new)
}

fn of_pod(service: &Service, pod: &PodView) -> Vec<Pair> {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let is_going = pod.metadata.deletion_timestamp.is_some();
    if pod.status.ipv4().is_empty() || pod.is_finished() || (is_going && !publish) {
        return Vec::new();
    }
    let told = endpoint(service, pod);
    let address = EndpointAddress {
        ip: pod.status.ipv4().to_owned(),
        hostname: told.hostname,
        node_name: told.node_name,
        target_ref: told.target_ref,
    };
    let is_ready = publish || pod.ready().is_some();
    let pair = |port| Pair { address: address.clone(), is_ready, port };
    let spec = service.spec.as_ref();
    if spec.is_some_and(|spec| spec.ports.iter().flatten().next().is_none()) {
        // Only such a one may have none.
        let is_headless = spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
        return is_headless.then(|| pair(None)).into_iter().collect();
    }
    let own = ports(service, pod).into_iter();
    own.map(|port| {
        pair(Some(EndpointPort {
            name: port.name.filter(|name| !name.is_empty()),
            port: port.port.unwrap_or_default(),
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        }))
    })
    .collect()
}

/// Leaves the first thousand addresses, those before all that take traffic: whether there were more.
fn truncate(pairs: &mut Vec<Pair>) -> bool {
    let mut addresses: Vec<(bool, String)> =
        pairs.iter().map(|pair| (!pair.is_ready, pair.address.ip.clone())).collect();
    addresses.sort();
    addresses.dedup();
    let is_over = addresses.len() > MAX;
    if is_over {
        addresses.truncate(MAX);
        pairs.retain(|pair| addresses.binary_search(&(!pair.is_ready, pair.address.ip.clone())).is_ok());
    }
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "n", "labels": {"team": "a"}}, "spec": spec,
        }))
        .unwrap()
    }

    fn web() -> Service {
        service(serde_json::json!({"clusterIP": "10.96.0.9", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]}))
    }

    fn pod(ip: &str, ready: &str) -> Arc<PodView> {
        let pod = serde_json::json!({
            "metadata": {"name": format!("pod-{ip}"), "namespace": "n", "uid": ip, "labels": {"app": "web"}},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_that_are_ready_and_others_are_told_apart() {
        let made = plan(&web(), &[pod("10.0.0.2", "False"), pod("10.0.0.1", "True")], None).unwrap();
        let told = serde_json::to_value(&made.subsets).unwrap();
        assert_eq!(told[0]["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(told[0]["addresses"][0]["targetRef"]["name"], "pod-10.0.0.1");
        assert_eq!(told[0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
        assert_eq!(told[0]["ports"], serde_json::json!([{"port": 8080, "protocol": "TCP"}]));
        let labels = made.metadata.labels.unwrap();
        assert_eq!(labels[MANAGED_BY.0], MANAGED_BY.1);
        assert_eq!(labels["team"], "a");
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let pods = [pod("10.0.0.1", "True")];
        let mut made = plan(&web(), &pods, None).unwrap();
        made.metadata.resource_version = Some("7".to_owned());
        assert_eq!(plan(&web(), &pods, Some(&made)), None);
        let changed = plan(&web(), &[], Some(&made)).unwrap();
        assert_eq!((changed.subsets, changed.metadata.resource_version.as_deref()), (None, Some("7")));
    }

    #[test]
    fn services_that_select_nothing_are_somebody_elses() {
        for spec in [
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}),
            serde_json::json!({"type": "ExternalName", "selector": {"app": "web"}, "externalName": "a"}),
        ] {
            assert_eq!(plan(&service(spec), &[pod("10.0.0.1", "True")], None), None);
        }
    }

    #[test]
    fn headless_services_may_have_no_ports() {
        let headless = service(serde_json::json!({"clusterIP": "None", "selector": {"app": "web"}}));
        let made = plan(&headless, &[pod("10.0.0.1", "True")], None).unwrap();
        assert_eq!(made.subsets.unwrap()[0].ports, None);
        assert!(made.metadata.labels.unwrap().contains_key(HEADLESS));
    }

    #[test]
    fn a_thousand_are_told_and_that_there_are_more() {
        let pods: Vec<_> = (0..1001)
            .map(|n| pod(&format!("10.0.{}.{}", n / 250, n % 250), if n == 0 { "False" } else { "True" }))
            .collect();
        let made = plan(&web(), &pods, None).unwrap();
        let subset = &made.subsets.unwrap()[0];
        assert_eq!(subset.addresses.as_ref().map(Vec::len), Some(1000));
        assert_eq!(subset.not_ready_addresses, None);
        assert_eq!(made.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
