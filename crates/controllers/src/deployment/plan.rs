//! What a deployment needs. Pure: replica sets in, actions out (`pkg/controller/deployment`).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sha2::{Digest, Sha256};

use super::status;

/// The label that tells the pods of one replica set from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The annotation that numbers replica sets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the deployment's size, for scaling in proportion.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The annotation with the most pods that may be there, likewise.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the replica set of the current template.
    Create {
        /// The hash of the template.
        hash: String,
        /// Its first size.
        replicas: i32,
        /// Its annotations.
        annotations: BTreeMap<String, String>,
    },
    /// Give a replica set another size.
    Scale {
        /// Its name.
        name: String,
        /// Its size now.
        from: i32,
        /// Its new size.
        to: i32,
        /// Its annotations.
        annotations: BTreeMap<String, String>,
    },
    /// Renew the annotations alone.
    Annotate {
        /// Its name.
        name: String,
        /// Its annotations.
        annotations: BTreeMap<String, String>,
    },
    /// Delete a replica set that history no longer needs.
    Delete {
        /// Its name.
        name: String,
    },
}

/// What is to be done for a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// The revision that the deployment's own annotation must tell.
    pub revision: Option<String>,
    /// The status that is true now.
    pub status: DeploymentStatus,
    /// Seconds until the progress deadline has to be looked at.
    pub again_in: Option<u64>,
}

/// Numbers of a rolling update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many pods are wanted.
    pub replicas: i32,
    /// How many more there may be.
    pub surge: i32,
    /// How many fewer may be available.
    pub unavailable: i32,
}

/// The numbers of a deployment: percentages of surge round up, those of unavailability down, and both cannot be zero.
pub fn limits(deployment: &Deployment) -> Limits {
    let spec = Some(&deployment.spec);
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let strategy = spec.and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return Limits { replicas, surge: 0, unavailable: replicas };
    }
    let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = amount(update.and_then(|update| update.max_surge.as_ref()), replicas, true);
    let mut unavailable = amount(update.and_then(|update| update.max_unavailable.as_ref()), replicas, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    Limits { replicas, surge, unavailable: unavailable.min(replicas) }
}

fn amount(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    value.and_then(|value| crate::share::share(value, of, up).ok()).unwrap_or_default()
}

/// The hash of a pod template, as the label and the name of its replica set have it.
pub fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let json = serde_json::to_vec(template).unwrap_or_default();
    let digest = Sha256::new().chain_update(json).chain_update(collisions.to_be_bytes()).finalize();
    digest
        .iter()
        .take(10)
        .filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()))
        .map(|&byte| char::from(byte))
        .collect()
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

fn name(set: &ReplicaSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The revision that a replica set is numbered with.
pub fn revision(set: &ReplicaSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether a replica set's template is the deployment's, apart from the hash.
fn is_current(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(mut own) = set.spec.template.clone() else { return false };
    if let Some(labels) = own.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    let strip = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(metadata) = &mut template.metadata {
            metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
            metadata.creation_timestamp = None;
        }
        serde_json::to_value(template).unwrap_or_default()
    };
    strip(&own) == strip(template)
}

/// Looks at a deployment and the replica sets that it controls.
pub fn plan(deployment: &Deployment, sets: &[Arc<ReplicaSet>], now: Timestamp) -> Plan {
    let Some(template) = Some(&deployment.spec.template) else {
        return Plan {
            actions: Vec::new(),
            revision: None,
            status: DeploymentStatus::default(),
            again_in: None,
        };
    };
    let mut sorted: Vec<&Arc<ReplicaSet>> = sets.iter().collect();
    sorted.sort_by_key(|set| {
        (set.metadata.creation_timestamp.as_ref().map(|time| time.0), name(set).to_owned())
    });
    let current = sorted.iter().find(|set| is_current(set, template)).map(|set| &***set);
    let old: Vec<&ReplicaSet> = sorted
        .iter()
        .map(|set| &***set)
        .filter(|set| current.is_none_or(|current| name(current) != name(set)))
        .collect();
    let spec = Some(&deployment.spec);
    let paused = spec.and_then(|spec| spec.paused).unwrap_or_default();
    let going = deployment.metadata.deletion_timestamp.is_some();
    let mut actions = Vec::new();
    let number = next_revision(current, &old);
    if !going {
        let step = Step { deployment, current, old: &old, limits: limits(deployment), number };
        step.run(paused, &mut actions);
        if !paused {
            clean_up(deployment, current, &old, &mut actions);
        }
    }
    let (status, again_in) = status::status(deployment, current, sets, now);
    let revision = (current.is_some() || !actions.is_empty()).then(|| number.to_string());
    Plan { actions, revision, status, again_in }
}

/// A replica set that becomes current (again) gets the highest number.
fn next_revision(current: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> i64 {
    let highest = old.iter().map(|set| revision(set)).max().unwrap_or_default();
    let own = current.map(revision).unwrap_or_default();
    if own > highest { own } else { highest + 1 }
}

struct Step<'a> {
    deployment: &'a Deployment,
    current: Option<&'a ReplicaSet>,
    old: &'a [&'a ReplicaSet],
    limits: Limits,
    number: i64,
}

