use serde_json::{Value, json};

use super::*;

/// A cluster with one node, `a`, which has the label `zone=z`.
struct Cluster {
    slices: Vec<Arc<ResourceSlice>>,
    classes: HashMap<String, Arc<DeviceClass>>,
    rules: Vec<Arc<DeviceTaintRule>>,
    allocated: Allocated,
}

fn device(name: &str, model: &str, numa: i64) -> Value {
    json!({"name": name, "attributes": {"model": {"string": model}, "numa": {"int": numa}}})
}

fn slice(name: &str, spec: Value, devices: &[Value]) -> Arc<ResourceSlice> {
    let mut whole = json!({"driver": "d", "nodeName": "a", "devices": devices,
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": whole})).unwrap())
}

fn cluster(slices: Vec<Arc<ResourceSlice>>) -> Cluster {
    let class = json!({"metadata": {"name": "c"}, "spec": {"selectors": [{"cel": {"expression": "device.driver == 'd'"}}]}});
    let classes = [("c".to_owned(), Arc::new(serde_json::from_value(class).unwrap()))].into();
    Cluster { slices, classes, rules: Vec::new(), allocated: Allocated::default() }
}

fn claim(devices: Value) -> Arc<ResourceClaim> {
    let whole = json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {"devices": devices}});
    Arc::new(serde_json::from_value(whole).unwrap())
}

fn exactly(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
    for (key, value) in more.as_object().unwrap() {
        exactly[key] = value.clone();
    }
    json!({"name": name, "exactly": exactly})
}

fn wants(expression: &str) -> Value {
    json!({"selectors": [{"cel": {"expression": expression}}]})
}

impl Cluster {
    fn allocate(&self, claims: &[&Arc<ResourceClaim>]) -> Result<Option<Vec<AllocationResult>>, Refusal> {
        let expressions = cel::Cache::default();
        let labels = [("zone".to_owned(), "z".to_owned())].into();
        let world = World::new(&self.slices, &self.classes, &self.rules, &self.allocated, &expressions);
        let claims: Vec<_> = claims.iter().map(|claim| (*claim).clone()).collect();
        world.allocate(Site { name: "a", labels: &labels }, &claims)
    }

