//! Dynamic resources: a claim's device reaches a container by the example's driver, and goes back.
//!
//! Nobody allocates claims here yet: the test writes what the scheduler would.

use std::path::Path;

use crate::cluster::Cluster;
use crate::dra_driver::Driver;
use crate::node_devices::kubelet_folder;
use crate::node_pods::nodes;

const OBJECTS: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: e2e}
spec: {selectors: [{cel: {expression: \"device.driver == 'dra.e2e.example.com'\"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: thing}
spec: {devices: {requests: [{name: one, exactly: {deviceClassName: e2e}}]}}
";

fn pod(node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: user}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 0\n  \
         resourceClaims: [{{name: mine, resourceClaimName: thing}}]\n  containers:\n  - name: c\n    \
         image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    command: [sleep, '1000']\n    \
         resources: {{claims: [{{name: mine}}]}}\n"
    )
}

fn drive(cluster: &Cluster, runtime: &tokio::runtime::Runtime, node: &str) {
    let yaml = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let client = runtime.block_on(client::connect::kubeconfig(&yaml)).unwrap();
    let driver = Driver {
        name: "dra.e2e.example.com".to_owned(),
        node: node.to_owned(),
        kubelet: kubelet_folder(cluster),
        cdi: "/var/run/cdi".into(),
        devices: 2,
        client,
    };
    runtime.spawn(async move { driver.run().await.unwrap() });
}

#[test]
fn a_claims_device_reaches_its_container_once_the_claim_is_allocated() {
    if crate::containerd::wanted().is_some() {
        eprintln!("skipped: containerd 1.6 gives containers no devices by CDI");
        return;
    }
    let Some(cluster) = nodes("1") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = cluster.k("get node -o jsonpath={.items[0].metadata.name}").trim().to_owned();
    drive(&cluster, &runtime, &node);
    cluster.becomes("get resourceslices -o jsonpath={.items[*].spec.driver}", "dra.e2e.example.com");
    cluster.apply(OBJECTS);
    cluster.apply(&pod(&node));
    cluster.shows("describe pod user", "FailedPrepareDynamicResources");
    let uid = cluster.k("get pod user -o jsonpath={.metadata.uid}");
    cluster.says(
        "describe pod user",
        &[&format!("prepare dynamic resources: pod user ({uid}) is not allowed to use ResourceClaim thing")],
    );
    let armed = cluster.failpoints();
    std::fs::create_dir(&armed).unwrap();
    let killed_at = |place: &str| {
        cluster.until(place, || armed.join(format!("{place}.hit")).exists());
        cluster.again();
    };
    for place in ["kubelet.claims.noted", "kubelet.claims.prepared", "kubelet.claims.unprepared"] {
        std::fs::write(armed.join(place), "").unwrap();
    }
    let status = serde_json::json!({"status": {
        "allocation": {"devices": {"results": [
            {"request": "one", "driver": "dra.e2e.example.com", "pool": node, "device": "device-1"}]}},
        "reservedFor": [{"resource": "pods", "name": "user", "uid": uid}],
    }});
    cluster.kubectl(&[
        "patch",
        "resourceclaim",
        "thing",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);
    killed_at("kubelet.claims.noted");
    killed_at("kubelet.claims.prepared");
    cluster.k("wait --for=condition=Ready pod/user --timeout=30s");
    assert_eq!(cluster.k("exec user -- sh -c 'echo $DRA_DEVICE_1'").trim(), "thing");
    let health =
        cluster.k("get pod user -o jsonpath={.status.containerStatuses[0].allocatedResourcesStatus[0]}");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(
        (&health["name"], &health["resources"][0]["health"]),
        (&"claim:mine".into(), &"Unknown".into())
    );
    let claim = cluster.k("get resourceclaim thing -o jsonpath={.metadata.uid}");
    let file = format!("/var/run/cdi/dra.e2e.example.com-{claim}.json");
    assert!(Path::new(&file).exists(), "{file}");
    // The kubelet goes and comes: the claim is still the pod's, and given back after it.
    cluster.kill();
    cluster.again();
    cluster.k("delete pod user --wait=false");
    killed_at("kubelet.claims.unprepared");
    cluster.until("the pod to go", || cluster.try_kubectl(&["get", "pod", "user"]).is_err());
    cluster.until("the driver to have its device back", || !Path::new(&file).exists());
}
