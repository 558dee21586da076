use schema::Object;

use super::image::is_latest;

fn pod(json: &str) -> Object {
    let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
    let mut pod = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    super::pod(&mut pod);
    super::settle(&mut pod);
    pod
}

#[test]
fn images_whose_tag_moves() {
    for image in ["nginx", "nginx:latest", "localhost:5000/nginx", "a/b/c"] {
        assert!(is_latest(image), "{image}");
    }
    for image in ["nginx:1.22", "localhost:5000/nginx:1", "nginx@sha256:00"] {
        assert!(!is_latest(image), "{image}");
    }
}

#[test]
fn classes_of_service_follow_from_amounts_and_not_from_their_spelling() {
    let container = |resources: &str| format!(r#"{{"name":"c","image":"i","resources":{resources}}}"#);
    for (resources, class) in [
        ("{}", "BestEffort"),
        (r#"{"requests":{"cpu":"0"}}"#, "BestEffort"),
        (r#"{"requests":{"cpu":"1"}}"#, "Burstable"),
        (r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, "Guaranteed"),
        (
            r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1000m","memory":"1024Mi"}}"#,
            "Guaranteed",
        ),
        (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m"}}"#, "Burstable"),
        (r#"{"limits":{"cpu":"1"}}"#, "Burstable"),
    ] {
        let pod = pod(&format!(r#"{{"spec":{{"containers":[{}]}}}}"#, container(resources)));
        assert_eq!(pod.str_at(&["status", "qosClass"]), Some(class), "{resources}");
    }
    // A pod that says nothing as a whole is as its containers are.
    let requests = container(r#"{"requests":{"cpu":"1"}}"#);
    let pod = pod(&format!(r#"{{"spec":{{"resources":{{}},"containers":[{requests}]}}}}"#));
    assert_eq!(pod.str_at(&["status", "qosClass"]), Some("Burstable"));
}

#[test]
fn a_pod_as_a_whole_gets_what_its_containers_need_together() {
    let pod = pod(r#"{"spec":{"resources":{"limits":{"cpu":"2","memory":"4Gi"}},
            "initContainers":[
                {"name":"s","image":"i","restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}},
                {"name":"j","image":"i","resources":{"requests":{"memory":"3Gi"}}}],
            "containers":[{"name":"c","image":"i","resources":{"limits":{"memory":"2Gi"}}}]}}"#);
    let request = |name| pod.str_at(&["spec", "resources", "requests", name]);
    assert_eq!((request("cpu"), request("memory")), (Some("1"), Some("3Gi")));
}

#[test]
fn only_pods_get_host_ports_and_a_grace_that_is_not_negative() {
    let spec = r#"{"hostNetwork":true,"terminationGracePeriodSeconds":-5,
        "containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}"#;
    let port = |spec: &Object| {
        let container = spec.list_at(&["containers"]).unwrap()[0].as_struct().unwrap();
        container.list_at(&["ports"]).unwrap()[0].child("hostPort").and_then(schema::Value::as_int)
    };
    let pod = pod(&format!(r#"{{"spec":{spec}}}"#));
    let spec_of = pod.struct_at(&["spec"]).unwrap();
    assert_eq!(port(spec_of), Some(80));
    assert_eq!(spec_of.int_at(&["terminationGracePeriodSeconds"]), Some(1));
    let kind = schema::catalogue::builtin().kind("", "v1", "PodTemplate").unwrap();
    let json = format!(r#"{{"template":{{"spec":{spec}}}}}"#);
    let mut template = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    super::template_defaults(template.struct_mut("template").unwrap());
    let spec_of = template.struct_at(&["template", "spec"]).unwrap();
    assert_eq!(port(spec_of), None);
    assert_eq!(spec_of.int_at(&["terminationGracePeriodSeconds"]), Some(-5));
    assert_eq!(spec_of.get("enableServiceLinks"), None);
}

#[test]
fn an_address_and_the_list_of_addresses_stay_in_step() {
    for (status, ip, first) in [
        (r#"{"podIP":"1.1.1.1"}"#, "1.1.1.1", "1.1.1.1"),
        (r#"{"podIPs":[{"ip":"2.2.2.2"}]}"#, "2.2.2.2", "2.2.2.2"),
        (r#"{"podIP":"1.1.1.1","podIPs":[{"ip":"2.2.2.2"}]}"#, "1.1.1.1", "1.1.1.1"),
    ] {
        let pod = pod(&format!(r#"{{"status":{status}}}"#));
        assert_eq!(pod.str_at(&["status", "podIP"]), Some(ip), "{status}");
        let list = pod.list_at(&["status", "podIPs"]).unwrap();
        assert_eq!(list[0].child("ip").and_then(schema::Value::as_str), Some(first), "{status}");
    }
}
