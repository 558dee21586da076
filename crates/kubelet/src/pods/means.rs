//! What a node makes of the resources that containers name: whether processors are rationed (`cpuCFSQuota`), and in which
//! periods, who may be swapped out (KEP-2400), who dies when memory is short, and what confines whoever names nothing
//! (`seccompDefault`). Pure.

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use kinds::gates::Gate;

use super::memory_qos::MemoryQos;
use super::reserve::{self, Reserve};
use super::resources::{self, given_in, limit, milli, qos, request};
use super::spec::PodExt;
use crate::cgroups::{Limits, PERIOD, quota_in};
use crate::configuration::Fields;
use crate::machine::Machine;

/// Where a control group of version 2 says how much of it may be swapped out.
const SWAP_FILE: &str = "memory.swap.max";
/// Where it says whether all of it dies with the one whose memory was short.
const TOGETHER_FILE: &str = "memory.oom.group";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Bytes of memory of the node, and of swap.
    pub memory: u64,
    pub swap: u64,
    /// Whether control groups are of version 2.
    pub unified: bool,
    /// Whether burstable pods may be swapped out.
    pub limited_swap: bool,
    /// Whether limits of processors hold.
    pub quota: bool,
    /// The period in which they do, in microseconds.
    pub period: i64,
    /// Whether all processes of a container are killed together when its memory is short.
    pub together: bool,
    /// Whether who names no seccomp profile has the runtime's.
    pub seccomp: bool,
    /// Whether memory is kept for who asked for it.
    pub memory_qos: Option<MemoryQos>,
    /// Whether classes of pods leave memory to those above them.
    pub reserve: Option<Reserve>,
}

/// The period of quotas (`cpuCFSQuotaPeriod`) in microseconds.
pub fn period(fields: &Fields) -> i64 {
    i64::try_from(fields.cpu_cfs_quota_period.as_micros()).unwrap_or(PERIOD)
}

impl Default for Means {
    fn default() -> Self {
        let (memory, swap) = (0, 0);
        let (unified, limited_swap, quota, together, seccomp) = (false, false, false, false, false);
        let (period, memory_qos, reserve) = (PERIOD, None, None);
        Self { memory, swap, unified, limited_swap, quota, period, together, seccomp, memory_qos, reserve }
    }
}

impl Means {
    /// Of a machine by a configuration. All pods may have so many bytes of it.
    pub fn new(machine: &Machine, fields: &Fields, unified: bool, allocatable: i64) -> Self {
        let memory_qos = || {
            let policy = &fields.memory_reservation_policy;
            MemoryQos::new(fields.memory_throttling_factor, policy, allocatable)
        };
        // What is no percentage has kept the kubelet from starting.
        let percent = reserve::percent(&fields.qos_reserved).ok().flatten();
        Self {
            reserve: percent
                .filter(|_| fields.gates.has(Gate::QosReserved))
                .map(|percent| Reserve { percent, allocatable }),
            memory_qos: (unified && fields.gates.has(Gate::MemoryQos)).then(memory_qos),
            memory: machine.memory,
            swap: machine.swap,
            unified,
            limited_swap: fields.memory_swap.swap_behavior == "LimitedSwap",
            quota: fields.cpu_cfs_quota,
            period: period(fields),
            together: unified && fields.single_process_oom_kill != Some(true),
            seccomp: fields.seccomp_default,
        }
    }

    /// The cgroup settings of a container.
    pub fn container(&self, pod: &Pod, container: &Container) -> wire::LinuxContainerResources {
        let mut resources = resources::container(pod, container, self.memory);
        resources.cpu_period = self.period;
        resources.cpu_quota = if self.quota { quota_in(self.period, resources.cpu_quota) } else { -1 };
        if self.together {
            resources.unified.insert(TOGETHER_FILE.to_owned(), "1".to_owned());
        }
        if let Some(memory_qos) = &self.memory_qos {
            let files = memory_qos.container(pod, container).into_iter();
            resources.unified.extend(files.map(|(file, value)| (file.to_owned(), value)));
        }
        match (self.swap, self.unified) {
            // Without any, nothing has to be kept from it.
            (0, _) => {}
            (_, true) => {
                let most = self.swap_of(pod, container).to_string();
                resources.unified.insert(SWAP_FILE.to_owned(), most);
            }
            // Memory and swap together.
            (_, false) => resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes,
        }
        resources
    }

