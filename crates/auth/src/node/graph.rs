//! Which nodes may see which objects, through the pods that run there.
//!
//! ```text
//! node ← pod ← secret, configmap, service account, claim, resource claim
//!              claim ← persistent volume ← secret
//! node ← volume attachment, resource slice
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::volume::VolumeRefs;

/// Namespace (empty for cluster-scoped objects) and name.
pub type Key = (String, String);

/// What kind of object a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    ResourceClaim,
    Volume,
    Attachment,
    ResourceSlice,
    Pod,
}

/// The names of what a pod refers to, all in its own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRefs {
    /// Its service account.
    pub service_account: Option<String>,
    /// Secrets: volumes, environment, image pulls.
    pub secrets: BTreeSet<String>,
    /// ConfigMaps: volumes and environment.
    pub config_maps: BTreeSet<String>,
    /// PersistentVolumeClaims, those of ephemeral volumes included.
    pub claims: BTreeSet<String>,
    /// ResourceClaims that exist.
    pub resource_claims: BTreeSet<String>,
}

impl PodRefs {
    /// What a pod refers to. A mirror pod refers to nothing: a node must not gain access by making one.
    pub fn of(pod: &Pod) -> Self {
        let annotations = pod.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror")) {
            return Self::default();
        }
        let mut refs = Self::default();
        let Some(spec) = &pod.spec else { return refs };
        refs.service_account = spec.service_account_name.clone().filter(|name| !name.is_empty());
        refs.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()));
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        for container in containers {
            refs.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        for container in spec.ephemeral_containers.iter().flatten() {
            refs.environment(container.env.as_deref(), container.env_from.as_deref());
        }
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        for volume in spec.volumes.iter().flatten() {
            refs.volume(pod_name, volume);
        }
        refs.resource_claims(pod);
        for names in [&mut refs.secrets, &mut refs.config_maps, &mut refs.claims] {
            names.remove("");
        }
        refs
    }

    fn environment(
        &mut self,
        env: Option<&[k8s_openapi::api::core::v1::EnvVar]>,
        env_from: Option<&[k8s_openapi::api::core::v1::EnvFromSource]>,
    ) {
        for from in env.into_iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            self.secrets.extend(from.secret_key_ref.as_ref().map(|key| key.name.clone()));
            self.config_maps.extend(from.config_map_key_ref.as_ref().map(|key| key.name.clone()));
        }
        for from in env_from.into_iter().flatten() {
            self.secrets.extend(from.secret_ref.as_ref().map(|secret| secret.name.clone()));
            self.config_maps.extend(from.config_map_ref.as_ref().map(|map| map.name.clone()));
        }
    }

    fn volume(&mut self, pod: &str, volume: &Volume) {
        self.secrets.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        self.config_maps.extend(volume.config_map.as_ref().map(|map| map.name.clone()));
        self.claims.extend(volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()));
        if volume.ephemeral.is_some() {
            self.claims.insert(format!("{pod}-{}", volume.name));
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            self.secrets.extend(source.secret.as_ref().map(|secret| secret.name.clone()));
            self.config_maps.extend(source.config_map.as_ref().map(|map| map.name.clone()));
        }
        let secret_of_driver = [
            volume.csi.as_ref().and_then(|csi| csi.node_publish_secret_ref.as_ref()),
            volume.cephfs.as_ref().and_then(|ceph| ceph.secret_ref.as_ref()),
            volume.cinder.as_ref().and_then(|cinder| cinder.secret_ref.as_ref()),
            volume.flex_volume.as_ref().and_then(|flex| flex.secret_ref.as_ref()),
            volume.iscsi.as_ref().and_then(|iscsi| iscsi.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|rbd| rbd.secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|scale_io| &scale_io.secret_ref),
            volume.storageos.as_ref().and_then(|storageos| storageos.secret_ref.as_ref()),
        ];
        self.secrets.extend(secret_of_driver.into_iter().flatten().map(|secret| secret.name.clone()));
        self.secrets.extend(volume.azure_file.as_ref().map(|azure| azure.secret_name.clone()));
    }

    fn resource_claims(&mut self, pod: &Pod) {
        let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
        self.resource_claims.extend(claims.filter_map(|claim| claim.resource_claim_name.clone()));
        let Some(status) = &pod.status else { return };
        let made = status.resource_claim_statuses.iter().flatten();
        self.resource_claims.extend(made.filter_map(|claim| claim.resource_claim_name.clone()));
        let extended = status.extended_resource_claim_status.as_ref();
        self.resource_claims
            .extend(extended.map(|claim| claim.resource_claim_name.clone()).filter(|name| !name.is_empty()));
    }

    fn objects<'a>(&'a self) -> impl Iterator<Item = (Kind, &'a String)> {
        let of = |kind| move |name: &'a String| (kind, name);
        self.service_account
            .iter()
            .map(of(Kind::ServiceAccount))
            .chain(self.secrets.iter().map(of(Kind::Secret)))
            .chain(self.config_maps.iter().map(of(Kind::ConfigMap)))
            .chain(self.claims.iter().map(of(Kind::Claim)))
            .chain(self.resource_claims.iter().map(of(Kind::ResourceClaim)))
    }
}