impl Step<'_> {
    fn annotations(&self) -> BTreeMap<String, String> {
        let skipped = ["kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, MAX];
        let mut annotations: BTreeMap<String, String> =
            self.deployment.metadata.annotations.clone().unwrap_or_default();
        annotations.retain(|key, _| !skipped.contains(&key.as_str()));
        annotations.insert(REVISION.to_owned(), self.number.to_string());
        annotations.extend(self.sizes());
        annotations
    }

    fn sizes(&self) -> [(String, String); 2] {
        let most = self.limits.replicas + self.limits.surge;
        [(DESIRED.to_owned(), self.limits.replicas.to_string()), (MAX.to_owned(), most.to_string())]
    }

    fn scale(&self, set: &ReplicaSet, to: i32, actions: &mut Vec<Action>) {
        if size(set) != to {
            let annotations = self.sizes().into_iter().collect();
            actions.push(Action::Scale { name: name(set).to_owned(), from: size(set), to, annotations });
        }
    }

    fn run(&self, paused: bool, actions: &mut Vec<Action>) {
        let recreate = self.limits.unavailable == self.limits.replicas
            && self.deployment.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
        let Some(current) = self.current else {
            if !paused {
                self.create(recreate, actions);
            }
            return;
        };
        let annotations = self.annotations();
        let has = current.metadata.annotations.clone().unwrap_or_default();
        if !paused && annotations.iter().any(|(key, value)| has.get(key) != Some(value)) {
            actions.push(Action::Annotate { name: name(current).to_owned(), annotations });
        }
        if paused {
            return self.in_proportion(actions);
        }
        if recreate {
            return self.recreate(current, actions);
        }
        self.grow(current, actions);
        self.shrink(current, actions);
    }

    fn create(&self, recreate: bool, actions: &mut Vec<Action>) {
        let Some(template) = Some(&self.deployment.spec.template) else { return };
        if recreate {
            self.old.iter().for_each(|set| self.scale(set, 0, actions));
            if self.old.iter().any(|set| running(set)) {
                return;
            }
        }
        let collisions =
            self.deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        let total: i32 = self.old.iter().map(|set| size(set)).sum();
        let room = self.limits.replicas + self.limits.surge - total;
        let replicas = if recreate { self.limits.replicas } else { room.clamp(0, self.limits.replicas) };
        actions.push(Action::Create {
            hash: hash(template, collisions),
            replicas,
            annotations: self.annotations(),
        });
    }

    fn recreate(&self, current: &ReplicaSet, actions: &mut Vec<Action>) {
        self.old.iter().for_each(|set| self.scale(set, 0, actions));
        if !self.old.iter().any(|set| running(set)) {
            self.scale(current, self.limits.replicas, actions);
        }
    }

    /// A paused deployment still follows its size, each replica set in proportion.
    fn in_proportion(&self, actions: &mut Vec<Action>) {
        let sets: Vec<&ReplicaSet> =
            self.old.iter().copied().chain(self.current).filter(|set| size(set) > 0).collect();
        let total: i32 = sets.iter().map(|set| size(set)).sum();
        let most =
            if sets.len() > 1 { self.limits.replicas + self.limits.surge } else { self.limits.replicas };
        if let ([], Some(current)) = (sets.as_slice(), self.current) {
            return self.scale(current, self.limits.replicas, actions);
        }
        let changed = sets.iter().any(|set| {
            let annotations = set.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(DESIRED)) != Some(&self.limits.replicas.to_string())
        });
        if !changed || total == 0 {
            return;
        }
        let mut left = most;
        for (index, set) in sets.iter().enumerate() {
            let share = if index + 1 == sets.len() {
                left
            } else {
                (i64::from(size(set)) * i64::from(most) / i64::from(total)) as i32
            };
            left -= share;
            self.scale(set, share.max(0), actions);
        }
    }

    fn grow(&self, current: &ReplicaSet, actions: &mut Vec<Action>) {
        let have = size(current);
        if have > self.limits.replicas {
            return self.scale(current, self.limits.replicas, actions);
        }
        let total: i32 = self.old.iter().map(|set| size(set)).sum::<i32>() + have;
        let room = (self.limits.replicas + self.limits.surge - total).max(0);
        self.scale(current, have + room.min(self.limits.replicas - have), actions);
    }

    /// Takes down old pods: first those that are not available anyway, then as many as may be missing.
    fn shrink(&self, current: &ReplicaSet, actions: &mut Vec<Action>) {
        let minimum = self.limits.replicas - self.limits.unavailable;
        let total: i32 = self.old.iter().map(|set| size(set)).sum::<i32>() + size(current);
        let unready = size(current) - available(current);
        let mut room = total - minimum - unready;
        let mut sizes: Vec<i32> = self.old.iter().map(|set| size(set)).collect();
        for (set, left) in self.old.iter().zip(&mut sizes) {
            let take = (*left - available(set)).clamp(0, room.max(0));
            *left -= take;
            room -= take;
        }
        let ready: i32 = self.old.iter().map(|set| available(set)).sum::<i32>() + available(current);
        let mut spare = (ready - minimum).min(room);
        for left in &mut sizes {
            let take = (*left).clamp(0, spare.max(0));
            *left -= take;
            spare -= take;
        }
        for (set, left) in self.old.iter().zip(sizes) {
            self.scale(set, left, actions);
        }
    }
}

fn running(set: &ReplicaSet) -> bool {
    let status = set.status.as_ref();
    status.is_some_and(|status| status.replicas > 0 || status.terminating_replicas.unwrap_or_default() > 0)
}

fn clean_up(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    actions: &mut Vec<Action>,
) {
    let Some(limit) = deployment.spec.revision_history_limit else { return };
    if current.is_none() {
        return;
    }
    let idle = |set: &&&ReplicaSet| {
        let status = set.status.as_ref();
        size(set) == 0
            && status.is_some_and(|status| status.replicas == 0)
            && set.metadata.deletion_timestamp.is_none()
            && status.and_then(|status| status.observed_generation) >= set.metadata.generation
    };
    let mut idle: Vec<&&ReplicaSet> = old.iter().filter(idle).collect();
    idle.sort_by_key(|set| revision(set));
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    for set in idle.into_iter().take(surplus) {
        actions.push(Action::Delete { name: name(set).to_owned() });
    }
}

#[cfg(test)]
mod tests;
