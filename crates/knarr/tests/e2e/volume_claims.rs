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
    let event = "get events --field-selector reason=FailedBinding -o jsonpath={.items[0].message}";
    let message = "ephemeral volume scratch: PVC default/p-scratch was not created for pod default/p (pod is not owner)";
    cluster.becomes(event, message);
}
