//! Volumes that are claimed, on a node: its kubelet finds what its pods' claims are bound to.

use crate::node_pods::nodes_with;

const POD: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: local, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000}
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sh, -c, 'echo kept > /data/file; sleep 1000']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

#[test]
fn node_mounts_what_a_claim_is_bound_to() {
    let Some(cluster) = nodes_with(&["--nodes", "2"]) else { return };
    let folder = cluster.dir().join("disk");
    std::fs::create_dir(&folder).unwrap();
    let node = cluster.k("get nodes -o jsonpath={.items[1].metadata.name}");
    cluster.apply(&format!(
        "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: local}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: disk}}
spec:
  capacity: {{storage: 2Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: local
  local: {{path: {}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
",
        folder.display()
    ));
    cluster.apply(POD);
    cluster
        .becomes("get pod writer -o jsonpath={.status.phase},{.spec.nodeName}", &format!("Running,{node}"));
    cluster.until("the file", || {
        std::fs::read_to_string(folder.join("file")).is_ok_and(|text| text == "kept\n")
    });
    let ways = cluster.k("exec writer -- sh -c 'stat -c %g /data; ls -n /data/file'");
    assert!(ways.starts_with("2000\n") && ways.contains(" 2000 "), "{ways}");

    // The claim waits for its pod, and the volume for its claim.
    cluster.k("delete pvc data --wait=false");
    cluster.k("delete pv disk --wait=false");
    assert_eq!(cluster.k("get pvc,pv -o name"), "persistentvolumeclaim/data\npersistentvolume/disk\n");
    cluster.k("delete pod writer --now");
    cluster.becomes("get pvc,pv -o name", "");
    assert_eq!(
        std::fs::read_to_string(folder.join("file")).unwrap(),
        "kept\n",
        "nobody takes away what was written"
    );
}
