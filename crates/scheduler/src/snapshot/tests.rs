use super::*;

fn node(labels: serde_json::Value) -> Arc<NodeView> {
    let node = serde_json::json!({"metadata": {"name": "a", "labels": labels}, "status": {
        "allocatable": {"cpu": "2"}, "images": [{"names": ["x:1", "x@sha256:1"], "sizeBytes": 7}]}});
    Arc::new(serde_json::from_value(node).unwrap())
}

#[test]
fn pods_come_and_go() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node(serde_json::json!({})));
    let pod = serde_json::json!({"metadata": {"uid": "p"}, "spec": {"nodeName": "a",
        "containers": [{"resources": {"requests": {"cpu": "500m"}}}]}});
    let pod: Arc<PodView> = Arc::new(serde_json::from_value(pod).unwrap());
    snapshot.set_pod(pod.clone());
    snapshot.set_pod(pod.clone());
    let info = snapshot.node("a").unwrap();
    assert_eq!((info.used["cpu"], info.weight), (500, [500, 200 << 20]));
    assert_eq!(
        info.crowds(),
        [Crowd { kin: snapshot.kin().get(&Kin::of(&pod)).unwrap(), all: 1, ending: 0 }]
    );
    let mut other = (*pod).clone();
    other.status.start_time = Some("2026-01-01T00:00:00Z".to_owned());
    snapshot.set_pod(Arc::new(other.clone()));
    let info = snapshot.node("a").unwrap();
    assert_eq!((info.used["cpu"], info.pods["p"].status.start_time.is_some()), (500, true));
    other.metadata.deletion_timestamp = other.status.start_time.clone();
    other.spec.containers[0].resources.requests.insert("cpu".to_owned(), "1".to_owned());
    snapshot.set_pod(Arc::new(other));
    let info = snapshot.node("a").unwrap();
    assert_eq!((info.used["cpu"], info.crowds()[0].ending), (1000, 1));
    snapshot.remove_pod("p");
    let info = snapshot.node("a").unwrap();
    assert_eq!((info.used["cpu"], info.weight, info.crowds().len()), (0, [0, 0], 0));
    assert_eq!(snapshot.kin().get(&Kin::of(&pod)), None);
}

#[test]
fn labels_and_images_of_nodes_have_numbers() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node(serde_json::json!({"zone": "1", "disk": "ssd"})));
    let (zone, disk) = (snapshot.key("zone").unwrap(), snapshot.key("disk").unwrap());
    let info = snapshot.node("a").unwrap();
    assert!(info.pair(zone).is_some() && info.pair(disk).is_some() && info.pair(zone) != info.pair(disk));
    let (image, size, nodes) = snapshot.image("x:1").unwrap();
    assert_eq!((info.has_image(image), size, nodes), (true, 7, 1));
    snapshot.set_node(node(serde_json::json!({"zone": "2"})));
    assert_eq!((snapshot.key("disk"), snapshot.pairs()), (None, 3));
    snapshot.remove_node("a");
    assert_eq!((snapshot.key("zone"), snapshot.image("x:1"), snapshot.len()), (None, None, 0));
}

#[test]
fn nodes_come_and_go_before_and_after_their_pods() {
    let mut snapshot = Snapshot::default();
    let known = |snapshot: &Snapshot| -> Vec<String> {
        snapshot.nodes_from(1).map(|info| info.node.as_ref().unwrap().metadata.name.clone()).collect()
    };
    let pod = serde_json::json!({"metadata": {"uid": "p"}, "spec": {"nodeName": "c"}});
    snapshot.set_pod(Arc::new(serde_json::from_value(pod).unwrap()));
    for name in ["a", "b", "c"] {
        let node = serde_json::json!({"metadata": {"name": name}});
        snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    assert_eq!((known(&snapshot), snapshot.len()), (vec!["a".into(), "b".into(), "c".into()], 3));
    snapshot.remove_node("c");
    snapshot.remove_node("a");
    assert_eq!((known(&snapshot), snapshot.node("c").is_some()), (vec!["b".to_owned()], false));
    snapshot.remove_pod("p");
    assert!(snapshot.node("b").is_some() && snapshot.nodes.len() == 1);
    snapshot.remove_node("b");
    assert!(snapshot.is_empty() && snapshot.nodes.is_empty() && snapshot.at.is_empty());
}
