use serde_json::{Value, json};

use super::*;
use crate::snapshot::requests as needs;

fn class(name: &str, resource: Option<&str>, created: &str) -> Arc<DeviceClass> {
    let class = json!({"metadata": {"name": name, "creationTimestamp": created},
        "spec": {"extendedResourceName": resource}});
    Arc::new(serde_json::from_value(class).unwrap())
}

fn pod(spec: Value) -> PodView {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn asks(name: &str, amount: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": "1", "example.com/gpu": amount}}})
}

fn gpu() -> Backed {
    backed([class("gpu", Some("example.com/gpu"), "2026-01-01T00:00:00Z")].iter())
}

/// `REQUEST=COUNT` of the special claim's requests, and `CONTAINER:REQUEST` of its mappings.
fn shown(spec: Value) -> (Vec<String>, Vec<String>) {
    let pod = pod(spec);
    let needs = needs(&pod);
    let special = Special::of(&pod, &needs, gpu(), || None, || "s".to_owned()).unwrap();
    let on = special.on(&pod, &needs, &Amounts::new()).unwrap();
    let requests = on.requests.iter().map(|request| format!("{}={}", request.name, count(request)));
    let mappings = on.mappings.iter();
    let mappings = mappings.map(|mapping| format!("{}:{}", mapping.container_name, mapping.request_name));
    (requests.collect(), mappings.collect())
}

#[test]
fn the_newest_class_stands_for_a_resource_and_each_for_its_own() {
    let old = class("a", Some("example.com/gpu"), "2026-01-01T00:00:00Z");
    let new = class("c", Some("example.com/gpu"), "2026-01-02T00:00:00Z");
    let equal = class("b", Some("example.com/gpu"), "2026-01-02T00:00:00Z");
    let found = backed([new, old, equal].iter());
    let name = |resource: &str| found[resource].metadata.name.as_deref().unwrap();
    assert_eq!(name("example.com/gpu"), "b");
    assert_eq!(name("deviceclass.resource.kubernetes.io/a"), "a");
}

#[test]
fn only_what_a_node_does_not_have_itself_is_asked_of_devices() {
    let pod = pod(json!({"containers": [asks("c", "2")]}));
    let needs = needs(&pod);
    assert!(Special::of(&pod, &needs, Backed::new(), || None, String::new).is_none());
    let special = Special::of(&pod, &needs, gpu(), || None, String::new).unwrap();
    let has = |amount: i64| [("example.com/gpu".to_owned(), amount)].into();
    assert_eq!(special.on(&pod, &needs, &has(8)), None);
    assert!(special.on(&pod, &needs, &has(0)).is_some());
    let none = self::pod(json!({"containers": [asks("c", "0")]}));
    assert!(Special::of(&none, &self::needs(&none), gpu(), || None, String::new).is_none());
}

#[test]
fn containers_that_run_on_have_requests_of_their_own() {
    let (requests, mappings) = shown(json!({"containers": [asks("a", "1"), asks("b", "2"), {"name": "c"}]}));
    assert_eq!(requests, ["container-0-request-1=1", "container-1-request-1=2"]);
    assert_eq!(mappings, ["a:container-0-request-1", "b:container-1-request-1"]);
}

#[test]
fn init_containers_use_what_later_ones_have() {
    let spec = json!({"initContainers": [asks("i", "1"), asks("big", "5"), asks("mid", "4")],
        "containers": [asks("a", "2"), asks("b", "1")]});
    let (requests, mappings) = shown(spec);
    // The two that need more than the containers have share the larger of what they lack.
    assert_eq!(requests, ["container-1-request-1=2", "container-3-request-1=2", "container-4-request-1=1"]);
    let of = |name: &str| {
        let of = mappings.iter().filter_map(|mapping| mapping.strip_prefix(&format!("{name}:container-")));
        of.map(|request| request[..1].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("i"), of("a"), of("b")), (vec!["3".into()], vec!["3".into()], vec!["4".into()]));
    assert_eq!((of("big"), of("mid")), (vec!["3".into(), "4".into(), "1".into()], of("big")));
}

#[test]
fn a_claim_of_an_earlier_attempt_is_known_by_its_annotation_and_owner() {
    let pod = pod(json!({"containers": [asks("c", "1")]}));
    let special = Special::of(&pod, &needs(&pod), gpu(), || None, || "s".to_owned()).unwrap();
    assert!(!special.is_made());
    assert!(is_special_of(&special.claim, "u") && !is_special_of(&special.claim, "v"));
    assert_eq!(special.claim.metadata.generate_name.as_deref(), Some("p-extended-resources-"));
}
