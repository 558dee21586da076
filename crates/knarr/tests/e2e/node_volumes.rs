//! Volumes that are claimed, on a node: its kubelet finds what its pods' claims are bound to.

use std::path::Path;
use std::process::Command;

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

/// A disk that is a file, until this is dropped.
struct Disk(String);

impl Disk {
    fn new(file: &Path) -> Self {
        std::fs::File::create(file).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A volume of a disk, and a claim for it, of one name.
fn claimed(disk: &Disk, name: &str, mode: &str, node: &str) -> String {
    let spec = format!("accessModes: [ReadWriteOnce], storageClassName: '', volumeMode: {mode}");
    let affinity = format!(
        "{{required: {{nodeSelectorTerms: [{{matchExpressions: \
         [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}"
    );
    format!(
        "---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec: {{{spec}, capacity: {{storage: 64Mi}}, local: {{path: {}}}, nodeAffinity: {affinity}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{{spec}, volumeName: {name}, resources: {{requests: {{storage: 64Mi}}}}}}
",
        disk.0
    )
}

const DISKS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: docker.io/library/busybox:test
    command: [sleep, '1000']
    volumeMounts: [{name: files, mountPath: /files}]
    volumeDevices: [{name: raw, devicePath: /data/raw}]
  volumes:
  - {name: files, persistentVolumeClaim: {claimName: files}}
  - {name: raw, persistentVolumeClaim: {claimName: raw}}
";

#[test]
fn node_gives_disks_as_files_and_as_they_are() {
    let Some(cluster) = nodes_with(&["--nodes", "1"]) else { return };
    let node = cluster.k("get nodes -o jsonpath={.items[0].metadata.name}");
    let disks = ["one", "two"].map(|name| Disk::new(&cluster.dir().join(name)));
    cluster.apply(&claimed(&disks[0], "files", "Filesystem", &node));
    cluster.apply(&claimed(&disks[1], "raw", "Block", &node));
    cluster.apply(&DISKS.replace("NAME", "first"));
    cluster.becomes("get pod first -o jsonpath={.status.phase}", "Running");
    // A disk that has no file system gets one.
    let first = "grep ' /files ext4 ' /proc/mounts && echo kept > /files/file && sync; \
                 test -b /data/raw && echo written | dd of=/data/raw conv=fsync 2>/dev/null";
    cluster.kubectl(&["exec", "first", "--", "sh", "-c", first]);
    cluster.k("delete pod first --now");

    // And keeps it for the next.
    cluster.apply(&DISKS.replace("NAME", "second"));
    cluster.becomes("get pod second -o jsonpath={.status.phase}", "Running");
    let second = "cat /files/file; head -c 8 /data/raw";
    assert_eq!(cluster.kubectl(&["exec", "second", "--", "sh", "-c", second]), "kept\nwritten\n");
    cluster.k("delete pod second --now");
    cluster.becomes("get pods -o name", "");
    let mounts = || std::fs::read_to_string("/proc/self/mounts").unwrap();
    cluster.until("the disk is free", || !mounts().contains(&format!("{} ", disks[0].0)));
}

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

    // Whoever claims it only to read cannot write.
    let reader = POD.split("---").nth(1).unwrap().replace("name: writer", "name: reader");
    let reader = reader.replace("claimName: data", "claimName: data, readOnly: true");
    cluster.apply(&reader.replace("echo kept > /data/file; sleep", "touch /data/other || sleep"));
    cluster.becomes("get pod reader -o jsonpath={.status.phase}", "Running");
    cluster.shows("logs reader", "Read-only file system");
    cluster.k("delete pod reader --now");

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
