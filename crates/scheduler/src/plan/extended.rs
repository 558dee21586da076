//! Extended resources that devices stand for (KEP-5004): a node that does not have a resource itself may have devices
//! of the class that stands for it, which a special claim of the pod then gets. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerExtendedResourceRequest as Mapping;
use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceRequest, ExactDeviceRequest, ResourceClaim as Claim, ResourceClaimSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use schema::quantity::Quantity;

use crate::snapshot::Amounts;
use crate::view::{Container, PodView};

/// Says that a claim was made by the scheduler for a pod's extended resources
/// (`resource.ExtendedResourceClaimAnnotation`).
const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Every class stands for the resource of this name and its own (`resource.ResourceDeviceClassPrefix`).
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";

/// Classes by the extended resource that they stand for.
pub type Backed = HashMap<String, Arc<DeviceClass>>;

/// Whether a resource may be one that a class stands for.
fn may_be_backed(resource: &str) -> bool {
    resource.contains('/')
}

/// Whether a pod asks for a resource that a class may stand for.
pub fn asks(needs: &Amounts) -> bool {
    needs.iter().any(|(resource, amount)| *amount != 0 && may_be_backed(resource))
}

/// Of several classes for one resource the newest stands for it, and among those the first by name.
pub fn backed<'c>(classes: impl Iterator<Item = &'c Arc<DeviceClass>>) -> Backed {
    let mut all: Vec<&Arc<DeviceClass>> = classes.collect();
    all.sort_by_key(|class| {
        let meta = &class.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), std::cmp::Reverse(meta.name.clone()))
    });
    let mut backed = Backed::new();
    for class in all {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let explicit = class.spec.as_ref().and_then(|spec| spec.extended_resource_name.clone());
        for resource in explicit.into_iter().chain([format!("{IMPLICIT}{name}")]) {
            backed.insert(resource, class.clone());
        }
    }
    backed
}

/// The special claim of a pod, as far as it is known before a node is.
#[derive(Debug, Clone)]
pub struct Special {
    /// The one that an earlier attempt has made, or a new one, which nobody but the scheduler knows.
    pub claim: Arc<Claim>,
    /// What stands for what.
    pub backed: Backed,
}

/// What a special claim asks for on one node.
#[derive(Debug, Clone, PartialEq)]
pub struct ForNode {
    /// Its requests, by name.
    pub requests: Vec<DeviceRequest>,
    /// Which container has which request's devices.
    pub mappings: Vec<Mapping>,
}

impl Special {
    /// For a pod that asks for something that a class stands for. `made` finds its claim from an earlier attempt, `uid`
    /// is for a new one.
    pub fn of(
        pod: &PodView,
        needs: &Amounts,
        backed: Backed,
        made: impl FnOnce() -> Option<Arc<Claim>>,
        uid: impl FnOnce() -> String,
    ) -> Option<Self> {
        let is_backed = |(resource, amount): (&String, &i64)| *amount != 0 && backed.contains_key(resource);
        if !needs.iter().any(is_backed) {
            return None;
        }
        let claim = made().unwrap_or_else(|| Arc::new(new(pod, uid())));
        Some(Self { claim, backed })
    }

    /// Whether the API server knows it.
    pub fn is_made(&self) -> bool {
        self.claim.metadata.name.is_some()
    }

    /// What the pod needs devices for on a node; `None` when the node has all of it.
    pub fn on(&self, pod: &PodView, needs: &Amounts, allocatable: &Amounts) -> Option<ForNode> {
        let is_missing = |resource: &str| allocatable.get(resource).is_none_or(|amount| *amount == 0);
        let wanted = needs.iter().filter(|(resource, amount)| **amount != 0 && is_missing(resource));
        let wanted = wanted.filter_map(|(resource, _)| Some((resource.as_str(), self.backed.get(resource)?)));
        let found = requests(pod, wanted);
        (!found.requests.is_empty()).then_some(found)
    }
}

/// Whether a claim is the special one of a pod.
pub fn is_special_of(claim: &Claim, uid: &str) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ANNOTATION)).is_some_and(|value| value == "true")
        && claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

