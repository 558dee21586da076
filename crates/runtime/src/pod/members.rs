//! Pods, or containers, by id and by what most ask for: all of one pod. A kubelet asks a dozen times while a pod starts,
//! and to look at every other one each time would cost a busy node more than the answer.

use std::collections::HashMap;
use std::sync::Arc;

use super::container::Container;
use super::sandbox::Sandbox;

/// The label by which a kubelet finds a pod again.
const POD_UID: &str = "io.kubernetes.pod.uid";

/// What a [`Members`] is of.
pub trait Member {
    /// What kubelets and others call it by.
    fn labels(&self) -> &HashMap<String, String>;

    /// What it is found by beside its labels.
    fn owner(&self) -> Option<&str>;
}

impl Member for Sandbox {
    fn labels(&self) -> &HashMap<String, String> {
        &self.config.labels
    }

    fn owner(&self) -> Option<&str> {
        None
    }
}

impl Member for Container {
    fn labels(&self) -> &HashMap<String, String> {
        &self.config.labels
    }

    fn owner(&self) -> Option<&str> {
        Some(&self.sandbox)
    }
}

/// All of them.
pub struct Members<T> {
    by_id: HashMap<String, Arc<T>>,
    /// By the uid of a pod, and by owner.
    groups: HashMap<String, Vec<Arc<T>>>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), groups: HashMap::new() }
    }
}

/// Whether the labels are what was asked for.
fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn groups<T: Member>(member: &T) -> impl Iterator<Item = &str> {
    let uid = member.labels().get(POD_UID).map(String::as_str);
    uid.into_iter().chain(member.owner())
}

impl<T: Member> Members<T> {
    /// Adds one.
    pub fn insert(&mut self, id: String, member: Arc<T>) {
        self.remove(&id);
        for group in groups(&*member) {
            self.groups.entry(group.to_owned()).or_default().push(member.clone());
        }
        self.by_id.insert(id, member);
    }

    /// Removes one.
    pub fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        let member = self.by_id.remove(id)?;
        for group in groups(&*member) {
            let Some(members) = self.groups.get_mut(group) else { continue };
            members.retain(|other| !Arc::ptr_eq(other, &member));
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
        Some(member)
    }

    /// Whether there is one with this id.
    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// One by its id, or by what its id alone begins with.
    pub fn find(&self, id: &str) -> Option<Arc<T>> {
        if id.is_empty() {
            return None;
        }
        if let Some(found) = self.by_id.get(id) {
            return Some(found.clone());
        }
        let mut alike = self.by_id.iter().filter(|(key, _)| key.starts_with(id));
        let found = alike.next()?;
        alike.next().is_none().then(|| found.1.clone())
    }

    /// All, in no order.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.by_id.values().cloned().collect()
    }

    /// Those of an owner, in the order in which they were added.
    pub fn of(&self, owner: &str) -> Vec<Arc<T>> {
        let group = self.groups.get(owner).into_iter().flatten();
        group.filter(|member| member.owner() == Some(owner)).cloned().collect()
    }

    /// Those that have these labels.
    pub fn labelled(&self, selector: &HashMap<String, String>) -> Vec<Arc<T>> {
        match selector.get(POD_UID) {
            Some(uid) => {
                let group = self.groups.get(uid).into_iter().flatten();
                group.filter(|member| selects(selector, member.labels())).cloned().collect()
            }
            None => {
                let all = self.by_id.values().filter(|member| selects(selector, member.labels()));
                all.cloned().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        labels: HashMap<String, String>,
        owner: &'static str,
    }

    impl Member for Thing {
        fn labels(&self) -> &HashMap<String, String> {
            &self.labels
        }

        fn owner(&self) -> Option<&str> {
            Some(self.owner)
        }
    }

    fn labels<const N: usize>(labels: [(&str, &str); N]) -> HashMap<String, String> {
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn members_are_found_by_id_by_label_and_by_owner() {
        let mut members = Members::default();
        // A pod may have the uid that another one has for its id.
        for (id, uid, owner) in [("ab", "u", "o"), ("ac", "u", "p"), ("b", "o", "p"), ("c", "", "o")] {
            let labels = if uid.is_empty() { labels([]) } else { labels([(POD_UID, uid), ("name", id)]) };
            members.insert(id.to_owned(), Arc::new(Thing { labels, owner }));
        }
        let count = |members: &Members<Thing>, selector| members.labelled(&selector).len();
        assert_eq!(count(&members, labels([(POD_UID, "u")])), 2);
        assert_eq!(count(&members, labels([(POD_UID, "o")])), 1);
        assert_eq!(count(&members, labels([(POD_UID, "u"), ("name", "ac")])), 1);
        assert_eq!(count(&members, labels([("name", "b")])), 1);
        assert_eq!((count(&members, labels([])), count(&members, labels([(POD_UID, "x")]))), (4, 0));
        assert_eq!((members.of("o").len(), members.of("u").len(), members.all().len()), (2, 0, 4));
        let found = |members: &Members<Thing>, id| members.find(id).map(|thing| thing.owner);
        assert_eq!(
            ["ab", "b", "a", "", "x"].map(|id| found(&members, id)),
            [Some("o"), Some("p"), None, None, None]
        );
        assert!(members.remove("ab").is_some() && members.remove("ab").is_none() && !members.contains("ab"));
        assert_eq!((count(&members, labels([(POD_UID, "u")])), found(&members, "a")), (1, Some("p")));
        for id in ["ac", "b", "c"] {
            members.remove(id);
        }
        assert!(members.groups.is_empty(), "nothing is kept of what is gone");
    }
}