/// The graph, kept up to date object by object.
#[derive(Debug, Default)]
pub struct Graph {
    pods: HashMap<Key, (String, PodRefs)>,
    /// Object → nodes that may see it, each with the number of pods that say so.
    nodes: HashMap<(Kind, Key), BTreeMap<String, usize>>,
    /// Persistent volume → the claim that it is bound to, and the secrets that it names.
    volumes: HashMap<String, VolumeRefs>,
    /// Secret → persistent volumes that name it.
    volumes_of_secret: HashMap<Key, BTreeSet<String>>,
}

impl Graph {
    /// Takes in a pod that is bound to `node`, or its new state.
    pub fn upsert_pod(&mut self, namespace: &str, name: &str, node: &str, refs: PodRefs) {
        let key = (namespace.to_owned(), name.to_owned());
        if self.pods.get(&key).is_some_and(|(known_node, known)| known_node == node && *known == refs) {
            return;
        }
        self.remove_pod(namespace, name);
        self.add(Kind::Pod, key.clone(), node);
        for (kind, object) in refs.objects() {
            self.add(kind, (namespace.to_owned(), object.clone()), node);
        }
        self.pods.insert(key, (node.to_owned(), refs));
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some((node, refs)) = self.pods.remove(&key) else { return };
        self.subtract(Kind::Pod, key, &node);
        for (kind, object) in refs.objects() {
            self.subtract(kind, (namespace.to_owned(), object.clone()), &node);
        }
    }

    /// Takes in a persistent volume: the claim that it is bound to, and the secrets that its driver needs.
    pub fn upsert_volume(&mut self, name: &str, refs: VolumeRefs) {
        self.remove_volume(name);
        for secret in &refs.secrets {
            self.volumes_of_secret.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), refs);
    }

    /// Forgets a persistent volume.
    pub fn remove_volume(&mut self, name: &str) {
        let Some(refs) = self.volumes.remove(name) else { return };
        for secret in refs.secrets {
            if let Some(volumes) = self.volumes_of_secret.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.volumes_of_secret.remove(&secret);
                }
            }
        }
    }

    /// Takes in a volume attachment.
    pub fn upsert_attachment(&mut self, name: &str, node: &str) {
        self.nodes.insert((Kind::Attachment, cluster(name)), BTreeMap::from([(node.to_owned(), 1)]));
    }

    /// Forgets a volume attachment.
    pub fn remove_attachment(&mut self, name: &str) {
        self.nodes.remove(&(Kind::Attachment, cluster(name)));
    }

    /// Takes in a resource slice of a node.
    pub fn upsert_resource_slice(&mut self, name: &str, node: &str) {
        self.nodes.insert((Kind::ResourceSlice, cluster(name)), BTreeMap::from([(node.to_owned(), 1)]));
    }

    /// Forgets a resource slice.
    pub fn remove_resource_slice(&mut self, name: &str) {
        self.nodes.remove(&(Kind::ResourceSlice, cluster(name)));
    }

    fn add(&mut self, kind: Kind, key: Key, node: &str) {
        *self.nodes.entry((kind, key)).or_default().entry(node.to_owned()).or_default() += 1;
    }

    fn subtract(&mut self, kind: Kind, key: Key, node: &str) {
        let object = (kind, key);
        let Some(nodes) = self.nodes.get_mut(&object) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.nodes.remove(&object);
        }
    }

    fn is_direct(&self, node: &str, kind: Kind, key: &Key) -> bool {
        self.nodes.get(&(kind, key.clone())).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn volume_reaches(&self, node: &str, volume: &str) -> bool {
        let claim = self.volumes.get(volume).and_then(|refs| refs.claim.as_ref());
        claim.is_some_and(|claim| self.is_direct(node, Kind::Claim, claim))
    }

    /// Whether something on the node needs the object.
    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            Kind::Volume => self.volume_reaches(node, name),
            Kind::Secret => {
                let volumes = self.volumes_of_secret.get(&key);
                self.is_direct(node, kind, &key)
                    || volumes
                        .is_some_and(|volumes| volumes.iter().any(|volume| self.volume_reaches(node, volume)))
            }
            _ => self.is_direct(node, kind, &key),
        }
    }
}

fn cluster(name: &str) -> Key {
    (String::new(), name.to_owned())
}