    /// `REQUEST=DEVICE` of all claims, or `none`, or why not.
    fn gives(&self, claims: &[&Arc<ResourceClaim>]) -> String {
        match self.allocate(claims) {
            Err(Refusal::Error(why) | Refusal::Node(why)) => why,
            Ok(None) => "none".to_owned(),
            Ok(Some(results)) => {
                let results = results.iter().flat_map(|result| &result.devices);
                let results = results.flat_map(|devices| devices.results.iter().flatten());
                let shown = results.map(|result| format!("{}={}", result.request, result.device));
                shown.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

#[test]
fn a_device_is_given_once() {
    let mut cluster = cluster(vec![slice("s", json!({}), &[device("d0", "m", 0), device("d1", "m", 0)])]);
    let one = claim(json!({"requests": [exactly("r", json!({}))]}));
    assert_eq!(cluster.gives(&[&one]), "r=d0");
    assert_eq!(cluster.gives(&[&one, &one]), "r=d0 r=d1");
    assert_eq!(cluster.gives(&[&one, &one, &one]), "none");
    let first = cluster.allocate(&[&one]).unwrap().unwrap();
    let only = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]);
    assert_eq!(
        serde_json::to_value(&first[0].node_selector.as_ref().unwrap().node_selector_terms).unwrap(),
        only
    );
    cluster.allocated.add(&first[0]);
    assert_eq!(cluster.gives(&[&one]), "r=d1");
    let admin = claim(json!({"requests": [exactly("r", json!({"adminAccess": true}))]}));
    assert_eq!(cluster.gives(&[&admin]), "r=d0", "administrators look at devices that are others'");
}

#[test]
fn a_choice_that_leads_nowhere_is_taken_back() {
    let cluster = cluster(vec![slice("s", json!({}), &[device("d0", "good", 0), device("d1", "bad", 0)])]);
    let good = exactly("good", wants("device.attributes['d'].model == 'good'"));
    let picky = claim(json!({"requests": [exactly("any", json!({})), good]}));
    assert_eq!(cluster.gives(&[&picky]), "any=d1 good=d0");
}

#[test]
fn devices_of_one_claim_may_have_to_be_alike_or_different() {
    let devices = [device("d0", "m", 0), device("d1", "m", 1), device("d2", "n", 1)];
    let cluster = cluster(vec![slice("s", json!({}), &devices)]);
    let with = |constraints: Value, count: usize| {
        claim(json!({"requests": [exactly("r", json!({"count": count}))], "constraints": constraints}))
    };
    assert_eq!(cluster.gives(&[&with(json!([{"matchAttribute": "d/numa"}]), 2)]), "r=d1 r=d2");
    assert_eq!(cluster.gives(&[&with(json!([{"matchAttribute": "d/numa"}]), 3)]), "none");
    assert_eq!(cluster.gives(&[&with(json!([{"distinctAttribute": "d/model"}]), 2)]), "r=d0 r=d2");
    assert_eq!(cluster.gives(&[&with(json!([{"matchAttribute": "d/nothing"}]), 1)]), "none");
    let both = json!([{"matchAttribute": "d/numa"}, {"matchAttribute": "d/model", "requests": ["other"]}]);
    assert_eq!(cluster.gives(&[&with(both, 2)]), "r=d1 r=d2");
}

#[test]
fn all_means_all_that_are_selected() {
    let devices = [device("d0", "m", 0), device("d1", "n", 1), device("d2", "m", 1)];
    let mut cluster = cluster(vec![slice("s", json!({}), &devices)]);
    let all = |expression: &str| {
        let mut wanted = wants(expression);
        wanted["allocationMode"] = "All".into();
        claim(json!({"requests": [exactly("r", wanted)]}))
    };
    assert_eq!(cluster.gives(&[&all("device.attributes['d'].model == 'm'")]), "r=d0 r=d2");
    assert_eq!(cluster.gives(&[&all("false")]), "none", "at least one");
    cluster.allocated.devices.insert(("d".to_owned(), "p".to_owned(), "d2".to_owned()));
    assert_eq!(cluster.gives(&[&all("device.attributes['d'].model == 'm'")]), "none");
    assert_eq!(cluster.gives(&[&all("device.attributes['d'].model == 'n'")]), "r=d1");
}

#[test]
fn the_first_alternative_that_there_is_is_taken() {
    let cluster = cluster(vec![slice("s", json!({}), &[device("d0", "m", 0), device("d1", "n", 0)])]);
    let sub = |name: &str, count: usize, expression: &str| {
        let mut sub = wants(expression);
        sub["name"] = name.into();
        sub["deviceClassName"] = "c".into();
        sub["allocationMode"] = "ExactCount".into();
        sub["count"] = count.into();
        sub
    };
    let big = sub("big", 1, "device.attributes['d'].model == 'h'");
    let listed = json!({"name": "r", "firstAvailable": [big, sub("two", 2, "true"), sub("one", 1, "true")]});
    assert_eq!(cluster.gives(&[&claim(json!({"requests": [listed.clone()]}))]), "r/two=d0 r/two=d1");
    let beside = claim(json!({"requests": [listed.clone(), exactly("other", json!({}))]}));
    assert_eq!(cluster.gives(&[&beside]), "r/one=d0 other=d1", "both fit only so");
    let config = json!([{"requests": ["r/one"], "opaque": {"driver": "d", "parameters": {}}},
        {"requests": ["r/two"], "opaque": {"driver": "e", "parameters": {}}}]);
    let told = claim(json!({"requests": [listed], "config": config}));
    let result = cluster.allocate(&[&told]).unwrap().unwrap().remove(0).devices.unwrap();
    assert_eq!(result.config.unwrap()[0].opaque.as_ref().unwrap().driver, "e");
}

#[test]
fn a_pool_counts_once_it_is_whole_and_only_in_its_newest_generation() {
    let pool = |generation: i64, count: i64| json!({"pool": {"name": "p", "generation": generation, "resourceSliceCount": count}});
    let one = claim(json!({"requests": [exactly("r", json!({}))]}));
    let half = slice("s", pool(1, 2), &[device("d0", "m", 0)]);
    assert_eq!(cluster(vec![half.clone()]).gives(&[&one]), "none");
    let all = claim(json!({"requests": [exactly("r", json!({"allocationMode": "All"}))]}));
    assert_eq!(
        cluster(vec![half.clone()]).gives(&[&all]),
        "claim n/x, request r: asks for all devices, but resource pool d/p is currently being updated"
    );
    let newer = slice("t", pool(2, 1), &[device("d1", "m", 0)]);
    assert_eq!(cluster(vec![half.clone(), newer]).gives(&[&one]), "r=d1");
    let twice = slice("t", pool(1, 2), &[device("d0", "m", 0)]);
    assert_eq!(cluster(vec![half, twice]).gives(&[&one]), "invalid resource pools were encountered");
}

#[test]
fn devices_are_reached_by_node_label_or_from_everywhere() {
    let one = claim(json!({"requests": [exactly("r", json!({}))]}));
    let zone = |value: &str| {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [value]}]});
        json!({"nodeName": null, "nodeSelector": {"nodeSelectorTerms": [term]}})
    };
    let near = cluster(vec![slice("s", zone("z"), &[device("d0", "m", 0)])]);
    let found = near.allocate(&[&one]).unwrap().unwrap().remove(0).node_selector.unwrap();
    assert_eq!(found.node_selector_terms[0].match_expressions.as_ref().unwrap()[0].key, "zone");
    assert_eq!(cluster(vec![slice("s", zone("y"), &[device("d0", "m", 0)])]).gives(&[&one]), "none");
    let everywhere = json!({"nodeName": null, "allNodes": true});
    let found = cluster(vec![slice("s", everywhere, &[device("d0", "m", 0)])]).allocate(&[&one]);
    assert_eq!(found.unwrap().unwrap()[0].node_selector, None);
    let (mut here, mut there) = (device("d1", "m", 0), device("d0", "m", 0));
    (here["nodeName"], there["nodeName"]) = ("a".into(), "b".into());
    let each = json!({"nodeName": null, "perDeviceNodeSelection": true});
    assert_eq!(cluster(vec![slice("s", each, &[there, here])]).gives(&[&one]), "r=d1");
}