    /// The limits of a pod's cgroup.
    pub fn pod(&self, pod: &Pod) -> Limits {
        let mut limits = resources::pod_limits(pod);
        if !self.quota {
            limits.cpu_quota = Some(-1);
        }
        if let Some(memory_qos) = &self.memory_qos {
            let asked = milli(Some(&resources::pod_requests(pod)), "memory").unwrap_or(0) / 1000;
            memory_qos.pod(qos(pod), asked, &mut limits);
        }
        limits
    }

    /// The bytes of a container that may be swapped out: as much of all swap as it asks of all memory, of those only that
    /// may grow beyond what they ask for.
    fn swap_of(&self, pod: &Pod, container: &Container) -> u64 {
        let given = given_in(pod, container);
        let asked = request(Some(&given), "memory").unwrap_or(0);
        let fixed = asked == limit(Some(&given), "memory").unwrap_or(0);
        if !self.limited_swap || pod.is_critical() || qos(pod) != "Burstable" || fixed {
            return 0;
        }
        let asked = u64::try_from(asked).unwrap_or(0);
        match self.memory {
            memory if asked > memory || memory == 0 => 0,
            memory => {
                let share = u128::from(asked) * u128::from(self.swap) / u128::from(memory);
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }

    /// The profile of whoever names none.
    pub fn seccomp(&self) -> Option<SeccompProfile> {
        self.seccomp
            .then(|| SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GI: u64 = 1 << 30;

    fn swapped(requests: &str, limits: &str, means: Means) -> Option<String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"memory": requests}, "limits": {"memory": limits}}}]}}))
        .unwrap();
        let container = pod.container("c").unwrap();
        means.container(&pod, &container).unified.get(SWAP_FILE).cloned()
    }

    #[test]
    fn who_may_grow_is_swapped_out_in_proportion() {
        let some =
            Means { memory: 4 * GI, swap: 2 * GI, unified: true, limited_swap: true, ..Means::default() };
        assert_eq!(swapped("1Gi", "2Gi", some), Some((GI / 2).to_string()));
        for (requests, limits) in [("1Gi", "1Gi"), ("0", "0"), ("8Gi", "9Gi")] {
            assert_eq!(swapped(requests, limits, some).as_deref(), Some("0"), "{requests}");
        }
        assert_eq!(swapped("1Gi", "2Gi", Means { limited_swap: false, ..some }).as_deref(), Some("0"));
        assert_eq!(swapped("1Gi", "2Gi", Means { swap: 0, ..some }), None);
    }

    #[test]
    fn in_control_groups_of_version_1_memory_and_swap_are_limited_together() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}]}}))
        .unwrap();
        let container = pod.container("c").unwrap();
        let with = |swap, quota| {
            let given = Means { memory: GI, swap, quota, ..Means::default() }.container(&pod, &container);
            (given.memory_swap_limit_in_bytes, given.cpu_quota)
        };
        assert_eq!(with(GI, true), (1 << 30, 100_000));
        assert_eq!(with(0, false), (0, -1));
    }

    #[test]
    fn quotas_are_of_the_nodes_period_and_a_container_dies_as_a_whole() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "500m"}}}, {"name": "d"}]}}))
        .unwrap();
        let fields = |text: serde_json::Value| {
            let serde_json::Value::Object(flags) = text else { panic!("an object") };
            crate::Configuration::merge(&[], flags).unwrap().0.fields
        };
        let given = |text, unified, name: &str| {
            let means = Means::new(&Machine::default(), &fields(text), unified, 0);
            let given = means.container(&pod, &pod.container(name).unwrap());
            (given.cpu_period, given.cpu_quota, given.unified.contains_key(TOGETHER_FILE))
        };
        assert_eq!(given(json!({}), true, "c"), (100_000, 50_000, true));
        let short = json!({"cpuCFSQuotaPeriod": "10ms", "singleProcessOOMKill": true});
        assert_eq!(given(short.clone(), true, "c"), (10_000, 5_000, false));
        assert_eq!(given(short, false, "d"), (10_000, 0, false));
        assert_eq!(given(json!({"cpuCFSQuotaPeriod": "1ms"}), false, "c"), (1_000, 1_000, false));
    }
}
