//! What says of pods that they belong together: services and owners.

use base::TaskGroup;
use client::{Change, Informer, Reflector, Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::plan::Alike;
use crate::view::{NamespaceView, PodView, ServiceView, SetView};

/// All of them, and namespaces.
pub struct Groups {
    namespaces: Reflector<NamespaceView>,
    services: Reflector<ServiceView>,
    controllers: Reflector<ServiceView>,
    replica_sets: Reflector<SetView>,
    stateful_sets: Reflector<SetView>,
}

impl Groups {
    /// Follows them; `heard` is told of namespaces.
    pub fn follow(
        client: &kube::Client,
        heard: impl Fn(&Change<'_, NamespaceView>) + Send + Sync + 'static,
        tasks: &TaskGroup,
    ) -> Self {
        let all = |group, kind, plural| Resource::all(group, "v1", kind, plural);
        let mut namespaces = Informer::new(client.clone(), all("", "Namespace", "namespaces"));
        namespaces.on_change(heard);
        let simple = |kind, plural| Informer::new(client.clone(), all("", kind, plural)).start(tasks);
        let sets = |kind, plural| Informer::new(client.clone(), all("apps", kind, plural)).start(tasks);
        Self {
            namespaces: namespaces.start(tasks),
            services: simple("Service", "services"),
            controllers: simple("ReplicationController", "replicationcontrollers"),
            replica_sets: sets("ReplicaSet", "replicasets"),
            stateful_sets: sets("StatefulSet", "statefulsets"),
        }
    }

    /// Until all are known.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.services.synced().await;
        self.controllers.synced().await;
        self.replica_sets.synced().await;
        self.stateful_sets.synced().await;
    }

    /// Which pods are alike to this one.
    pub fn alike(&self, pod: &PodView) -> Alike {
        let meta = &pod.metadata;
        let mut alike = Alike::default();
        if !pod.spec.topology_spread_constraints.is_empty() {
            return alike;
        }
        for service in self.services.in_namespace(&meta.namespace) {
            let selected = &service.spec.selector;
            if selected.iter().all(|(key, value)| meta.labels.get(key) == Some(value)) {
                alike.labels.extend(selected.clone());
            }
        }
        let Some(owner) = &meta.controller else { return alike };
        let key = format!("{}/{}", meta.namespace, owner.name);
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => {
                let selected = self.controllers.get(&key).map(|owner| owner.spec.selector.clone());
                alike.labels.extend(selected.unwrap_or_default());
            }
            ("apps/v1", "ReplicaSet") => alike.selector = selector(self.replica_sets.get(&key)),
            ("apps/v1", "StatefulSet") => alike.selector = selector(self.stateful_sets.get(&key)),
            _ => {}
        }
        alike
    }
}

fn selector(set: Option<std::sync::Arc<SetView>>) -> Option<LabelSelector> {
    set?.spec.selector.clone()
}