fn new(pod: &PodView, uid: String) -> Claim {
    let meta = &pod.metadata;
    Claim {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-extended-resources-", meta.name)),
            namespace: Some(meta.namespace.clone()),
            uid: Some(uid),
            annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceClaimSpec::default()),
        status: None,
    }
}

/// A container with its place among all of its pod: first init containers, then the others.
struct Place<'p> {
    index: usize,
    container: &'p Container,
}

/// Requests for some resources of a pod. Containers that run on have each their own; init containers that end before
/// use what later ones have, and share what they need beyond that.
fn requests<'c>(pod: &PodView, wanted: impl Iterator<Item = (&'c str, &'c Arc<DeviceClass>)>) -> ForNode {
    let inits = pod.spec.init_containers.iter();
    let all = inits.map(|container| (container, container.restart_policy == "Always"));
    let all = all.chain(pod.spec.containers.iter().map(|container| (container, true)));
    let all: Vec<(Place<'_>, bool)> =
        all.enumerate().map(|(index, (container, stays))| (Place { index, container }, stays)).collect();
    let mut found = ForNode { requests: Vec::new(), mappings: Vec::new() };
    for (resource, class) in wanted {
        let class = class.metadata.name.as_deref().unwrap_or_default();
        let mut kept: BTreeMap<usize, DeviceRequest> = BTreeMap::new();
        for (place, _) in all.iter().filter(|(_, stays)| *stays) {
            let (request, mappings) = one(place, resource, class, std::iter::empty());
            kept.extend(request.map(|request| (place.index, request)));
            found.mappings.extend(mappings);
        }
        let (mut largest, mut passing) = (None::<DeviceRequest>, Vec::new());
        let mut own = Vec::new();
        for (place, _) in all.iter().filter(|(_, stays)| !*stays) {
            let later = kept.range(place.index..).map(|(_, request)| request);
            let (request, mappings) = one(place, resource, class, later);
            passing.extend(mappings);
            if let Some(request) = request {
                own.push(request.name.clone());
                if largest.as_ref().is_none_or(|known| count(known) < count(&request)) {
                    largest = Some(request);
                }
            }
        }
        if let Some(largest) = &largest {
            for mapping in passing.iter_mut().filter(|mapping| own.contains(&mapping.request_name)) {
                mapping.request_name.clone_from(&largest.name);
            }
        }
        found.requests.extend(largest.into_iter().chain(kept.into_values()));
        found.mappings.extend(passing);
    }
    found.requests.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn count(request: &DeviceRequest) -> i64 {
    request.exactly.as_ref().and_then(|exactly| exactly.count).unwrap_or_default()
}

/// What one container asks for beyond what it can use of others, and which requests its devices are from.
fn one<'r>(
    place: &Place<'_>,
    resource: &str,
    class: &str,
    others: impl Iterator<Item = &'r DeviceRequest>,
) -> (Option<DeviceRequest>, Vec<Mapping>) {
    let asked = &place.container.resources.requests;
    let mapping = |request: &str| Mapping {
        container_name: place.container.name.clone(),
        resource_name: resource.to_owned(),
        request_name: request.to_owned(),
    };
    let amount = asked.get(resource).and_then(|text| text.parse::<Quantity>().ok());
    let amount = amount.map_or(0, |amount| amount.value());
    let (mut mappings, mut sum) = (Vec::new(), 0);
    if amount == 0 {
        return (None, mappings);
    }
    for other in others {
        sum += count(other);
        mappings.push(mapping(&other.name));
        if sum >= amount {
            return (None, mappings);
        }
    }
    let number = asked.keys().position(|name| name == resource).unwrap_or_default();
    let name = format!("container-{}-request-{number}", place.index);
    mappings.push(mapping(&name));
    let exactly = ExactDeviceRequest {
        device_class_name: class.to_owned(),
        allocation_mode: Some("ExactCount".to_owned()),
        count: Some(amount - sum),
        ..ExactDeviceRequest::default()
    };
    (Some(DeviceRequest { name, exactly: Some(exactly), ..DeviceRequest::default() }), mappings)
}

#[cfg(test)]
mod tests;
