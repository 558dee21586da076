//! The static policy. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use kinds::gates::Gate;

use super::CpuSet;
use super::distribute::distribute;
use super::layout::{Layout, Level};
use super::options::Options;
use super::state::State;
use super::take::{Taste, pack};
use super::whole::whole_ones;
use crate::checkpoint::CheckpointError;
use crate::configuration::Fields;
use crate::pods::spec::{PodExt, is_sidecar};
use crate::pods::{has_own_resources, is_fixed, qos};
use crate::topology::{Mask, Policy};

/// Why a container does not get its own, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    #[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
    TooFew { requested: usize, available: usize },
    #[error("SMT Alignment Error: requested {requested} cpus not multiple cpus per core = {per_core}")]
    HalfCores { requested: usize, per_core: usize },
    #[error(
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {available}, requested CPUs = {requested}, CPUs per core = {per_core}"
    )]
    TooFewCores { available: usize, requested: usize, per_core: usize },
    /// Of a pod that has some as a whole.
    #[error("pod rejected, {0}")]
    NothingToShare(&'static str),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The policy and what it knows of the node.
pub struct Static {
    pub(super) layout: Layout,
    /// Never given to one container.
    reserved: CpuSet,
    /// The same, and all threads of their cores.
    reserved_cores: CpuSet,
    pub(super) options: Options,
    /// Whether pods that have resources as a whole take part (`PodLevelResourceManagers`).
    pub(super) by_pod: bool,
}

impl Static {
    /// As the configuration says it; `reserved` is what system and Kubernetes keep, in thousandths.
    ///
    /// # Errors
    /// Names what cannot be, in upstream's words.
    pub fn new(fields: &Fields, layout: &Layout, reserved: i64, placed: Policy) -> Result<Self, String> {
        let named: CpuSet = fields
            .reserved_system_cpus
            .parse()
            .map_err(|error| format!("unable to parse reserved-cpus: {error}"))?;
        // Naming them takes the place of both amounts.
        let count = if named.is_empty() {
            usize::try_from(reserved.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(usize::MAX)
        } else {
            named.len()
        };
        if count == 0 {
            return Err("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero".to_owned());
        }
        let options = Options::new(&fields.cpu_manager_policy_options, fields.gates)?;
        options.check(layout, placed)?;
        let by_pod = fields.gates.has(Gate::PodLevelResourceManagers);
        let (layout_of_node, reserved_cores) = (layout.clone(), CpuSet::default());
        let mut policy = Self { layout: layout_of_node, reserved: named, reserved_cores, options, by_pod };
        if policy.reserved.is_empty() {
            policy.reserved = policy.take(&layout.all(), count).unwrap_or_default();
        }
        if policy.reserved.len() != count || !policy.reserved.without(&layout.all()).is_empty() {
            return Err(format!(
                "[cpumanager] unable to reserve the required amount of CPUs (size of {} did not equal {count})",
                policy.reserved
            ));
        }
        policy.reserved_cores = layout.with_siblings(&policy.reserved);
        Ok(policy)
    }

    /// What a state that was kept comes to; an empty one begins.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn begin(&self, mut state: State) -> Result<State, String> {
        let all = self.layout.all();
        if state.shared.is_empty() {
            if !state.given.is_empty() {
                return Err("default cpuset cannot be empty".to_owned());
            }
            state.shared = if self.options.strict_reservation { all.without(&self.reserved) } else { all };
            return Ok(state);
        }
        let shared = &state.shared;
        let kept = self.reserved.and(shared);
        if self.options.strict_reservation && !kept.is_empty() {
            return Err(format!(
                "some of strictly reserved cpus: {:?} are present in defaultCpuSet: {:?}",
                kept.to_string(),
                shared.to_string()
            ));
        }
        if !self.options.strict_reservation && kept != self.reserved {
            return Err(format!(
                "not all reserved cpus: {:?} are present in defaultCpuSet: {:?}",
                self.reserved.to_string(),
                shared.to_string()
            ));
        }
        for (pod, sets) in &state.given {
            for (container, set) in sets {
                if !set.and(shared).is_empty() {
                    return Err(format!(
                        "pod: {pod}, container: {container} cpuset: {:?} overlaps with default cpuset {:?}",
                        set.to_string(),
                        shared.to_string()
                    ));
                }
            }
        }
        let strict = if self.options.strict_reservation { self.reserved.clone() } else { CpuSet::default() };
        let known = state.exclusive().or(shared).or(&strict);
        if known != all {
            return Err(format!(
                "current set of available CPUs {:?} doesn't match with CPUs in state {:?}",
                all.to_string(),
                known.to_string()
            ));
        }
        Ok(state)
    }

    /// What can be given to containers for themselves.
    pub fn allocatable(&self) -> CpuSet {
        self.layout.all().without(&self.reserved)
    }

    /// What could be given now.
    pub(super) fn available(&self, state: &State) -> CpuSet {
        state.shared.without(&self.reserved)
    }

    /// Within what whole processors are given, as metrics name it.
    pub fn boundaries(&self) -> Vec<&'static str> {
        let options =
            [(self.options.full_cores_only, "physical_cpu"), (self.options.prefer_uncore, "uncore_cache")];
        options.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect()
    }

    /// How many of these are on each NUMA node.
    pub fn by_node(&self, cpus: &CpuSet) -> BTreeMap<i64, usize> {
        let nodes = self.layout.groups(Level::Node, &self.layout.all());
        nodes.into_iter().map(|node| (node, self.layout.within(Level::Node, node, cpus).len())).collect()
    }

    pub(super) fn take(&self, free: &CpuSet, count: usize) -> Result<CpuSet, CpuError> {
        let taste =
            Taste { spread: self.options.distribute_over_cores, align_uncore: self.options.prefer_uncore };
        if self.options.distribute_over_nodes {
            let group = if self.options.full_cores_only { self.layout.size(Level::Core) } else { 1 };
            return distribute(&self.layout, free, count, group, taste);
        }
        pack(&self.layout, free, count, taste)
    }

    /// How many a container is to have for itself.
    pub(super) fn of_container(&self, pod: &Pod, container: &Container) -> usize {
        let takes_part = !has_own_resources(pod) || (self.by_pod && is_fixed(container));
        if qos(pod) != "Guaranteed" || !takes_part {
            return 0;
        }
        whole_ones(container.resources.as_ref())
    }

    /// Whether a pod is to have any, or one of its containers.
    pub fn concerns(&self, pod: &Pod) -> bool {
        let mut all = pod.init_containers().iter().chain(pod.containers());
        all.any(|container| self.of_container(pod, container) > 0) || self.of_pod(pod) > 0
    }

    /// How many a pod's containers have together at the worst time.
    pub fn of_pod(&self, pod: &Pod) -> usize {
        if self.is_whole(pod) {
            return self.of_whole(pod);
        }
        let (mut init, mut sidecars) = (0, 0);
        for container in pod.init_containers() {
            let count = self.of_container(pod, container);
            match is_sidecar(container) {
                true => sidecars += count,
                false => init = init.max(sidecars + count),
            }
        }
        let main: usize = pod.containers().iter().map(|container| self.of_container(pod, container)).sum();
        init.max(main + sidecars)
    }

    /// What a container can have although it is given: what init containers before it had.
    pub(super) fn reusable(&self, state: &State, pod: &Pod, container: &str) -> CpuSet {
        let of = |name: &str| state.of(pod.uid(), name).cloned().unwrap_or_default();
        let mut free = CpuSet::default();
        for init in pod.init_containers().iter().take_while(|init| init.name != container) {
            free = if is_sidecar(init) { free.without(&of(&init.name)) } else { free.or(&of(&init.name)) };
        }
        if !pod.init_containers().iter().any(|init| init.name == container) {
            for main in pod.containers().iter().filter(|main| main.name != container) {
                free = free.without(&of(&main.name));
            }
        }
        free
    }

    /// Gives a container its own, if it is to have any; whether anything changed.
    ///
    /// # Errors
    /// [`CpuError`].
    pub fn allocate(
        &self,
        state: &mut State,
        pod: &Pod,
        container: &Container,
        affinity: Option<Mask>,
    ) -> Result<bool, CpuError> {
        let count = self.of_container(pod, container);
        if count == 0 || state.of(pod.uid(), &container.name).is_some() {
            return Ok(false);
        }
        self.check_cores(state, count)?;
        let free = self.available(state).or(&self.reusable(state, pod, &container.name));
        let taken = self.choose(&free, count, affinity)?;
        state.shared = state.shared.without(&taken);
        tracing::debug!(pod = %pod.described(), container = container.name, cpus = %taken, "cpus are given");
        state.given.entry(pod.uid().to_owned()).or_default().insert(container.name.clone(), taken);
        Ok(true)
    }

    /// So many of the free ones, near to where they are to be as long as there are such.
    pub(super) fn choose(
        &self,
        free: &CpuSet,
        count: usize,
        affinity: Option<Mask>,
    ) -> Result<CpuSet, CpuError> {
        let mut taken = CpuSet::default();
        if let Some(mask) = affinity {
            let near = self.near(mask, free);
            taken = self.take(&near, count.min(near.len()))?;
        }
        let rest = self.take(&free.without(&taken), count - taken.len())?;
        Ok(taken.or(&rest))
    }

    pub(super) fn check_cores(&self, state: &State, requested: usize) -> Result<(), CpuError> {
        let per_core = self.layout.size(Level::Core).max(1);
        if !self.options.full_cores_only {
            return Ok(());
        }
        if !requested.is_multiple_of(per_core) {
            return Err(CpuError::HalfCores { requested, per_core });
        }
        let available = state.shared.without(&self.reserved_cores).len();
        if requested > available {
            return Err(CpuError::TooFewCores { available, requested, per_core });
        }
        Ok(())
    }

    /// Those of the free ones that are where the container is to be.
    fn near(&self, mask: Mask, free: &CpuSet) -> CpuSet {
        let all = self.layout.all();
        let inside = |cpu: &u32| mask.has(self.layout.group(Level::Node, *cpu));
        if !self.options.align_by_socket {
            return CpuSet::of(free.iter().filter(inside));
        }
        let sockets = self.layout.groups(Level::Socket, &CpuSet::of(all.iter().filter(inside)));
        CpuSet::of(free.iter().filter(|cpu| sockets.contains(&self.layout.group(Level::Socket, *cpu))))
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::Configuration;
    use crate::cpus::layout::tests::machine;

    pub fn policy(layout: &Layout, reserved: i64, options: &[(&str, &str)]) -> Result<Static, String> {
        let mut fields = Configuration::defaults().unwrap().fields;
        fields.cpu_manager_policy_options =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Static::new(&fields, layout, reserved, Policy::None)
    }

    /// A pod whose containers ask for these; names that begin with `i` are init containers, `s` sidecars.
    pub fn pod(uid: &str, containers: &[(&str, &str)]) -> Pod {
        let container = |(name, cpu): &(&str, &str)| {
            let amounts = json!({"cpu": cpu, "memory": "1Mi"});
            let policy = name.starts_with('s').then_some("Always");
            json!({"name": name, "restartPolicy": policy, "resources": {"limits": amounts, "requests": amounts}})
        };
        let is_init = |(name, _): &&(&str, &str)| name.starts_with(['i', 's']);
        let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(|c| is_init(c));
        let list = |of: Vec<&(&str, &str)>| of.into_iter().map(container).collect::<Vec<_>>();
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid},
            "spec": {"initContainers": list(init), "containers": list(main)}}))
        .unwrap()
    }

    fn admit(policy: &Static, state: &mut State, pod: &Pod) -> Result<(), String> {
        for container in pod.init_containers().iter().chain(pod.containers()) {
            policy.allocate(state, pod, container, None).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn guaranteed_pods_get_whole_processors_and_the_rest_is_shared() {
        let layout = machine(1, 1, 4, 2);
        let policy = policy(&layout, 500, &[]).unwrap();
        let mut state = policy.begin(State::default()).unwrap();
        assert_eq!(
            (state.shared.to_string(), policy.allocatable().to_string()),
            ("0-7".into(), "1-7".into())
        );
        admit(&policy, &mut state, &pod("a", &[("c", "2"), ("d", "500m")])).unwrap();
        assert_eq!(state.of("a", "c").unwrap().to_string(), "1,5");
        assert_eq!((state.of("a", "d"), state.shared.to_string()), (None, "0,2-4,6-7".into()));
        let chain = pod("b", &[("i", "2"), ("s", "1"), ("ij", "1"), ("k", "2")]);
        assert_eq!(policy.of_pod(&chain), 3);
        admit(&policy, &mut state, &chain).unwrap();
        assert_eq!(state.of("b", "i").unwrap().to_string(), "2,6");
        // A sidecar runs on; what the first one had, those after it have, too.
        assert_eq!(state.of("b", "s").unwrap().to_string(), "4");
        assert_eq!(
            (state.of("b", "ij").unwrap().to_string(), state.of("b", "k").unwrap().to_string()),
            ("2".into(), "2,6".into())
        );
        assert_eq!(
            (state.exclusive().to_string(), state.shared.to_string()),
            ("1-2,4-6".into(), "0,3,7".into())
        );
        let error = admit(&policy, &mut state, &pod("c", &[("c", "3")])).unwrap_err();
        assert_eq!(error, "not enough cpus available to satisfy request: requested=3, available=2");
        assert!(state.release("b"));
        admit(&policy, &mut state, &pod("c", &[("c", "3")])).unwrap();
        let again = policy.begin(state.clone()).unwrap();
        assert_eq!(again, state);
    }

    #[test]
    fn half_cores_are_refused_when_whole_ones_are_wanted() {
        let layout = machine(1, 1, 4, 2);
        let policy = policy(&layout, 1000, &[("full-pcpus-only", "true")]).unwrap();
        let mut state = policy.begin(State::default()).unwrap();
        let error = admit(&policy, &mut state, &pod("a", &[("c", "1")])).unwrap_err();
        assert_eq!(error, "SMT Alignment Error: requested 1 cpus not multiple cpus per core = 2");
        let error = admit(&policy, &mut state, &pod("a", &[("c", "8")])).unwrap_err();
        assert!(
            error.contains("available physical CPUs = 6, requested CPUs = 8, CPUs per core = 2"),
            "{error}"
        );
        admit(&policy, &mut state, &pod("a", &[("c", "6")])).unwrap();
        assert_eq!(state.shared.to_string(), "0,4");
    }

    #[test]
    fn a_state_of_another_machine_or_reservation_is_refused() {
        let layout = machine(1, 1, 2, 1);
        let refused = |reserved, options: &[(&str, &str)], shared: &str, given: &str| {
            let mut state = State { shared: shared.parse().unwrap(), ..State::default() };
            if !given.is_empty() {
                state.given.entry("u".into()).or_default().insert("c".into(), given.parse().unwrap());
            }
            policy(&layout, reserved, options).unwrap().begin(state).unwrap_err()
        };
        assert!(refused(1000, &[], "", "1").contains("default cpuset cannot be empty"));
        assert!(refused(1000, &[], "1", "0").contains("not all reserved cpus: \"0\" are present"));
        assert!(refused(1000, &[], "0-1", "1").contains("overlaps with default cpuset"));
        assert!(refused(1000, &[], "0-2", "").contains("doesn't match with CPUs in state \"0-2\""));
        let strict = [("strict-cpu-reservation", "true")];
        assert!(refused(1000, &strict, "0-1", "").contains("some of strictly reserved cpus: \"0\""));
        let strict = policy(&layout, 1000, &strict).unwrap();
        let state = strict.begin(State::default()).unwrap();
        assert_eq!(state.shared.to_string(), "1");
        assert_eq!(strict.begin(state.clone()).unwrap(), state);
        assert!(policy(&layout, 0, &[]).err().unwrap().contains("to be greater than zero"));
        assert!(policy(&layout, 9000, &[]).err().unwrap().contains("unable to reserve the required amount"));
    }
}
