//! What a node must be for a pod on it to change its size (upstream's PodResizeValidator).

use schema::Object;
use schema::quantity::{Format, Quantity};

use super::resources::requests;
use super::validate::read::{amount, sub};

/// Why a pod may not become that large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The type of the cause that clients are told.
    pub cause: &'static str,
    /// What people are told.
    pub why: String,
}

/// Why the node of a pod cannot give it what it asks for now, whatever else runs there.
pub fn refuse_resize(pod: &Object, node: &Object) -> Option<Refusal> {
    let system = node.labels().and_then(|labels| labels.get_str("kubernetes.io/os"));
    if let Some(system) = system.filter(|system| *system != "linux") {
        let why =
            format!("pod resize is only supported on linux nodes, node {:?} is {system:?}", node.name());
        return Some(Refusal { cause: "UnsupportedPlatform", why });
    }
    let wanted = requests(sub(pod, "spec")?);
    let zero = Quantity::from_int(0, Format::DecimalSi);
    let mut short = Vec::new();
    for (name, shown) in [("cpu", Quantity::milli as fn(&Quantity) -> i64), ("memory", Quantity::value)] {
        let wanted = wanted.get(name).unwrap_or(&zero);
        let has = sub(node, "status").and_then(|status| amount(status, "allocatable", name));
        let has = has.as_ref().unwrap_or(&zero);
        if wanted > has {
            short.push(format!("{name}, requested: {}, allocatable: {}", shown(wanted), shown(has)));
        }
    }
    (!short.is_empty()).then(|| {
        let why = format!("node didn't have enough allocatable resources: {}", short.join("; "));
        Refusal { cause: "NodeCapacity", why }
    })
}

#[cfg(test)]
mod tests {
    use super::refuse_resize;

    fn object(kind: &str, json: &str) -> schema::Object {
        let kind = schema::catalogue::builtin().kind("", "v1", kind).unwrap();
        schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
    }

    #[test]
    fn a_pod_grows_no_larger_than_its_node() {
        let node = r#"{"metadata":{"name":"n"},"status":{"allocatable":{"cpu":"2","memory":"1Gi"}}}"#;
        let windows = r#"{"metadata":{"name":"n","labels":{"kubernetes.io/os":"windows"}}}"#;
        let refused = |spec: &str, node: &str| {
            let pod = object("Pod", &format!("{{\"spec\":{spec}}}"));
            refuse_resize(&pod, &object("Node", node)).map(|refusal| (refusal.cause, refusal.why))
        };
        let fits =
            r#"{"containers":[{"name":"c","resources":{"requests":{"cpu":"1500m","memory":"1024Mi"}}}]}"#;
        assert_eq!(refused(fits, node), None);
        let large = r#"{"overhead":{"cpu":"100m"},"containers":[
            {"name":"a","resources":{"requests":{"cpu":"1500m"}}},
            {"name":"b","resources":{"requests":{"cpu":"500m","memory":"2Gi"}}}]}"#;
        let why = "node didn't have enough allocatable resources: cpu, requested: 2100, allocatable: 2000; \
                   memory, requested: 2147483648, allocatable: 1073741824";
        assert_eq!(refused(large, node), Some(("NodeCapacity", why.to_owned())));
        let whole = r#"{"resources":{"requests":{"cpu":"3"}},"containers":[{"name":"a"}]}"#;
        let why = "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000";
        assert_eq!(refused(whole, node), Some(("NodeCapacity", why.to_owned())));
        let why = "pod resize is only supported on linux nodes, node \"n\" is \"windows\"";
        assert_eq!(refused(fits, windows), Some(("UnsupportedPlatform", why.to_owned())));
    }
}
