//! The endpoint slices of `Endpoints` that somebody wrote. Pure (`pkg/controller/endpointslicemirroring`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as CorePort, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::plan::elects;
use super::subsets::{Pair, pack, unpack};
use crate::endpointslice::plan::{MANAGED_BY, Plan, SERVICE};

/// The value of [`MANAGED_BY`] of this controller.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// The most addresses of a subset that are mirrored.
const MAX: usize = 1000;
/// Annotations that are about the `Endpoints` alone.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// Whether somebody wrote them for a Service that selects nothing, and wants slices of them.
fn is_mirrored(service: Option<&Service>, endpoints: &Endpoints) -> bool {
    let has = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned()
    };
    let selects = service.and_then(|service| service.spec.as_ref()).map(|spec| spec.selector.is_some());
    let unwanted = has(&endpoints.metadata.labels, "endpointslice.kubernetes.io/skip-mirror");
    selects == Some(false)
        && unwanted.as_deref() != Some("true")
        && !elects(endpoints)
        && endpoints.metadata.deletion_timestamp.is_none()
}

/// Looks at `Endpoints`, their Service and the slices that were made of them.
pub fn plan(service: Option<&Service>, endpoints: Option<&Endpoints>, slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let managed = |slice: &&Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
    };
    let mut free: Vec<&Arc<EndpointSlice>> = slices.iter().filter(managed).collect();
    if let Some(endpoints) = endpoints.filter(|endpoints| is_mirrored(service, endpoints)) {
        for wanted in slices_of(endpoints) {
            place(wanted, &mut free, &mut plan);
        }
    }
    plan.delete = free.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
    plan
}

/// Puts a slice in the place of one that has the same ports, or of any other that exists, or makes it.
fn place(mut wanted: EndpointSlice, free: &mut Vec<&Arc<EndpointSlice>>, plan: &mut Plan) {
    let alike = |slice: &&Arc<EndpointSlice>| {
        slice.address_type == wanted.address_type && slice.ports == wanted.ports
    };
    let other = |slice: &&Arc<EndpointSlice>| slice.address_type == wanted.address_type;
    let Some(at) = free.iter().position(alike).or_else(|| free.iter().position(other)) else {
        plan.create.push(wanted);
        return;
    };
    let old = free.remove(at);
    let is_right = old.endpoints == wanted.endpoints
        && old.ports == wanted.ports
        && old.metadata.labels == wanted.metadata.labels
        && old.metadata.annotations == wanted.metadata.annotations;
    if !is_right {
        wanted.metadata.name = old.metadata.name.clone();
        wanted.metadata.generate_name = None;
        wanted.metadata.resource_version = old.metadata.resource_version.clone();
        plan.update.push(wanted);
    }
}

/// One for the ports and the kind of addresses of each subset.
fn slices_of(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut found = Vec::new();
    for subset in pack(unpack(endpoints.subsets.as_deref().unwrap_or_default())) {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let mut pairs: Vec<Pair> =
            unpack(&[k8s_openapi::api::core::v1::EndpointSubset { ports: None, ..subset }]);
        pairs.truncate(MAX);
        for kind in ["IPv4", "IPv6"] {
            let of_kind = pairs.iter().filter_map(|pair| mirrored(&pair.address, pair.is_ready, kind));
            let of_kind: Vec<Endpoint> = of_kind.collect();
            if !of_kind.is_empty() {
                found.push(slice(endpoints, &ports, of_kind, kind));
            }
        }
    }
    found
}

fn port(port: &CorePort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

/// None for an address of another kind.
fn mirrored(address: &EndpointAddress, is_ready: bool, kind: &str) -> Option<Endpoint> {
    let ip: IpAddr = address.ip.parse().ok()?;
    (ip.is_ipv4() == (kind == "IPv4")).then(|| Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    })
}

fn slice(endpoints: &Endpoints, ports: &[EndpointPort], all: Vec<Endpoint>, kind: &str) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Endpoints".to_owned(),
                name,
                uid: endpoints.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: kind.to_owned(),
        endpoints: Some(all),
        ports: Some(ports.to_vec()).filter(|ports| !ports.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": "db", "namespace": "n"}, "spec": spec}),
        )
        .unwrap()
    }

    fn endpoints(metadata: serde_json::Value) -> Endpoints {
        let mut all: Endpoints =
            serde_json::from_value(serde_json::json!({"metadata": metadata, "subsets": [
            {"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
             "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}]}))
            .unwrap();
        all.metadata.name = Some("db".to_owned());
        all
    }

    #[test]
    fn what_somebody_wrote_becomes_slices() {
        let written =
            endpoints(serde_json::json!({"labels": {"a": "b"}, "annotations": {OWN[0]: "t", "c": "d"}}));
        let plan = plan(Some(&service(serde_json::json!({}))), Some(&written), &[]);
        let kinds: Vec<&str> = plan.create.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(kinds, ["IPv4", "IPv6"]);
        let slice = serde_json::to_value(&plan.create[0]).unwrap();
        assert_eq!(slice["endpoints"][0]["addresses"][0], "10.1.2.3");
        assert_eq!(slice["endpoints"][1]["conditions"], serde_json::json!({"ready": false}));
        assert_eq!(slice["ports"][0]["port"], 5432);
        assert_eq!(
            slice["metadata"]["labels"],
            serde_json::json!({"a": "b", SERVICE: "db", MANAGED_BY: MANAGER})
        );
        assert_eq!(slice["metadata"]["annotations"], serde_json::json!({"c": "d"}));
    }

    #[test]
    fn slices_follow_changes_and_go_with_what_they_are_made_of() {
        let service = service(serde_json::json!({}));
        let mut written = endpoints(serde_json::json!({}));
        let made: Vec<Arc<EndpointSlice>> = plan(Some(&service), Some(&written), &[])
            .create
            .into_iter()
            .enumerate()
            .map(|(at, mut slice)| {
                slice.metadata.name = Some(at.to_string());
                Arc::new(slice)
            })
            .collect();
        assert_eq!(plan(Some(&service), Some(&written), &made), Plan::default());
        written.subsets.as_mut().unwrap()[0].addresses.as_mut().unwrap().pop();
        let changed = plan(Some(&service), Some(&written), &made);
        assert_eq!((changed.create.len(), changed.update.len(), changed.delete.len()), (0, 0, 1));
        written.subsets.as_mut().unwrap()[0].ports.as_mut().unwrap()[0].port = 5433;
        assert_eq!(plan(Some(&service), Some(&written), &made).update.len(), 1);
        assert_eq!(plan(Some(&service), None, &made).delete.len(), 2);
    }

    #[test]
    fn nobody_wants_slices_of_these() {
        let selecting = service(serde_json::json!({"selector": {"app": "db"}}));
        let open = service(serde_json::json!({}));
        let skip = serde_json::json!({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
        let elects = serde_json::json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}});
        for (service, metadata) in [
            (Some(&selecting), serde_json::json!({})),
            (None, serde_json::json!({})),
            (Some(&open), skip),
            (Some(&open), elects),
        ] {
            assert_eq!(plan(service, Some(&endpoints(metadata)), &[]), Plan::default());
        }
    }
}
