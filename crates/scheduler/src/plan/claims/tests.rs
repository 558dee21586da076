use serde_json::json;

use super::*;
use crate::plan::devices::Allocated;

fn pod(status: serde_json::Value) -> PodView {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"resourceClaims": [
            {"name": "shared", "resourceClaimName": "s"}, {"name": "own", "resourceClaimTemplateName": "t"}]},
        "status": status,
    }))
    .unwrap()
}

fn claim(name: &str, status: serde_json::Value) -> Arc<Claim> {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": [owner]},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}},
            "status": status,
        }))
        .unwrap(),
    )
}

fn told() -> PodView {
    pod(json!({"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "x"}]}))
}

#[test]
fn a_pod_waits_until_its_claims_are_there() {
    let all = |name: &str| Some(claim(name, json!({})));
    assert_eq!(of_pod(&pod(json!({})), all).unwrap_err(), "pod \"n/p\": ResourceClaim not created yet");
    let missing = |name: &str| (name == "s").then(|| claim(name, json!({})));
    assert_eq!(of_pod(&told(), missing).unwrap_err(), "resourceclaim.resource.k8s.io \"x\" not found");
    let names: Vec<String> = of_pod(&told(), all).unwrap().iter().map(|claim| key(claim)).collect();
    assert_eq!(names, ["n/s", "n/x"]);
    let foreign = |name: &str| {
        let mut claim = (*claim(name, json!({}))).clone();
        claim.metadata.owner_references = None;
        Some(Arc::new(claim))
    };
    let why = "ResourceClaim n/x was not created for pod n/p (pod is not owner)";
    assert_eq!(of_pod(&told(), foreign).unwrap_err(), why);
}

#[test]
fn what_no_node_can_mend_is_told_first() {
    let open = [claim("x", json!({}))];
    let none = HashMap::new();
    let why = check(&told(), &open, |_| false, &none).unwrap_err();
    assert_eq!(why, "request r: device class c does not exist");
    let classes = [("c".to_owned(), Arc::default())].into();
    assert_eq!(check(&told(), &open, |_| false, &classes), Ok(()));
    let why = check(&told(), &open, |uid| uid == "x", &classes).unwrap_err();
    assert_eq!(why, "resource claim n/x is in the process of being allocated");
    let users: Vec<_> =
        (0..256).map(|uid| json!({"resource": "pods", "name": "q", "uid": uid.to_string()})).collect();
    let full = [claim("x", json!({"allocation": {}, "reservedFor": users}))];
    assert_eq!(check(&told(), &full, |_| false, &classes).unwrap_err(), "resourceclaim in use");
}

#[test]
fn a_claim_that_is_in_the_way_is_freed_when_nobody_else_uses_it() {
    let elsewhere = json!({"nodeSelector": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]}});
    let idle = claim(
        "x",
        json!({"allocation": elsewhere, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}),
    );
    let labels = BTreeMap::new();
    let claims = [claim("s", json!({})), idle];
    let (classes, allocated, expressions) = (HashMap::new(), Allocated::default(), cel::Cache::default());
    let world = World::new(&[], &classes, &[], &allocated, &expressions);
    let mut needs = Needs { world, claims: claims.to_vec(), special: None, stuck: Vec::new() };
    assert_eq!(unavailable(&needs, Site { name: "a", labels: &labels }), [1]);
    assert_eq!(unavailable(&needs, Site { name: "b", labels: &labels }), [0; 0]);
    needs.stuck = vec![1];
    assert_eq!(unavailable(&needs, Site { name: "b", labels: &labels }), [1]);
    assert_eq!(to_free(&told(), &claims, &[1]).map(|claim| key(claim)).as_deref(), Some("n/x"));
    let used = json!({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "q", "uid": "v"}]});
    assert_eq!(to_free(&told(), &[claim("x", used)], &[0]), None);
}

#[test]
fn nodes_with_earlier_alternatives_are_better() {
    let mut wanted = (*claim("x", json!({}))).clone();
    wanted.spec = serde_json::from_value(json!({"devices": {"requests": [{"name": "r", "firstAvailable": [
        {"name": "big", "deviceClassName": "c"}, {"name": "small", "deviceClassName": "c"}]}]}}))
    .unwrap();
    let gives = |name: &str| {
        let result = json!({"request": name, "driver": "d", "pool": "p", "device": "d"});
        let devices = vec![serde_json::from_value(json!({"devices": {"results": [result]}})).unwrap()];
        Offer { devices, extended: None }
    };
    let given = [("a".to_owned(), gives("r/small")), ("b".to_owned(), gives("r/big"))].into();
    let found = scores(&[Arc::new(wanted)], &given);
    assert_eq!((found["a"], found["b"]), (87, 100));
}
