//! Where a container, or a whole pod, could have its devices. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::allocate::limits;
use super::state::{Given, State};
use crate::pods::spec::{PodExt, is_sidecar};
use crate::topology::{Hint, Hints, Mask, subsets};

impl State {
    /// Where a container could have its devices.
    pub fn hints(&self, pod: &Pod, container: &Container, nodes: &[i64]) -> Hints {
        let wanted = limits(container).into_iter().filter(|(name, _)| self.manages(name));
        let one = |(name, count): (String, usize)| {
            let had = self.share(pod.uid(), &container.name, &name).map(Given::ids);
            let reusable = self.reusable(pod, &container.name, &name);
            let places = self.wishes(&name, count, had, &reusable, nodes);
            (name, places)
        };
        wanted.map(one).collect()
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, pod: &Pod, nodes: &[i64]) -> Hints {
        let wanted = of_pod(pod).into_iter().filter(|(name, _)| self.manages(name));
        let one = |(name, count): (String, usize)| {
            let shares = self.given.get(pod.uid()).into_iter().flatten();
            let had: BTreeSet<String> =
                shares.filter_map(|(_, given)| given.get(&name)).flat_map(Given::ids).collect();
            let places =
                self.wishes(&name, count, Some(had).filter(|had| !had.is_empty()), &BTreeSet::new(), nodes);
            (name, places)
        };
        wanted.map(one).collect()
    }

    fn wishes(
        &self,
        name: &str,
        count: usize,
        had: Option<BTreeSet<String>>,
        reusable: &BTreeSet<String>,
        nodes: &[i64],
    ) -> Option<Vec<Hint>> {
        if !self.resources.get(name).is_some_and(super::state::Resource::is_aligned) {
            return None;
        }
        Some(match had {
            Some(had) if had.len() != count => Vec::new(),
            Some(had) => self.places(name, count, &had, &BTreeSet::new(), nodes),
            None => {
                let available = self.available(name);
                match available.union(reusable).count() < count {
                    true => Vec::new(),
                    false => self.places(name, count, &available, reusable, nodes),
                }
            }
        })
    }

    fn places(
        &self,
        name: &str,
        count: usize,
        available: &BTreeSet<String>,
        reusable: &BTreeSet<String>,
        nodes: &[i64],
    ) -> Vec<Hint> {
        let Some(resource) = self.resources.get(name) else { return Vec::new() };
        let of = |id: &String| resource.devices.get(id).map(|device| &device.nodes);
        let near = |mask: Mask, id: &String| of(id).is_some_and(|near| near.iter().any(|n| mask.has(*n)));
        // Only nodes that have devices: of all of them there may be too many sets.
        let with_devices = |node: &&i64| resource.devices.values().any(|device| device.nodes.contains(node));
        let bearing: Vec<i64> = nodes.iter().filter(with_devices).copied().collect();
        let nodes = if bearing.is_empty() { nodes } else { &bearing };
        let all = subsets(nodes);
        let inside = |mask: Mask| resource.devices.keys().filter(|id| near(mask, id)).count();
        let least = all.iter().filter(|mask| inside(**mask) >= count).map(|mask| mask.count()).min();
        let least = least.unwrap_or(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        let serves = |mask: &Mask| {
            let mut reused = reusable.iter().filter(|id| of(id).is_some_and(|near| !near.is_empty()));
            if !reused.clone().all(|id| near(*mask, id)) {
                return false;
            }
            let fresh = available.iter().filter(|id| !reusable.contains(*id) && near(*mask, id)).count();
            reused.by_ref().count() + fresh >= count
        };
        let hint = |mask: Mask| Hint { affinity: Some(mask), preferred: mask.count() == least };
        all.into_iter().filter(serves).map(hint).collect()
    }
}

/// What a pod's containers ask for together at the worst time.
fn of_pod(pod: &Pod) -> BTreeMap<String, usize> {
    let (mut init, mut sidecars) = (BTreeMap::new(), BTreeMap::new());
    for container in pod.init_containers() {
        for (name, count) in limits(container) {
            let running: &mut usize = sidecars.entry(name.clone()).or_default();
            match is_sidecar(container) {
                true => *running += count,
                false => {
                    let most: &mut usize = init.entry(name).or_default();
                    *most = (*most).max(*running + count);
                }
            }
        }
    }
    let mut sum = sidecars;
    for container in pod.containers() {
        for (name, count) in limits(container) {
            *sum.entry(name).or_default() += count;
        }
    }
    for (name, count) in init {
        let known = sum.entry(name).or_default();
        *known = (*known).max(count);
    }
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::devices::state::{Device, Resource};

    fn state(devices: &[(&str, &[i64])]) -> State {
        let device = |(id, nodes): &(&str, &[i64])| {
            ((*id).to_owned(), Device { healthy: true, nodes: nodes.iter().copied().collect() })
        };
        let devices = devices.iter().map(device).collect();
        let mut state = State::default();
        state.resources.insert("x/a".to_owned(), Resource { devices, ..Resource::default() });
        state
    }

    fn pod(counts: &[(&str, u32)]) -> Pod {
        let container = |(name, count): &(&str, u32)| json!({"name": name, "resources": {"limits": {"x/a": count.to_string()}}});
        let (init, main): (Vec<_>, Vec<_>) = counts.iter().partition(|(name, _)| name.starts_with('i'));
        let list = |of: Vec<&(&str, u32)>| of.into_iter().map(container).collect::<Vec<_>>();
        serde_json::from_value(json!({"metadata": {"uid": "u"},
            "spec": {"initContainers": list(init), "containers": list(main)}}))
        .unwrap()
    }

    fn shown(hints: Hints) -> String {
        let Some(list) = hints.get("x/a").cloned().flatten() else { return "whatever".to_owned() };
        let one = |hint: Hint| {
            let nodes: String = hint.affinity.unwrap().nodes().map(|node| node.to_string()).collect();
            format!("{nodes}{}", if hint.preferred { "*" } else { "" })
        };
        list.into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn places_are_where_enough_devices_are_free() {
        let mut state = state(&[("1", &[0]), ("2", &[0]), ("3", &[1])]);
        let hints = |state: &State, count| {
            let pod = pod(&[("c", count)]);
            shown(state.hints(&pod, &pod.containers()[0], &[0, 1, 2]))
        };
        assert_eq!(hints(&state, 1), "0* 1* 01");
        assert_eq!(hints(&state, 2), "0* 01");
        assert_eq!(hints(&state, 3), "01*");
        assert_eq!(hints(&state, 4), "");
        let given = Given { devices: [(0, vec!["1".to_owned()])].into(), ..Given::default() };
        state.give("other", "c", "x/a", given);
        assert_eq!(hints(&state, 2), "01");
        assert_eq!(shown(state.pod_hints(&pod(&[("i", 2), ("c", 1)]), &[0, 1])), "01");
        let given = Given { devices: [(1, vec!["3".to_owned()])].into(), ..Given::default() };
        state.give("u", "c", "x/a", given);
        assert_eq!(hints(&state, 1), "1* 01", "it has it already");
        assert_eq!(hints(&state, 2), "");
    }

    #[test]
    fn devices_that_are_nowhere_have_no_wish() {
        let state = state(&[("1", &[]), ("2", &[])]);
        let pod = pod(&[("c", 1)]);
        assert_eq!(shown(state.hints(&pod, &pod.containers()[0], &[0, 1])), "whatever");
    }
}
