//! Processors of a pod that has resources as a whole (KEP-5526): it gets them once, near to each other, and of them those
//! containers get their own that ask for whole ones. The others share what is left of the pod's. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use schema::quantity::Quantity;

use super::CpuSet;
use super::policy::{CpuError, Static};
use super::state::State;
use crate::pods::spec::{PodExt, in_turn};
use crate::pods::{has_own_resources, qos};
use crate::topology::Mask;

impl Static {
    /// Whether the pod takes part as a whole.
    pub(super) fn is_whole(&self, pod: &Pod) -> bool {
        self.by_pod && has_own_resources(pod)
    }

    /// How many it is to have.
    pub(super) fn of_whole(&self, pod: &Pod) -> usize {
        match qos(pod) {
            "Guaranteed" => whole_ones(pod.spec().and_then(|spec| spec.resources.as_ref())),
            _ => 0,
        }
    }

    /// Whether something is left of the pod's for those that share.
    ///
    /// # Errors
    /// [`CpuError::NothingToShare`].
    pub(super) fn check_shares(&self, pod: &Pod) -> Result<(), CpuError> {
        let (all, mut own, mut shared) = (self.of_whole(pod), 0, false);
        for (container, lasts) in in_turn(pod) {
            match (self.of_container(pod, container), lasts) {
                (0, true) => shared = true,
                (count, true) => own += count,
                (0, false) if own >= all => {
                    let why = "pod has shared init containers but no cpus available for them";
                    return Err(CpuError::NothingToShare(why));
                }
                (_, false) => {}
            }
        }
        if shared && own >= all {
            let why = "sum of exclusive container cpu requests equals pod budget, leaving no cpus for shared containers";
            return Err(CpuError::NothingToShare(why));
        }
        Ok(())
    }

    /// Gives a pod its own, and its containers theirs of these; whether anything changed.
    ///
    /// # Errors
    /// [`CpuError`]; then nothing did.
    pub fn allocate_whole(
        &self,
        state: &mut State,
        pod: &Pod,
        affinity: Option<Mask>,
    ) -> Result<bool, CpuError> {
        let count = self.of_whole(pod);
        if count == 0 || state.pods.contains_key(pod.uid()) {
            return Ok(false);
        }
        self.check_shares(pod)?;
        self.check_cores(state, count)?;
        let all = self.choose(&self.available(state), count, affinity)?;
        let shares = self.divide(pod, &all)?;
        tracing::debug!(pod = %pod.described(), cpus = %all, "cpus are given to a whole pod");
        state.shared = state.shared.without(&all);
        state.given.insert(pod.uid().to_owned(), shares);
        state.pods.insert(pod.uid().to_owned(), all);
        Ok(true)
    }

    /// Who runs on which of the pod's. An init container is over before others begin, and has what no sidecar before it
    /// has for itself.
    fn divide(&self, pod: &Pod, all: &CpuSet) -> Result<BTreeMap<String, CpuSet>, CpuError> {
        let (mut shares, mut sharing, mut left) = (BTreeMap::new(), Vec::new(), all.clone());
        for (container, lasts) in in_turn(pod) {
            let name = container.name.clone();
            match (self.of_container(pod, container), lasts) {
                (0, true) => sharing.push(name),
                (0, false) => drop(shares.insert(name, left.clone())),
                (count, lasts) => {
                    let own = self.take(&left, count)?;
                    if lasts {
                        left = left.without(&own);
                    }
                    shares.insert(name, own);
                }
            }
        }
        shares.extend(sharing.into_iter().map(|name| (name, left.clone())));
        Ok(shares)
    }
}

