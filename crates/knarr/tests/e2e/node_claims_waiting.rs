//! Dynamic resources: devices that come by a plain name, that are awaited, and that have taints.

use crate::cluster::Cluster;
use crate::node_claims::{Devices, TEMPLATE, device, scheduled};

/// A pod that asks for a device by the plain name of a resource.
fn plain(name: &str) -> String {
    let ask = "resources: {limits: {e2e.example.com/thing: 1}}";
    let whole =
        scheduled(name, "").replace("  resourceClaims: [{name: mine, resourceClaimTemplateName: one}]\n", "");
    whole.replace("resources: {claims: [{name: mine}]}", ask)
}

#[test]
fn devices_come_by_a_plain_name_are_awaited_and_go_with_taints() {
    let Some(devices) = Devices::up() else { return };
    let cluster = &devices.cluster;
    cluster.apply(TEMPLATE);
    cluster.k("delete resourceclaim big");
    a_plain_name_will_do(cluster);
    devices_are_awaited(cluster);
    taints_end_pods(cluster);
}

fn a_plain_name_will_do(cluster: &Cluster) {
    cluster.apply(&plain("before"));
    cluster.shows("describe pod before", "1 Insufficient e2e.example.com/thing");
    let resource = r#"{"spec":{"extendedResourceName":"e2e.example.com/thing"}}"#;
    cluster.kubectl(&["patch", "deviceclass", "e2e", "--type=merge", "-p", resource]);
    let (_, claim) = device(cluster, "before");
    assert!(claim.starts_with("before-extended-resources-"), "{claim}");
    let status = cluster.k("get pod before -o jsonpath={.status.extendedResourceClaimStatus}");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let mapping = serde_json::json!({"containerName": "c", "resourceName": "e2e.example.com/thing",
        "requestName": "container-0-request-0"});
    assert_eq!(
        (&status["resourceClaimName"], &status["requestMappings"][0]),
        (&claim.as_str().into(), &mapping)
    );
    let marked = cluster.k(&format!("get resourceclaim {claim} -o jsonpath={{.metadata.annotations}}"));
    assert_eq!(marked, r#"{"resource.kubernetes.io/extended-resource-claim":"true"}"#);
    for name in ["second", "third"] {
        cluster.apply(&plain(name));
    }
    cluster.k("wait --for=condition=Ready pod/second --timeout=30s");
    cluster.shows("describe pod third", "0/1 nodes are available: 1 cannot allocate all claims.");
    cluster.k("delete pod before second third");
    cluster.becomes("get resourceclaims -o jsonpath={.items[*].metadata.name}", "");
}

fn devices_are_awaited(cluster: &Cluster) {
    let slice = cluster.k("get resourceslices -o jsonpath={.items[0].metadata.name}");
    let (ready, broken) = (r#"["ready.example.com"]"#, r#"["broken.example.com"]"#);
    let patch = [0, 1].map(|number| {
        format!(
            r#"{{"op":"add","path":"/spec/devices/{number}/bindingConditions","value":{ready}}},
               {{"op":"add","path":"/spec/devices/{number}/bindingFailureConditions","value":{broken}}}"#
        )
    });
    let patch = format!("[{}]", patch.join(","));
    cluster.kubectl(&["patch", "resourceslice", slice.trim(), "--type=json", "-p", &patch]);
    cluster.apply(&scheduled("awaited", ""));
    let tell = |condition: &str| {
        let claim = cluster.k("get resourceclaims -o jsonpath={.items[0].metadata.name}");
        let result =
            format!("get resourceclaim {claim} -o jsonpath={{.status.allocation.devices.results[0]}}");
        let result: serde_json::Value = serde_json::from_str(&cluster.k(&result)).unwrap();
        let condition = serde_json::json!({"type": condition, "status": "True", "reason": "Test", "message": "told",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let device = serde_json::json!({"driver": result["driver"], "pool": result["pool"],
            "device": result["device"], "conditions": [condition]});
        let patch = serde_json::json!({"status": {"devices": [device]}}).to_string();
        cluster.kubectl(&[
            "patch",
            "resourceclaim",
            &claim,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
        result["device"].clone()
    };
    cluster.shows("describe pod awaited", "waiting for binding conditions for device on node");
    cluster.says("describe pod awaited", &["BindingConditionsPending"]);
    assert_eq!(cluster.k("get pod awaited -o jsonpath={.spec.nodeName}"), "");
    // It does not get the first one, and is given another try.
    tell("broken.example.com");
    cluster.shows("describe pod awaited", "device binding failed: claim=");
    cluster.shows("describe pod awaited", "deallocation of ResourceClaim completed");
    let told = "get resourceclaims -o jsonpath={.items[0].status}";
    cluster.until("new devices", || {
        let told = cluster.k(told);
        told.contains("\"allocation\"") && !told.contains("\"conditions\"")
    });
    tell("ready.example.com");
    device(cluster, "awaited");
    let patch = [0, 1].map(|number| {
        format!(
            r#"{{"op":"remove","path":"/spec/devices/{number}/bindingConditions"}},
               {{"op":"remove","path":"/spec/devices/{number}/bindingFailureConditions"}}"#
        )
    });
    let patch = format!("[{}]", patch.join(","));
    cluster.kubectl(&["patch", "resourceslice", slice.trim(), "--type=json", "-p", &patch]);
    cluster.k("delete pod awaited");
}

const RULE: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceTaintRule
metadata: {name: broken}
spec: {deviceSelector: {driver: dra.e2e.example.com}, taint: {key: broken, effect: None}}
";

fn taints_end_pods(cluster: &Cluster) {
    if !cluster.serves("resource.k8s.io/v1", "devicetaintrules") {
        eprintln!(
            "skipped in part: the API server has no rules that taint devices (v1 is served from 1.37 on)"
        );
        return;
    }
    cluster.apply(&scheduled("tainted", ""));
    device(cluster, "tainted");
    cluster.apply(RULE);
    let told = "get devicetaintrule broken -o jsonpath='{.status.conditions[0].type} {.status.conditions[0].status} \
                {.status.conditions[0].reason} {.status.conditions[0].message}'";
    let would = "EvictionInProgress False NoEffect 2 published devices selected. 1 allocated device selected. 1 pod \
                 would be evicted in 1 namespace if the effect was NoExecute. This information will not be updated \
                 again. Recreate the DeviceTaintRule to trigger an update.";
    cluster.becomes(told, would);
    cluster.apply(&RULE.replace("effect: None", "effect: NoExecute"));
    cluster.until("the pod to go", || cluster.try_kubectl(&["get", "pod", "tainted"]).is_err());
    let events =
        cluster.k("get events -o custom-columns=A:.reason,B:.source.component,C:.message --no-headers");
    let eviction = events.lines().find(|line| line.starts_with("DeviceTaintManagerEviction")).unwrap();
    let words: Vec<&str> = eviction.split_whitespace().collect();
    assert_eq!(words[1..], ["device-taint-eviction-controller", "Marking", "for", "deletion"]);
    cluster.apply(&scheduled("after", ""));
    cluster.shows("describe pod after", "0/1 nodes are available: 1 cannot allocate all claims.");
    cluster.k("delete devicetaintrule broken");
    device(cluster, "after");
}
