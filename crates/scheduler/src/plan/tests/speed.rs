//! How many decisions there are in a second, on 5,000 nodes with 10,000 pods. Run by name; it asserts nothing of time.

use super::*;

const NODES: usize = 5_000;
const PODS: usize = 10_000;

fn large() -> Snapshot {
    let nodes: Vec<serde_json::Value> = (0..NODES)
        .map(|at| {
            let mut node = node(&format!("node-{at}"), "16");
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = format!("z{}", at % 3).into();
            node["metadata"]["labels"]["kubernetes.io/os"] = "linux".into();
            node
        })
        .collect();
    cluster(&nodes)
}

fn of(app: usize, uid: usize, more: &serde_json::Value) -> PodView {
    let mut spec = asks("100m");
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut pod = pod(&format!("p{uid}"), spec);
    pod.metadata.labels.insert("app".to_owned(), format!("a{app}"));
    pod
}

fn decisions(name: &str, more: &serde_json::Value, service: Option<&str>, count: usize) {
    let alike = Alike {
        labels: service.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect(),
        ..Alike::default()
    };
    let mut snapshot = large();
    for uid in 0..PODS {
        let mut pod = of(uid % 20, uid, more);
        pod.spec.node_name = format!("node-{}", uid % NODES);
        snapshot.set_pod(Arc::new(pod));
    }
    let clock = base::SystemClock::new();
    let begun = base::Clock::monotonic(&clock);
    let mut placed = 0;
    for at in 0..count {
        let pod = of(at % 20, PODS + at, more);
        let tie = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let wants = Wants { alike: Some(&alike), ..Wants::default() };
        if let Decision::Node(node) = crate::plan::place(&snapshot, &pod, wants, tie).decision {
            placed += 1;
            let mut pod = pod;
            pod.spec.node_name = node;
            snapshot.set_pod(Arc::new(pod));
        }
    }
    let took = base::Clock::monotonic(&clock) - begun;
    println!(
        "{name}: {placed} of {count} placed, {:.0} decisions a second",
        count as f64 / took.as_secs_f64()
    );
    assert_eq!(placed, count);
}

#[test]
#[ignore = "measures"]
fn decisions_in_a_second() {
    let selector = serde_json::json!({"matchLabels": {"app": "a1"}});
    decisions("basic", &serde_json::json!({}), None, 200);
    decisions("of a service", &serde_json::json!({}), Some("a1"), 50);
    let preferred = serde_json::json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}}]}}});
    decisions("preferred anti-affinity", &preferred, None, 50);
    let spread = serde_json::json!({"topologySpreadConstraints": [{"maxSkew": 100000, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]});
    decisions("spread", &spread, None, 50);
}
