//! A cluster's volumes for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::plan::volumes::{Objects, Storage};
use crate::view::{
    AttachmentView, CapacityView, ClaimView, ClassView, CsiNodeView, DriverView, PodView, VolumeView,
};

/// All that there is.
#[derive(Default)]
pub struct World {
    pub claims: BTreeMap<String, Arc<ClaimView>>,
    pub volumes: BTreeMap<String, Arc<VolumeView>>,
    pub classes: BTreeMap<String, Arc<ClassView>>,
    pub drivers: BTreeMap<String, Arc<DriverView>>,
    pub capacities: Vec<Arc<CapacityView>>,
    pub csi_nodes: BTreeMap<String, Arc<CsiNodeView>>,
    pub attachments: Vec<Arc<AttachmentView>>,
}

impl Objects for World {
    fn claim(&self, key: &str) -> Option<Arc<ClaimView>> {
        self.claims.get(key).cloned()
    }

    fn volume(&self, name: &str) -> Option<Arc<VolumeView>> {
        self.volumes.get(name).cloned()
    }
}

impl Storage for World {
    fn of_class(&self, class: &str) -> Vec<Arc<VolumeView>> {
        self.volumes.values().filter(|volume| volume.class() == class).cloned().collect()
    }

    fn class(&self, name: &str) -> Option<Arc<ClassView>> {
        self.classes.get(name).cloned()
    }

    fn driver(&self, name: &str) -> Option<Arc<DriverView>> {
        self.drivers.get(name).cloned()
    }

    fn capacities(&self, class: &str) -> Vec<Arc<CapacityView>> {
        self.capacities.iter().filter(|left| left.storage_class_name == class).cloned().collect()
    }

    fn csi_node(&self, name: &str) -> Option<Arc<CsiNodeView>> {
        self.csi_nodes.get(name).cloned()
    }

    fn attached(&self, node: &str) -> Vec<Arc<AttachmentView>> {
        self.attachments.iter().filter(|attachment| attachment.spec.node_name == node).cloned().collect()
    }
}

pub fn read<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// What is in `more` is added to `to`, or takes its place.
pub fn merge(to: &mut Value, more: Value) {
    match (to, more) {
        (Value::Object(to), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(to.entry(key).or_insert(Value::Null), value));
        }
        (to, more) => *to = more,
    }
}

impl World {
    /// With a class whose claims wait and that nobody makes volumes for, and one that somebody does.
    pub fn new() -> Self {
        let mut world = Self::default();
        for (name, provisioner) in [("local", "kubernetes.io/no-provisioner"), ("made", "d")] {
            let class = json!({"metadata": {"name": name}, "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer"});
            world.classes.insert(name.to_owned(), read(class));
        }
        world
    }

    pub fn claim(mut self, name: &str, more: Value) -> Self {
        let mut claim = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1"},
            "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        merge(&mut claim, more);
        self.claims.insert(format!("n/{name}"), read(claim));
        self
    }

    pub fn bound(self, name: &str, volume: &str) -> Self {
        let annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
        self.claim(name, json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}}))
    }

    pub fn volume(mut self, name: &str, size: &str, node: &str, more: Value) -> Self {
        let term = json!({"matchExpressions": [{"key": "host", "operator": "In", "values": [node]}]});
        let mut volume = json!({
            "metadata": {"name": name, "resourceVersion": "1"},
            "spec": {"storageClassName": "local", "capacity": {"storage": size},
                "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
            "status": {"phase": "Available"},
        });
        merge(&mut volume, more);
        self.volumes.insert(name.to_owned(), read(volume));
        self
    }
}

/// A pod whose volumes are these claims; `own` is made for it.
pub fn pod(claims: &[&str]) -> PodView {
    let volume = |name: &&str| match *name {
        "own" => json!({"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
        name => json!({"name": name, "persistentVolumeClaim": {"claimName": name}}),
    };
    let mut volumes: Vec<Value> = claims.iter().map(volume).collect();
    volumes.push(json!({"name": "other", "emptyDir": {}}));
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"volumes": volumes},
    }))
    .unwrap()
}
