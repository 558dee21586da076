//! Claims that controllers make.

use crate::cluster::Cluster;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: c, image: x}]
  volumes:
  - name: scratch
    ephemeral:
      volumeClaimTemplate:
        metadata: {labels: {made: for-p}}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: p-scratch}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

#[test]
fn an_ephemeral_volume_has_a_claim_that_lives_and_dies_with_its_pod() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.apply(POD);
    let owner = "get pvc p-scratch -o jsonpath={.metadata.ownerReferences[0].name},{.metadata.labels.made}";
    cluster.becomes(owner, "p,for-p");
    cluster.k("delete pvc p-scratch --wait=false");
    cluster.becomes(owner, "p,for-p");
    cluster.k("delete pod p --now");
    cluster.becomes("get pvc -o name", "");

    // Somebody else's claim of its name is not taken.
    cluster.apply(CLAIM);
    cluster.apply(POD);
    let event = "get events --field-selector reason=FailedBinding,involvedObject.kind=Pod -o jsonpath={.items[0].message}";
    let message = "ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)";
    cluster.becomes(event, message);
}

const VOLUMES: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: small}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/small}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: large}
spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/large}}
";

const LARGE: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
";

/// It runs nowhere, but somebody said that it does.
const USER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: user}
spec:
  nodeName: nowhere
  containers: [{name: c, image: x}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

const DEFAULT: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: disks, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}
provisioner: example.com/disks
";

#[test]
fn claims_and_volumes_find_each_other_and_are_held_while_they_are_used() {
    let cluster = Cluster::up(&["--control-plane-only"]);
    cluster.apply(LARGE);
    let event = "get events --field-selector involvedObject.name=data -o jsonpath={.items[*].message}";
    cluster.shows(event, "no persistent volumes available for this claim and no storage class is set");

    // The smallest that is large enough.
    cluster.apply(VOLUMES);
    cluster.becomes(
        "get pvc data -o jsonpath={.status.phase},{.spec.volumeName},{.status.capacity.storage}",
        "Bound,large,5Gi",
    );
    cluster.becomes("get pv large -o jsonpath={.status.phase},{.spec.claimRef.name}", "Bound,data");
    cluster.becomes("get pv small -o jsonpath={.status.phase}", "Available");
    let since =
        cluster.k("get pv large -o jsonpath={.status.lastPhaseTransitionTime},{.metadata.generation}");
    assert!(since.ends_with("Z,"), "{since}");

    // Neither goes while it is used.
    cluster.apply(USER);
    cluster.k("delete pvc data --wait=false");
    cluster.k("delete pv large --wait=false");
    cluster.becomes("get pvc data -o jsonpath={.metadata.finalizers}", "[\"kubernetes.io/pvc-protection\"]");
    cluster.becomes("get pv large -o jsonpath={.metadata.finalizers}", "[\"kubernetes.io/pv-protection\"]");
    cluster.k("delete pod user --force --grace-period=0");
    cluster.becomes("get pvc -o name", "");
    cluster.becomes("get pv -o name", "persistentvolume/small");

    // What is kept is released, and nobody else's until somebody says so.
    cluster.apply(&LARGE.replace("2Gi", "1Gi"));
    cluster.becomes("get pvc data -o jsonpath={.status.phase}", "Bound");
    cluster.k("delete pvc data");
    cluster.becomes("get pv small -o jsonpath={.status.phase}", "Released");
    cluster.apply(&LARGE.replace("2Gi", "1Gi"));
    cluster.becomes("get pvc data -o jsonpath={.status.phase}", "Pending");
    cluster.k("patch pv small --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/claimRef\"}]");
    cluster.becomes("get pvc data -o jsonpath={.status.phase},{.spec.volumeName}", "Bound,small");

    // New claims get the default class, whose provisioner is asked; older ones that wait get it, too.
    cluster.apply(&LARGE.replace("name: data", "name: old"));
    cluster.shows("get pvc old -o jsonpath={.status.phase}", "Pending");
    cluster.apply(DEFAULT);
    cluster.apply(&LARGE.replace("name: data", "name: new"));
    assert_eq!(cluster.k("get pvc new -o jsonpath={.spec.storageClassName}"), "disks");
    let asked = "-o jsonpath={.spec.storageClassName},{.metadata.annotations.volume\\.kubernetes\\.io/storage-provisioner}";
    cluster.becomes(&format!("get pvc old {asked}"), "disks,example.com/disks");
    cluster.becomes(&format!("get pvc new {asked}"), "disks,example.com/disks");
    let event = "get events --field-selector involvedObject.name=new -o jsonpath={.items[*].reason}";
    cluster.shows(event, "ExternalProvisioning");
}
