//! Where a container, or a whole pod, could have its processors. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::CpuSet;
use super::layout::Level;
use super::policy::Static;
use super::state::State;
use crate::pods::spec::PodExt;
use crate::topology::{Hint, Hints, Mask, subsets};

fn cannot() -> Hints {
    BTreeMap::from([("cpu".to_owned(), Some(Vec::new()))])
}

impl Static {
    /// Where a container could have its own.
    pub fn hints(&self, state: &State, pod: &Pod, container: &Container) -> Hints {
        let count = self.of_container(pod, container);
        if count == 0 {
            return Hints::new();
        }
        let places = match state.of(pod.uid(), &container.name) {
            Some(given) if given.len() != count => return cannot(),
            Some(given) => self.places(given, &CpuSet::default(), count),
            None => self.places(&self.available(state), &self.reusable(state, pod, &container.name), count),
        };
        BTreeMap::from([("cpu".to_owned(), Some(places))])
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, state: &State, pod: &Pod) -> Hints {
        let count = self.of_pod(pod);
        if count == 0 {
            return Hints::new();
        }
        if self.is_whole(pod) {
            if self.check_shares(pod).is_err() {
                return cannot();
            }
            let places = match state.pods.get(pod.uid()) {
                Some(given) => self.places(given, &CpuSet::default(), count),
                None => self.places(&self.available(state), &CpuSet::default(), count),
            };
            return BTreeMap::from([("cpu".to_owned(), Some(places))]);
        }
        let mut given = CpuSet::default();
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let Some(set) = state.of(pod.uid(), &container.name) else { continue };
            if set.len() != self.of_container(pod, container) {
                return cannot();
            }
            given = given.or(set);
        }
        let places = match given.len() == count {
            true => self.places(&given, &CpuSet::default(), count),
            false => self.places(&self.available(state), &given, count),
        };
        BTreeMap::from([("cpu".to_owned(), Some(places))])
    }

    /// Every set of NUMA nodes that has so many; all of `reusable` must be among them.
    fn places(&self, available: &CpuSet, reusable: &CpuSet, count: usize) -> Vec<Hint> {
        let all = self.layout.all();
        let nodes: Vec<i64> = self.layout.groups(Level::Node, &all).into_iter().collect();
        let inside = |mask: Mask, of: &CpuSet| {
            of.iter().filter(|cpu| mask.has(self.layout.group(Level::Node, *cpu))).count()
        };
        let enough = |mask: &Mask| inside(*mask, &all) >= count;
        let least = subsets(&nodes).into_iter().filter(enough).map(Mask::count).min();
        let least = least.unwrap_or(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
        let serves = |mask: &Mask| {
            let reused = inside(*mask, reusable);
            reused == reusable.len() && reused + inside(*mask, &available.without(reusable)) >= count
        };
        let hint = |mask: Mask| {
            let preferred = mask.count() == least || self.is_by_socket(mask, least);
            Hint { affinity: Some(mask), preferred }
        };
        subsets(&nodes).into_iter().filter(serves).map(hint).collect()
    }

    /// Whether a set takes as few sockets as can be, when that is what counts.
    fn is_by_socket(&self, mask: Mask, least: u32) -> bool {
        let per_socket = self.layout.count(Level::Node).checked_div(self.layout.count(Level::Socket));
        let Some(per_socket) = per_socket.filter(|count| *count > 0 && self.options.align_by_socket) else {
            return false;
        };
        let all = self.layout.all();
        let cpus = CpuSet::of(all.iter().filter(|cpu| mask.has(self.layout.group(Level::Node, *cpu))));
        let sockets = self.layout.groups(Level::Socket, &cpus).len();
        sockets == usize::try_from(least).unwrap_or(usize::MAX).div_ceil(per_socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::layout::tests::machine;
    use crate::cpus::policy::tests::{pod, policy};

    fn shown(hints: Hints) -> Vec<String> {
        let list = hints.into_values().flat_map(Option::unwrap);
        list.map(|hint| {
            let nodes: Vec<String> = hint.affinity.unwrap().nodes().map(|node| node.to_string()).collect();
            format!("{}{}", nodes.join(""), if hint.preferred { "*" } else { "" })
        })
        .collect()
    }

    #[test]
    fn places_are_where_enough_is_free_and_narrow_ones_preferred() {
        // Two nodes of four threads; the first keeps one.
        let policy = policy(&machine(2, 1, 2, 2), 1000, &[]).unwrap();
        let mut state = policy.begin(State::default()).unwrap();
        let hints = |state: &State, cpu: &str| {
            let pod = pod("a", &[("c", cpu)]);
            shown(policy.hints(state, &pod, &pod.containers()[0]))
        };
        assert_eq!(hints(&state, "2"), ["0*", "1*", "01"]);
        assert_eq!(hints(&state, "4"), ["1*", "01"]);
        assert_eq!(hints(&state, "5"), ["01*"]);
        assert_eq!(hints(&state, "8"), [""; 0]);
        assert_eq!(hints(&state, "500m"), [""; 0]);
        let other = pod("b", &[("c", "4")]);
        policy.allocate(&mut state, &other, &other.containers()[0], Some(Mask::of([1]))).unwrap();
        assert_eq!(state.of("b", "c").unwrap().to_string(), "2-3,6-7");
        assert_eq!(hints(&state, "2"), ["0*", "01"]);
        assert_eq!(hints(&state, "4"), [""; 0]);
        // Known again after a restart.
        assert_eq!(shown(policy.hints(&state, &other, &other.containers()[0])), ["1*", "01"]);
        assert_eq!(shown(policy.pod_hints(&state, &other)), ["1*", "01"]);
    }

    #[test]
    fn a_whole_pod_is_placed_by_its_worst_time() {
        let policy = policy(&machine(2, 1, 2, 2), 1000, &[]).unwrap();
        let state = policy.begin(State::default()).unwrap();
        let hints = |containers: &[(&str, &str)]| shown(policy.pod_hints(&state, &pod("a", containers)));
        assert_eq!(hints(&[("i", "4"), ("c", "1")]), ["1*", "01"]);
        assert_eq!(hints(&[("c", "3"), ("d", "2")]), ["01*"]);
    }
}
