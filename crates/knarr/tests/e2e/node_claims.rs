//! Dynamic resources: a claim's device reaches a container by the example's driver, and goes back. Once a test gives a
//! pod its device by hand, past the scheduler; then everything is the cluster's own.

use std::path::Path;

use crate::cluster::Cluster;
use crate::dra_driver::Driver;
use crate::node_devices::kubelet_folder;
use crate::node_pods::nodes;

const CLASS: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: e2e}
spec: {selectors: [{cel: {expression: \"device.driver == 'dra.e2e.example.com'\"}}]}
";

const THING: &str = "
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

/// A cluster of one node with a driver that has two devices, and their class.
pub struct Devices {
    pub cluster: Cluster,
    node: String,
    /// The driver runs here.
    _runtime: tokio::runtime::Runtime,
}

impl Devices {
    /// `None` where there cannot be one.
    pub fn up() -> Option<Self> {
        if crate::peer_runtime::is_containerd() {
            eprintln!("skipped: containerd 1.6 gives containers no devices by CDI");
            return None;
        }
        let cluster = nodes("1")?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = cluster.k("get node -o jsonpath={.items[0].metadata.name}").trim().to_owned();
        let yaml = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let driver = Driver {
            name: "dra.e2e.example.com".to_owned(),
            node: node.clone(),
            kubelet: kubelet_folder(&cluster),
            cdi: "/var/run/cdi".into(),
            devices: 2,
            client: runtime.block_on(client::connect::kubeconfig(&yaml)).unwrap(),
        };
        runtime.spawn(async move { driver.run().await.unwrap() });
        cluster.becomes("get resourceslices -o jsonpath={.items[*].spec.driver}", "dra.e2e.example.com");
        cluster.apply(CLASS);
        Some(Self { cluster, node, _runtime: runtime })
    }
}

#[test]
fn a_claims_device_reaches_its_container_once_the_claim_is_allocated() {
    let Some(Devices { cluster, node, _runtime }) = Devices::up() else { return };
    cluster.apply(THING);
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
        // Another kubelet knows none of these places.
        if crate::upstream::wanted().is_some() {
            return;
        }
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
    cluster.k("wait --for=condition=Ready pod/user --timeout=120s");
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
    // Upstream's looks once a minute for claims of pods that went while it was away.
    if crate::upstream::wanted().is_none() {
        cluster.until("the driver to have its device back", || !Path::new(&file).exists());
    }
}

pub const TEMPLATE: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: one}
spec:
  metadata: {labels: {made: here}}
  spec: {devices: {requests: [{name: one, exactly: {deviceClassName: e2e}}]}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: big}
spec:
  devices:
    requests:
    - name: one
      exactly:
        deviceClassName: e2e
        selectors:
        - cel:
            expression: >-
              device.attributes['dra.e2e.example.com'].number > 0 &&
              device.capacity['dra.e2e.example.com'].memory.compareTo(quantity('2Gi')) >= 0
";

/// A pod whose claim is made from the template, or is the one of a name.
pub fn scheduled(name: &str, claim: &str) -> String {
    let (of, claim) = match claim {
        "" => ("resourceClaimTemplateName", "one"),
        claim => ("resourceClaimName", claim),
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         resourceClaims: [{{name: mine, {of}: {claim}}}]\n  containers:\n  - name: c\n    \
         image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    command: [sleep, '1000']\n    \
         resources: {{claims: [{{name: mine}}]}}\n"
    )
}

/// `DEVICE=CLAIM` as a container sees it.
pub fn device(cluster: &Cluster, pod: &str) -> (String, String) {
    cluster.k(&format!("wait --for=condition=Ready pod/{pod} --timeout=60s"));
    let seen = cluster.k(&format!("exec {pod} -- sh -c 'env | grep ^DRA_'"));
    let (device, claim) = seen.trim().split_once('=').unwrap();
    (device.to_owned(), claim.to_owned())
}

const NOWHERE: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: classless}
spec: {devices: {requests: [{name: one, exactly: {deviceClassName: none}}]}}
";

/// Administrators' access to devices is for namespaces that allow it.
fn access_is_asked_for_where_it_may_be(cluster: &Cluster) {
    let admin = NOWHERE.replace("deviceClassName: none", "deviceClassName: e2e, adminAccess: true");
    let refused = cluster.try_apply(&admin, &[]).unwrap_err();
    let why = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the \
               `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    assert!(refused.contains(why), "{refused}");
    cluster.k("create namespace admin");
    cluster.k("label namespace admin resource.kubernetes.io/admin-access=true");
    cluster.try_apply(&admin, &["-n", "admin"]).unwrap();
}

/// Pods that wait for their claims, by what kubectl describes.
fn what_waits_says_why(cluster: &Cluster) {
    cluster.apply(NOWHERE);
    cluster.apply(&scheduled("classless", "classless"));
    // Nobody says anything of a claim that is missing: upstream does not either.
    cluster.apply(&scheduled("claimless", "missing"));
    let templateless = scheduled("templateless", "")
        .replace("resourceClaimTemplateName: one", "resourceClaimTemplateName: nothing");
    cluster.apply(&templateless);
    let what = "0/1 nodes are available: request one: device class none does not exist.";
    let rest = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    cluster.shows("describe pod classless", what);
    cluster.says("describe pod classless", &["FailedScheduling", "default-scheduler", what, rest]);
    let condition = "get pod classless -o jsonpath='{.status.conditions[0].observedGeneration} \
                     {.status.conditions[0].reason} {.status.conditions[0].message}'";
    let [between, _] = crate::control_plane::of_claims();
    cluster.becomes(condition, &format!("1 Unschedulable {what}{between} {rest}"));
    let why = "PodResourceClaim mine: resource claim template \"nothing\": resourceclaimtemplate.resource.k8s.io \"nothing\" not \
               found";
    cluster.shows("describe pod templateless", why);
    cluster.says("describe pod templateless", &["FailedResourceClaimCreation", "resource_claim", why]);
    let silent = cluster.k("describe pod claimless");
    assert!(
        silent.contains("Events:                      <none>") || silent.contains("Events:  <none>"),
        "{silent}"
    );
    // Once what was missing is there, they go on.
    cluster.apply(&NOWHERE.replace("classless", "missing").replace("none", "e2e"));
    cluster.k("wait --for=condition=Ready pod/claimless --timeout=30s");
    cluster.k("delete pod classless claimless templateless");
    cluster.k("delete resourceclaim classless missing");
}

#[test]
fn pods_get_devices_that_the_scheduler_gives_them() {
    let Some(devices) = Devices::up() else { return };
    let cluster = &devices.cluster;
    cluster.apply(TEMPLATE);
    what_waits_says_why(cluster);
    access_is_asked_for_where_it_may_be(cluster);
    let broken = "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: broken}\n\
                  spec: {selectors: [{cel: {expression: device.driver}}]}\n";
    let refused = cluster.try_apply(broken, &[]).unwrap_err();
    assert!(refused.contains("must evaluate to bool or the unknown type, not string"), "{refused}");

    for name in ["first", "second"] {
        cluster.apply(&scheduled(name, ""));
    }
    let (first, second) = (device(cluster, "first"), device(cluster, "second"));
    assert_ne!(first.0, second.0);
    assert!(
        first.1.starts_with("first-mine-") && second.1.starts_with("second-mine-"),
        "{first:?} {second:?}"
    );
    let made = cluster.k(&format!("get resourceclaim {} -o jsonpath={{.metadata.labels.made}}", first.1));
    assert_eq!(made, "here");

    cluster.apply(&scheduled("third", ""));
    let message = "get pod third -o jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
    let [_, between] = crate::control_plane::of_claims();
    let why = format!(
        "0/1 nodes are available: 1 cannot allocate all claims.{between} preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
    cluster.becomes(message, &why);
    cluster.k("delete pod first");
    let third = device(cluster, "third");
    assert_eq!(third.0, first.0, "what the first one had");
    cluster.k("delete pod second third");
    cluster.becomes("get resourceclaims -o jsonpath={.items[*].metadata.name}", "big");

    for name in ["left", "right"] {
        cluster.apply(&scheduled(name, "big"));
    }
    let both = ["left", "right"].map(|name| device(cluster, name));
    assert_eq!(
        both.clone(),
        ["DRA_DEVICE_1", "DRA_DEVICE_1"].map(|device| (device.to_owned(), "big".to_owned()))
    );
    let users = cluster.k("get resourceclaim big -o jsonpath={.status.reservedFor[*].name}");
    let mut users: Vec<&str> = users.split_whitespace().collect();
    users.sort_unstable();
    assert_eq!(users, ["left", "right"]);
    cluster.k("delete pod left right");
    cluster.becomes("get resourceclaim big -o jsonpath={.status.allocation}", "");
    cluster.becomes("get resourceclaim big -o jsonpath={.metadata.finalizers}", "");
}