/// The processors that are asked for, if they are whole ones.
pub(super) fn whole_ones(resources: Option<&ResourceRequirements>) -> usize {
    let lists = resources.into_iter().flat_map(|r| [r.requests.as_ref(), r.limits.as_ref()]);
    let text = lists.flatten().find_map(|amounts| amounts.get("cpu"));
    let millis = text.and_then(|text| text.0.parse::<Quantity>().ok()).map_or(0, |q| q.milli());
    if millis % 1000 == 0 { usize::try_from(millis / 1000).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Configuration;
    use crate::cpus::layout::tests::machine;
    use crate::topology::Policy;

    fn policy(gate: bool, options: &[(&str, &str)]) -> Static {
        let flags = json!({"featureGates": {"PodLevelResourceManagers": gate}});
        let serde_json::Value::Object(flags) = flags else { panic!("an object") };
        let mut fields = Configuration::merge(&[], flags).unwrap().0.fields;
        fields.cpu_manager_policy_options =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // Two nodes of four threads; the first keeps one.
        Static::new(&fields, &machine(2, 1, 2, 2), 1000, Policy::None).unwrap()
    }

    /// A pod of four processors. Names that begin with `i` are init containers, `s` sidecars; who asks for nothing is
    /// written with "".
    fn pod(cpu: &str, containers: &[(&str, &str)]) -> Pod {
        let whole = json!({"cpu": cpu, "memory": "1Gi"});
        let container = |(name, cpu): &(&str, &str)| {
            let resources = match *cpu {
                "" => json!({}),
                cpu => json!({"limits": {"cpu": cpu, "memory": "1Mi"}}),
            };
            let policy = name.starts_with('s').then_some("Always");
            json!({"name": name, "restartPolicy": policy, "resources": resources})
        };
        let is_init = |(name, _): &&(&str, &str)| name.starts_with(['i', 's']);
        let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(|c| is_init(c));
        let list = |of: Vec<&(&str, &str)>| of.into_iter().map(container).collect::<Vec<_>>();
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec":
            {"resources": {"limits": whole, "requests": whole}, "initContainers": list(init), "containers": list(main)}}))
        .unwrap()
    }

    #[test]
    fn a_pods_processors_are_divided_and_what_is_left_is_shared() {
        let policy = policy(true, &[]);
        let mut state = policy.begin(State::default()).unwrap();
        let pod =
            pod("4", &[("i", "3"), ("ii", ""), ("s", "1"), ("iii", ""), ("st", ""), ("c", "1"), ("d", "")]);
        let hints = policy.pod_hints(&state, &pod).remove("cpu").flatten().unwrap();
        assert_eq!(hints.iter().filter(|hint| hint.preferred).count(), 1, "the second node");
        assert!(policy.allocate_whole(&mut state, &pod, hints[0].affinity).unwrap());
        assert!(!policy.allocate_whole(&mut state, &pod, None).unwrap(), "it has them");
        let of = |name: &str| state.of("u", name).unwrap().to_string();
        assert_eq!(
            (state.pods["u"].to_string(), state.shared.to_string()),
            ("2-3,6-7".into(), "0-1,4-5".into())
        );
        assert_eq!(
            (of("i"), of("ii"), of("s")),
            ("2,6,3".parse::<CpuSet>().unwrap().to_string(), "2-3,6-7".into(), "2".into())
        );
        assert_eq!((of("iii"), of("st"), of("d")), ("3,6-7".into(), "3,7".into(), "3,7".into()));
        assert_eq!(of("c"), "6");
        // Known again after a restart.
        let again = policy.pod_hints(&state, &pod).remove("cpu").flatten().unwrap();
        assert_eq!((again.len(), again[0].affinity), (2, hints[0].affinity));
        assert_eq!(policy.begin(state.clone()).unwrap(), state);
        assert!(state.release("u"));
        assert_eq!(state, policy.begin(State::default()).unwrap());
    }

    #[test]
    fn who_shares_has_something_to_share_or_the_pod_is_refused() {
        let policy = policy(true, &[]);
        let mut state = policy.begin(State::default()).unwrap();
        let mut refused = |cpu, containers: &[(&str, &str)]| {
            let pod = pod(cpu, containers);
            assert_eq!(policy.pod_hints(&state, &pod)["cpu"], Some(Vec::new()));
            policy.allocate_whole(&mut state, &pod, None).unwrap_err().to_string()
        };
        assert_eq!(
            refused("2", &[("c", "2"), ("d", "")]),
            "pod rejected, sum of exclusive container cpu requests equals pod budget, leaving no cpus for shared containers"
        );
        assert_eq!(
            refused("1", &[("s", "1"), ("i", ""), ("c", "1")]),
            "pod rejected, pod has shared init containers but no cpus available for them"
        );
        assert_eq!(state, policy.begin(State::default()).unwrap());
        // Not whole ones, or nobody shares.
        assert!(!policy.allocate_whole(&mut state, &pod("1500m", &[("c", "1")]), None).unwrap());
        assert!(policy.allocate_whole(&mut state, &pod("2", &[("c", "1"), ("d", "1")]), None).unwrap());
    }

    #[test]
    fn each_container_for_itself_has_its_own_if_it_is_fixed() {
        let (on, off) = (policy(true, &[]), policy(false, &[]));
        let pod = pod("4", &[("c", "2"), ("d", "500m"), ("e", "")]);
        let counts = |policy: &Static| {
            pod.containers().iter().map(|container| policy.of_container(&pod, container)).collect::<Vec<_>>()
        };
        assert_eq!((counts(&on), counts(&off)), (vec![2, 0, 0], vec![0, 0, 0]));
        assert!(on.concerns(&pod) && !off.concerns(&pod) && off.of_pod(&pod) == 0);
        let mut state = on.begin(State::default()).unwrap();
        for container in pod.containers() {
            on.allocate(&mut state, &pod, container, None).unwrap();
        }
        assert_eq!((state.of("u", "c").unwrap().len(), state.of("u", "d"), state.pods.len()), (2, None, 0));
    }

    #[test]
    fn whole_cores_are_the_pods_and_not_its_containers() {
        let policy = policy(true, &[("full-pcpus-only", "true")]);
        let mut state = policy.begin(State::default()).unwrap();
        let error = policy.allocate_whole(&mut state, &pod("3", &[("c", "1"), ("d", "")]), None).unwrap_err();
        assert!(error.to_string().contains("requested 3 cpus not multiple cpus per core = 2"), "{error}");
        assert!(policy.allocate_whole(&mut state, &pod("4", &[("c", "1"), ("d", "")]), None).unwrap());
    }
}
