use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::Call;
use testkit::nodes::SimulatedNode;

use super::{PODS, account, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugins_fill_in_what_a_pod_leaves_out() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let class = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
    let _ = Call::post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).send(client).await.expect(201);
    let runtime = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"memory": "120Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}}});
    let _ = Call::post("/apis/node.k8s.io/v1/runtimeclasses", &runtime).send(client).await.expect(201);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"memory": "64Mi"}, "max": {"memory": "1Gi"}}]}});
    let ranges = "/api/v1/namespaces/default/limitranges";
    let _ = Call::post(ranges, &range).send(client).await.expect(201);
    // Plugins look into the watch cache; who has read the range knows that it is there.
    let _ = Call::get(format!("{ranges}/r")).send(client).await.expect(200);

    let asked = pod("a", json!({"priorityClassName": "high", "runtimeClassName": "vm"}));
    let made = Call::post(PODS, &asked).send(client).await.expect(201).json();
    let spec = &made["spec"];
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(1000), &json!("Never")));
    assert_eq!(
        (&spec["overhead"], &spec["nodeSelector"]),
        (&json!({"memory": "120Mi"}), &json!({"vm": "yes"}))
    );
    let resources = json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi"}});
    assert_eq!(spec["containers"][0]["resources"], resources);
    let keys: Vec<&Value> = spec["tolerations"].as_array().unwrap().iter().map(|t| &t["key"]).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert!(spec["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(
        (&made["status"]["qosClass"], &made["metadata"]["generation"]),
        (&json!("Burstable"), &json!(1))
    );

    let limits = json!({"limits": {"memory": "2Gi"}});
    let containers = json!([{"name": "c", "image": "i", "resources": limits}]);
    for (spec, why) in [
        (
            json!({"containers": containers}),
            "pods \"b\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            json!({"priorityClassName": "none"}),
            "pods \"b\" is forbidden: no PriorityClass with name none was found",
        ),
        (
            json!({"runtimeClassName": "none"}),
            "pods \"b\" is forbidden: pod rejected: RuntimeClass \"none\" not found",
        ),
        (
            json!({"serviceAccountName": "none"}),
            "pods \"b\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found",
        ),
    ] {
        assert_eq!(Call::post(PODS, &pod("b", spec)).send(client).await.expect(403).message(), why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_says_how_much_its_pods_may_do() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    let namespace = json!({"metadata": {"name": "safe", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}});
    let _ = Call::post("/api/v1/namespaces", &namespace).send(client).await.expect(201);
    account(client, "safe").await;
    let pods = "/api/v1/namespaces/safe/pods";
    let refused =
        Call::post(pods, &pod("a", json!({"hostNetwork": true, "hostPID": true}))).send(client).await;
    let why = "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": \
               host namespaces (hostNetwork=true, hostPID=true)";
    assert_eq!(refused.expect(403).message(), why);
    let would = "would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
                 (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities \
                 (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or \
                 container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must \
                 set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(Call::post(pods, &pod("a", json!({}))).send(client).await.expect(201).warnings(), [would]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authors_of_pods_and_of_their_templates_are_warned() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let containers = json!([{"name": "c", "image": "i", "env": twice}]);
    let made = Call::post(PODS, &pod("a", json!({"containers": containers}))).send(client).await.expect(201);
    let warning = "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply";
    assert_eq!(made.warnings(), [warning]);
    let labels = json!({"app": "a"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}, "template": template}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let made = Call::post(deployments, &deployment).send(client).await.expect(201);
    assert_eq!(made.warnings(), [format!("spec.template.{warning}")]);
    // Who changes something else is not told again.
    let scaled = Call::patch(format!("{deployments}/d"), &json!({"metadata": {"labels": {"x": "y"}}}));
    assert_eq!(scaled.send(client).await.expect(200).warnings(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_makes_mirrors_and_nothing_else() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin();
    account(admin, "default").await;
    let _ = SimulatedNode::join(admin, "n", cluster.clock().now()).await;
    let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}});
    let node = Call::patch("/api/v1/nodes/n", &zone).send(admin).await.expect(200).json();
    let kubelet = &cluster.client_as("system:node:n", &["system:nodes"]);

    let mut mirror = pod("m", json!({"nodeName": "n"}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    mirror["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n",
        "uid": node["metadata"]["uid"], "controller": true}]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = mirror.clone();
        change(&mut changed);
        changed
    };
    let rows = [
        (
            with(&|pod| pod["metadata"]["annotations"] = json!({})),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (
            with(&|pod| pod["spec"]["nodeName"] = "o".into()),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        ),
        (
            with(&|pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into()),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        ),
        (
            with(&|pod| pod["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "m"}}])),
            "node \"n\" can not create pods that reference configmaps (via configmap volumes)",
        ),
    ];
    for (pod, why) in rows {
        let refused = Call::post(PODS, &pod).send(kubelet).await.expect(403);
        assert_eq!(refused.message(), format!("pods \"m\" is forbidden: {why}"));
    }
    let made = Call::post(PODS, &mirror).send(kubelet).await.expect(201).json();
    assert_eq!(made["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
    assert_eq!(made["spec"]["serviceAccountName"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_asks_for_certificates_of_the_pods_on_its_node_alone() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin();
    account(admin, "default").await;
    let _ = SimulatedNode::join(admin, "n", cluster.clock().now()).await;
    let _ = Call::post(PODS, &pod("p", json!({"nodeName": "n"}))).send(admin).await.expect(201);
    let _ = Call::post(PODS, &pod("q", json!({"nodeName": "o"}))).send(admin).await.expect(201);
    let uid = async |path: &str| {
        let found = Call::get(path).send(admin).await.expect(200).json();
        found["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let (node, own, other) =
        (uid("/api/v1/nodes/n").await, uid(&format!("{PODS}/p")).await, uid(&format!("{PODS}/q")).await);
    let account = uid("/api/v1/namespaces/default/serviceaccounts/default").await;
    let (stub, _) = auth::pki::stub_request("ED25519").unwrap();
    let request = json!({"metadata": {"name": "r"}, "spec": {
        "signerName": "example.com/s", "nodeName": "n", "nodeUID": node, "podName": "p", "podUID": own,
        "serviceAccountName": "default", "serviceAccountUID": account, "maxExpirationSeconds": 3600,
        "stubPKCS10Request": STANDARD.encode(&stub)}});
    let with = |changes: Value| {
        let mut changed = request.clone();
        for (field, value) in changes.as_object().unwrap() {
            changed["spec"][field] = value.clone();
        }
        changed
    };
    let requests = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";
    let kubelet = &cluster.client_as("system:node:n", &["system:nodes"]);
    let mut forged = stub.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (changes, why) in [
        (json!({"podName": "q", "podUID": other}), "the pod is not running on the requesting node"),
        (json!({"nodeName": "o"}), "spec.nodeName is not the requesting node"),
        (json!({"podUID": other}), "spec.podUID is not the pod's"),
        (json!({"serviceAccountUID": "x"}), "spec.serviceAccountUID is not the service account's"),
        (json!({"stubPKCS10Request": STANDARD.encode(forged)}), "spec.stubPKCS10Request: "),
    ] {
        let refused = Call::post(requests, &with(changes)).send(kubelet).await.expect(403);
        assert!(refused.message().contains(why), "{why}: {}", refused.message());
    }
    let _ = Call::post(requests, &request).send(kubelet).await.expect(201);
    // Whoever may not sign for the signer issues nothing, least of all a kubelet.
    let status = Call::patch(format!("{requests}/r/status"), &json!({"status": {"conditions": []}}));
    let _ = status.send(kubelet).await.expect(403);
    let _ = Call::delete(format!("{requests}/r")).send(kubelet).await.expect(403);
}