#[test]
fn a_tainted_device_is_for_those_who_bear_it() {
    let mut tainted = device("d0", "m", 0);
    tainted["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
    let cluster = cluster(vec![slice("s", json!({}), &[tainted])]);
    assert_eq!(cluster.gives(&[&claim(json!({"requests": [exactly("r", json!({}))]}))]), "none");
    let bears = json!({"tolerations": [{"key": "k", "operator": "Exists"}]});
    assert_eq!(cluster.gives(&[&claim(json!({"requests": [exactly("r", bears)]}))]), "r=d0");
}

#[test]
fn a_rule_taints_the_devices_that_it_means() {
    let mut cluster = cluster(vec![slice("s", json!({}), &[device("d0", "m", 0), device("d1", "m", 0)])]);
    let mut rule = |selector: Value| {
        let taint = json!({"key": "k", "effect": "NoExecute"});
        let rule = json!({"spec": {"deviceSelector": selector, "taint": taint}});
        cluster.rules = vec![Arc::new(serde_json::from_value(rule).unwrap())];
        cluster.gives(&[&claim(json!({"requests": [exactly("r", json!({}))]}))])
    };
    assert_eq!(rule(json!({"driver": "d", "pool": "p", "device": "d0"})), "r=d1");
    assert_eq!(rule(json!({"driver": "e"})), "r=d0");
    assert_eq!(rule(json!({"pool": "q"})), "r=d0");
    assert_eq!(rule(json!({})), "none");
}

#[test]
fn devices_that_are_ready_at_once_are_given_first() {
    let mut later = device("d0", "m", 0);
    later["bindingConditions"] = json!(["ready"]);
    later["bindingFailureConditions"] = json!(["broken"]);
    let other = |pool: &str| json!({"pool": {"name": pool, "generation": 1, "resourceSliceCount": 1}});
    let slices = vec![slice("s", other("a"), &[later]), slice("t", other("b"), &[device("d1", "m", 0)])];
    let cluster = cluster(slices);
    let one = claim(json!({"requests": [exactly("r", json!({}))]}));
    assert_eq!(cluster.gives(&[&one]), "r=d1");
    let got = cluster.allocate(&[&one, &one]).unwrap().unwrap().remove(1).devices.unwrap();
    let result = got.results.unwrap().remove(0);
    assert_eq!(
        (result.binding_conditions, result.binding_failure_conditions),
        (Some(vec!["ready".to_owned()]), Some(vec!["broken".to_owned()]))
    );
}

#[test]
fn parts_of_a_device_are_given_while_its_capacity_lasts() {
    let part = json!({"name": "d0", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10Gi",
        "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}}}});
    let mut cluster = cluster(vec![slice("s", json!({}), &[part])]);
    let asks = |amount: &str| {
        claim(json!({"requests": [exactly("r", json!({"capacity": {"requests": {"memory": amount}}}))]}))
    };
    let got = cluster.allocate(&[&asks("5500Mi")]).unwrap().unwrap().remove(0);
    let result = got.devices.as_ref().unwrap().results.as_ref().unwrap()[0].clone();
    assert_eq!(result.consumed_capacity.unwrap()["memory"].0, "6Gi", "rounded up");
    assert!(result.share_id.is_some());
    assert_eq!(cluster.gives(&[&asks("6Gi"), &asks("4Gi")]), "r=d0 r=d0");
    cluster.allocated.add(&got);
    assert_eq!(cluster.gives(&[&asks("5Gi")]), "none");
    assert_eq!(cluster.gives(&[&asks("4Gi")]), "r=d0");
}

#[test]
fn partitions_share_their_pools_counters() {
    let partition = |name: &str, amount: &str| json!({"name": name, "consumesCounters": [{"counterSet": "gpu", "counters": {"memory": {"value": amount}}}]});
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 2});
    let sets = json!([{"name": "gpu", "counters": {"memory": {"value": "4Gi"}}}]);
    let counters = slice("c", json!({"pool": pool, "sharedCounters": sets, "devices": null}), &[]);
    let devices = [partition("whole", "4Gi"), partition("left", "2Gi"), partition("right", "2Gi")];
    let mut cluster = cluster(vec![counters, slice("s", json!({"pool": pool}), &devices)]);
    let two = claim(json!({"requests": [exactly("r", json!({"count": 2}))]}));
    assert_eq!(cluster.gives(&[&two]), "r=left r=right", "beside the whole there is nothing");
    let three = claim(json!({"requests": [exactly("r", json!({"count": 3}))]}));
    assert_eq!(cluster.gives(&[&three]), "none");
    cluster.allocated.devices.insert(("d".to_owned(), "p".to_owned(), "left".to_owned()));
    assert_eq!(cluster.gives(&[&two]), "none");
    assert_eq!(cluster.gives(&[&claim(json!({"requests": [exactly("r", json!({}))]}))]), "r=right");
}

#[test]
fn what_cannot_be_is_told_in_upstreams_words() {
    let cluster = cluster(vec![slice("s", json!({}), &[device("d0", "m", 0)])]);
    let fails = wants("device.attributes['d'].nothing == 1");
    assert_eq!(
        cluster.gives(&[&claim(json!({"requests": [exactly("r", fails)]}))]),
        "claim n/x: selector #0 on device d/p/d0: CEL runtime error: no such key: nothing"
    );
    let many = claim(json!({"requests": [exactly("r", json!({"count": 33}))]}));
    assert_eq!(
        cluster.gives(&[&many]),
        "claim n/x: number of requested devices 33 exceeds the claim limit of 32"
    );
}
