//! What the scheduler knows of nodes and the pods on them, kept up to date by increments.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodAffinityTerm;
use schema::quantity::Quantity;

use crate::view::{Container, NodeView, PodView};

/// Amounts by resource: processor in thousandths, everything else in units.
pub type Amounts = BTreeMap<String, i64>;

/// A node with what is on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// The node; `None` while only its pods are known.
    pub node: Option<Arc<NodeView>>,
    /// What its pods may use.
    pub allocatable: Amounts,
    /// What its pods use.
    pub used: Amounts,
    /// The pods, by UID.
    pub pods: HashMap<String, Arc<PodView>>,
    /// How many of them are alike, by [`likeness`].
    alike: HashMap<u64, i64>,
}

impl NodeInfo {
    /// How many pods here have this likeness.
    pub fn alike(&self, likeness: u64) -> i64 {
        self.alike.get(&likeness).copied().unwrap_or_default()
    }
}

/// Equal for pods of one namespace with equal labels; `None` for pods without labels, which are like no others.
pub fn likeness(pod: &PodView) -> Option<u64> {
    if pod.metadata.labels.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (&pod.metadata.namespace, &pod.metadata.labels).hash(&mut hasher);
    Some(hasher.finish())
}

/// The terms by which a pod keeps others away.
pub fn repels(pod: &PodView) -> &[PodAffinityTerm] {
    pod.spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

/// All nodes.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    placed: HashMap<String, String>,
    /// Pods that keep others away, by UID.
    repelling: BTreeMap<String, Arc<PodView>>,
    /// Pods for which others make way, by UID.
    nominated: BTreeMap<String, Arc<PodView>>,
    /// How many volumes of pods name a claim, by its key.
    claimed: HashMap<String, usize>,
}

/// Claims that a pod's volumes name, by key.
fn named(pod: &PodView) -> impl Iterator<Item = String> {
    let names = pod.spec.volumes.iter().filter_map(|volume| volume.claim.as_ref());
    names.map(|name| format!("{}/{name}", pod.metadata.namespace))
}

fn amount(resource: &str, text: &str) -> i64 {
    let Ok(quantity) = text.parse::<Quantity>() else { return 0 };
    if resource == "cpu" { quantity.milli() } else { quantity.value() }
}

fn amounts(map: &BTreeMap<String, String>) -> Amounts {
    map.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect()
}

fn add(total: &mut Amounts, more: &Amounts, sign: i64) {
    for (name, value) in more {
        *total.entry(name.clone()).or_default() += sign * value;
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, value) in least {
        let entry = total.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
}

/// What a pod needs: the sum of its containers and sidecars, or more while an init container runs; plus overhead
/// (`component-helpers/resource.PodRequests`, KEP-753).
pub fn requests(pod: &PodView) -> Amounts {
    let of = |container: &Container| amounts(&container.resources.requests);
    let mut total = Amounts::new();
    pod.spec.containers.iter().for_each(|container| add(&mut total, &of(container), 1));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in &pod.spec.init_containers {
        let mut needed = sidecars.clone();
        add(&mut needed, &of(container), 1);
        raise(&mut peak, &needed);
        if container.restart_policy == "Always" {
            sidecars = needed;
        }
    }
    add(&mut total, &sidecars, 1);
    raise(&mut total, &peak);
    add(&mut total, &amounts(&pod.spec.overhead), 1);
    total
}

impl Snapshot {
    /// All nodes that are known.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|info| info.node.is_some())
    }

    /// Pods that keep others away.
    pub fn repelling(&self) -> impl Iterator<Item = &Arc<PodView>> {
        self.repelling.values()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|info| info.node.is_some())
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: Arc<NodeView>) {
        let info = self.nodes.entry(node.metadata.name.clone()).or_default();
        info.allocatable = amounts(&node.status.allocatable);
        info.node = Some(node);
    }

    /// A node is gone; its pods may be told of later.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// A pod is on a node, or (assumed) is about to be.
    pub fn set_pod(&mut self, pod: Arc<PodView>) {
        self.remove_pod(&pod.metadata.uid);
        if !pod.takes_room() {
            return;
        }
        let info = self.nodes.entry(pod.spec.node_name.clone()).or_default();
        add(&mut info.used, &requests(&pod), 1);
        if let Some(likeness) = likeness(&pod) {
            *info.alike.entry(likeness).or_default() += 1;
        }
        if !repels(&pod).is_empty() {
            self.repelling.insert(pod.metadata.uid.clone(), pod.clone());
        }
        named(&pod).for_each(|claim| *self.claimed.entry(claim).or_default() += 1);
        self.placed.insert(pod.metadata.uid.clone(), pod.spec.node_name.clone());
        info.pods.insert(pod.metadata.uid.clone(), pod);
    }

    /// Others make way for a pod, on the node that its status names.
    pub fn nominate(&mut self, pod: Arc<PodView>) {
        self.nominated.insert(pod.metadata.uid.clone(), pod);
    }

    /// Nobody makes way for it any more.
    pub fn renounce(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Pods for which others make way on a node.
    pub fn nominated<'s>(&'s self, node: &'s str) -> impl Iterator<Item = &'s Arc<PodView>> {
        self.nominated.values().filter(move |pod| pod.status.nominated_node_name == node)
    }

    /// Counts pods that wait for their node as if they were on it, if they matter no less than `pod`: it is not to take
    /// what was freed for them. Whom [`Self::remove_pod`] has to take away afterwards.
    pub fn keep_room(&mut self, pod: &PodView) -> Vec<String> {
        let others = self.nominated.values().filter(|other| {
            other.metadata.uid != pod.metadata.uid
                && other.spec.priority >= pod.spec.priority
                && !self.is_placed(&other.metadata.uid)
        });
        let others: Vec<PodView> = others.map(|other| (**other).clone()).collect();
        let counted = others.iter().map(|other| other.metadata.uid.clone()).collect();
        for mut other in others {
            other.spec.node_name.clone_from(&other.status.nominated_node_name);
            self.set_pod(Arc::new(other));
        }
        counted
    }

    /// Whether a pod on a node names a claim.
    pub fn is_claimed(&self, claim: &str) -> bool {
        self.claimed.contains_key(claim)
    }

    /// Whether a pod is on a node, or about to be.
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// A pod is gone, or was not bound after all.
    pub fn remove_pod(&mut self, uid: &str) {
        self.repelling.remove(uid);
        let Some(info) = self.placed.remove(uid).and_then(|node| self.nodes.get_mut(&node)) else { return };
        if let Some(pod) = info.pods.remove(uid) {
            for claim in named(&pod) {
                if let Some(count) = self.claimed.get_mut(&claim) {
                    *count -= 1;
                    if *count == 0 {
                        self.claimed.remove(&claim);
                    }
                }
            }
            add(&mut info.used, &requests(&pod), -1);
            if let Some(likeness) = likeness(&pod)
                && let Some(count) = info.alike.get_mut(&likeness)
            {
                *count -= 1;
                if *count <= 0 {
                    info.alike.remove(&likeness);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_needs_the_larger_of_its_containers_and_its_init_containers() {
        let pod: PodView = serde_json::from_value(serde_json::json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"resources": {"requests": {"cpu": "1"}}},
            ],
        }}))
        .unwrap();
        let needed = requests(&pod);
        assert_eq!((needed["cpu"], needed["memory"]), (1050, 1 << 30));
    }

    #[test]
    fn pods_come_and_go() {
        let mut snapshot = Snapshot::default();
        let node = serde_json::json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "2"}}});
        snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        let pod = serde_json::json!({"metadata": {"uid": "p"}, "spec": {"nodeName": "a",
            "containers": [{"resources": {"requests": {"cpu": "500m"}}}]}});
        let pod: Arc<PodView> = Arc::new(serde_json::from_value(pod).unwrap());
        snapshot.set_pod(pod.clone());
        snapshot.set_pod(pod);
        assert_eq!(snapshot.node("a").unwrap().used["cpu"], 500);
        snapshot.remove_pod("p");
        assert_eq!(snapshot.node("a").unwrap().used["cpu"], 0);
    }
}
