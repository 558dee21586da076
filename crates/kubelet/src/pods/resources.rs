//! Quality of service, cgroup settings and the OOM score, from requests and limits. Pure.

use std::collections::BTreeMap;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use schema::quantity::Quantity;

use super::spec::{PodExt, is_sidecar};
use crate::cgroups::{KeptMemory, Limits, PERIOD};

const MIN_QUOTA: i64 = 1000;
/// The least weight, and the millicores that have it.
pub const MIN_SHARES: i64 = 2;
/// The least millicores that a quota can give.
pub const MIN_MILLIS: i64 = 10;
const MAX_SHARES: i64 = 262_144;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, QuantityText>;

/// An amount of a resource in thousandths; `None` when it is not given or unreadable.
pub fn milli(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    amounts?.get(name)?.0.parse::<Quantity>().ok().map(|quantity| quantity.milli())
}

/// A limit: millicores for the processor, bytes for everything else.
pub fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    amount(milli(resources?.limits.as_ref(), name), name)
}

/// A request, likewise. The API server has set it to the limit where only that was given.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<i64> {
    amount(milli(resources?.requests.as_ref(), name), name).or_else(|| limit(resources, name))
}

fn amount(milli: Option<i64>, name: &str) -> Option<i64> {
    milli.map(|milli| {
        if name == "cpu" { milli } else { milli.div_euclid(1000) + i64::from(milli.rem_euclid(1000) > 0) }
    })
}

/// The quality-of-service class.
pub fn qos(pod: &Pod) -> &'static str {
    let given = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match given {
        Some("Guaranteed") => return "Guaranteed",
        Some("Burstable") => return "Burstable",
        Some("BestEffort") => return "BestEffort",
        _ => {}
    }
    let (mut any, mut all) = (false, true);
    let mut count = |resources: Option<&ResourceRequirements>| {
        for name in ["cpu", "memory"] {
            let positive = |value: Option<i64>| value.filter(|value| *value > 0);
            let (limit, request) = (positive(limit(resources, name)), positive(request(resources, name)));
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && limit == request;
        }
    };
    match of_pod(pod) {
        Some(resources) => count(Some(resources)),
        None => {
            let containers = pod.init_containers().iter().chain(pod.containers());
            containers.for_each(|container| count(container.resources.as_ref()));
        }
    }
    match (any, all) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

/// The cgroup under which a pod's containers are.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let class = match qos(pod) {
        "Guaranteed" => "",
        "Burstable" => "burstable/",
        _ => "besteffort/",
    };
    format!("{}/kubepods/{class}pod{}", root.trim_end_matches('/'), pod.uid())
}

/// What pods ask for together, by their class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Millicores of pods of the class Burstable, and bytes.
    pub burstable_cpu: i64,
    pub burstable_memory: i64,
    /// Bytes of pods of the class Guaranteed.
    pub guaranteed_memory: i64,
}

/// The groups of the two classes that share what others leave of the processor, and what they may use, also of memory
/// (`most`: bytes of each) where they leave some to others; where memory is kept (`kept`: bytes for the class Guaranteed,
/// and for Burstable), the group of all pods too, for it keeps what those below it keep.
pub fn class_groups(
    root: &str,
    asked: &Asked,
    kept: Option<(i64, i64)>,
    most: Option<[i64; 2]>,
) -> Vec<(String, Limits)> {
    let [whole, first, last] = cgroup_roots(root);
    let [of_first, of_last] = most.map_or([None; 2], |most| most.map(Some));
    let weighed = |shares, memory| Limits { cpu_shares: Some(shares), memory, ..Limits::default() };
    let (mut burstable, rest) =
        (weighed(shares(asked.burstable_cpu), of_first), weighed(MIN_SHARES, of_last));
    let mut groups = Vec::new();
    if let Some((of_guaranteed, of_burstable)) = kept {
        burstable.kept.taken_last = Some(of_burstable);
        let never_taken = Some(of_guaranteed + of_burstable);
        let kept = KeptMemory { never_taken, taken_last: None };
        groups.push((whole, Limits { kept, ..Limits::default() }));
    }
    groups.extend([(first, burstable), (last, rest)]);
    groups
}

/// The cgroups below which pods are, by class.
pub fn cgroup_roots(root: &str) -> [String; 3] {
    ["", "/burstable", "/besteffort"].map(|class| format!("{}/kubepods{class}", root.trim_end_matches('/')))
}

/// The cgroups that a pod may have had, whatever its class was.
pub fn cgroups_of(root: &str, uid: &str) -> [String; 3] {
    cgroup_roots(root).map(|parent| format!("{parent}/pod{uid}"))
}

/// The weight for millicores.
pub fn shares(millis: i64) -> i64 {
    if millis == 0 { MIN_SHARES } else { (millis * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The millicores that have a weight, rounded up.
pub fn millis_of_shares(shares: i64) -> i64 {
    if shares < MIN_SHARES { 0 } else { (shares * 1000 + 1023) / 1024 }
}

/// The millicores that a quota gives.
pub fn millis_of_quota(quota: i64) -> i64 {
    quota * 1000 / PERIOD
}

/// The quota per [`PERIOD`] for millicores; 0 is none.
pub fn quota(millis: i64) -> i64 {
    if millis == 0 { 0 } else { (millis * PERIOD / 1000).max(MIN_QUOTA) }
}

/// How readily the kernel kills a container when memory is short.
pub fn oom_score(pod: &Pod, container: &Container, memory: u64) -> i64 {
    match qos(pod) {
        _ if pod.is_critical() => -997,
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let asked = |container: &Container| request(container.resources.as_ref(), "memory").unwrap_or(0);
            let share = remaining(pod);
            let score = |request: i64| {
                1000 - 1000 * i128::from(request.saturating_add(share)) / i128::from(memory.max(1))
            };
            let mut own = score(asked(container));
            // A sidecar outlives the containers that it serves.
            if pod.init_containers().iter().any(|c| c.name == container.name) && is_sidecar(container) {
                own = own.min(score(pod.containers().iter().map(asked).min().unwrap_or(0)));
            }
            i64::try_from(own.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The memory that the pod asks for beyond what its containers do, for each of them.
fn remaining(pod: &Pod) -> i64 {
    let Some(of_pod) = of_pod(pod).and_then(|resources| request(Some(resources), "memory")) else { return 0 };
    let lasting = pod.init_containers().iter().filter(|c| is_sidecar(c)).chain(pod.containers());
    let (count, sum) = lasting.fold((0, 0), |(count, sum), container| {
        (count + 1, sum + request(container.resources.as_ref(), "memory").unwrap_or(0))
    });
    if count == 0 { 0 } else { (of_pod - sum).max(0) / count }
}

/// What a container is given, where the pod as a whole has `of_pod`: its limit holds for whoever has none of its own, so
/// that it is seen from inside (KEP-2837).
pub fn given(
    of_pod: Option<&ResourceRequirements>,
    container: Option<&ResourceRequirements>,
) -> ResourceRequirements {
    let mut given = container.cloned().unwrap_or_default();
    for name in ["cpu", "memory"] {
        let own = limit(Some(&given), name).filter(|own| *own > 0);
        let whole = of_pod.and_then(|whole| whole.limits.as_ref()?.get(name));
        if let (None, Some(whole)) = (own, whole.filter(|_| limit(of_pod, name) != Some(0))) {
            given.limits.get_or_insert_default().insert(name.to_owned(), whole.clone());
        }
    }
    given
}

/// What a container of the pod is given.
pub fn given_in(pod: &Pod, container: &Container) -> ResourceRequirements {
    given(of_pod(pod), container.resources.as_ref())
}

/// The cgroup settings of a container.
pub fn container(pod: &Pod, container: &Container, memory: u64) -> wire::LinuxContainerResources {
    let given = given_in(pod, container);
    let resources = Some(&given);
    wire::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(limit(resources, "cpu").unwrap_or(0)),
        cpu_shares: shares(request(resources, "cpu").unwrap_or(0)),
        memory_limit_in_bytes: limit(resources, "memory").unwrap_or(0),
        oom_score_adj: oom_score(pod, container, memory),
        hugepage_limits: quantities(resources.and_then(|resources| resources.limits.as_ref()))
            .into_iter()
            .filter_map(|(name, amount)| {
                let page_size = page_size(name.strip_prefix("hugepages-")?);
                Some(wire::HugepageLimit { page_size, limit: u64::try_from(amount.value()).unwrap_or(0) })
            })
            .collect(),
        ..Default::default()
    }
}

/// For a running container: what is not limited is said so, since 0 leaves everything as it was.
pub fn unbounded(mut resources: wire::LinuxContainerResources) -> wire::LinuxContainerResources {
    for limit in [&mut resources.cpu_quota, &mut resources.memory_limit_in_bytes] {
        if *limit == 0 {
            *limit = -1;
        }
    }
    resources
}

/// Resources of the pod as a whole, if it has any (KEP-2837).
pub fn of_pod(pod: &Pod) -> Option<&ResourceRequirements> {
    let resources = pod.spec()?.resources.as_ref()?;
    let has = |amounts: &Option<Amounts>| amounts.as_ref().is_some_and(|amounts| !amounts.is_empty());
    Some(resources).filter(|resources| has(&resources.requests) || has(&resources.limits))
}

/// Whether the pod has resources as a whole.
pub fn has_own_resources(pod: &Pod) -> bool {
    of_pod(pod).is_some()
}

/// Whether a container by itself could be of the class Guaranteed: it has no more than it asks for.
pub fn is_fixed(container: &Container) -> bool {
    let resources = container.resources.as_ref();
    let fixed =
        |name| limit(resources, name).is_some_and(|most| most > 0 && request(resources, name) == Some(most));
    fixed("cpu") && fixed("memory")
}

fn quantities(amounts: Option<&Amounts>) -> BTreeMap<String, Quantity> {
    let parsed = amounts.into_iter().flatten().map(|(name, text)| Some((name.clone(), text.0.parse().ok()?)));
    parsed.flatten().collect()
}

/// What init containers, sidecars and containers need together, at the worst time; then what the pod as a whole says.
fn aggregate(pod: &Pod, of: fn(&ResourceRequirements) -> Option<&Amounts>) -> BTreeMap<String, Quantity> {
    let add = |sum: &mut BTreeMap<String, Quantity>, more: BTreeMap<String, Quantity>| {
        for (name, amount) in more {
            let total = sum.get(&name).map_or_else(|| amount.clone(), |known| known.add(&amount));
            sum.insert(name, total);
        }
    };
    let needs = |container: &Container| quantities(container.resources.as_ref().and_then(of));
    let (mut sum, mut sidecars) = (BTreeMap::new(), BTreeMap::new());
    let mut most: BTreeMap<String, Quantity> = BTreeMap::new();
    pod.containers().iter().for_each(|container| add(&mut sum, needs(container)));
    for container in pod.init_containers() {
        let mut then = sidecars.clone();
        add(&mut then, needs(container));
        if is_sidecar(container) {
            add(&mut sum, needs(container));
            sidecars = then.clone();
        }
        for (name, amount) in then {
            if most.get(&name).is_none_or(|known| *known < amount) {
                most.insert(name, amount);
            }
        }
    }
    for (name, amount) in most {
        if sum.get(&name).is_none_or(|known| *known < amount) {
            sum.insert(name, amount);
        }
    }
    sum.extend(quantities(of_pod(pod).and_then(of)));
    sum
}

/// What the pod asks for, overhead included (`component-helpers/resource.PodRequests`).
pub fn pod_requests(pod: &Pod) -> Amounts {
    let mut sum = aggregate(pod, |resources| resources.requests.as_ref());
    for (name, more) in quantities(pod.spec().and_then(|spec| spec.overhead.as_ref())) {
        let total = sum.get(&name).map_or_else(|| more.clone(), |known| known.add(&more));
        sum.insert(name, total);
    }
    sum.into_iter().map(|(name, amount)| (name, QuantityText(amount.to_string()))).collect()
}

/// What the containers may use together, overhead included where there is a limit (`component-helpers/resource.PodLimits`).
pub fn summed_limits(pod: &Pod) -> Amounts {
    let mut sum = aggregate(pod, |resources| resources.limits.as_ref());
    for (name, more) in quantities(pod.spec().and_then(|spec| spec.overhead.as_ref())) {
        if let Some(limit) = sum.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit = limit.add(&more);
        }
    }
    sum.into_iter().map(|(name, amount)| (name, QuantityText(amount.to_string()))).collect()
}

/// What the pod's cgroup may use. A limit holds only if every container has one, or the pod itself.
pub fn pod_limits(pod: &Pod) -> Limits {
    let requests = pod_requests(pod);
    let limits = aggregate(pod, |resources| resources.limits.as_ref());
    let overhead = quantities(pod.spec().and_then(|spec| spec.overhead.as_ref()));
    let every = |name: &str| {
        let of_pod = of_pod(pod).and_then(|resources| milli(resources.limits.as_ref(), name));
        let mut containers = pod.init_containers().iter().chain(pod.containers());
        of_pod.is_some_and(|limit| limit > 0)
            || containers.all(|container| limit(container.resources.as_ref(), name).is_some_and(|l| l > 0))
    };
    let limited = |name: &str| {
        let limit = limits.get(name).filter(|_| every(name))?;
        Some(overhead.get(name).map_or_else(|| limit.clone(), |more| limit.add(more)))
    };
    let class = qos(pod);
    let asked = milli(Some(&requests), "cpu").unwrap_or(0);
    let hugepages = limits
        .iter()
        .filter_map(|(name, amount)| Some((page_size(name.strip_prefix("hugepages-")?), amount.value())));
    Limits {
        cpu_shares: Some(if class == "BestEffort" { MIN_SHARES } else { shares(asked) }),
        cpu_quota: limited("cpu").map(|limit| quota(limit.milli())),
        memory: limited("memory").map(|limit| limit.value()),
        pids: None,
        storage: limits.get("ephemeral-storage").map(Quantity::value),
        hugepages: hugepages.collect(),
        kept: KeptMemory::default(),
    }
}

/// The size of pages as the kernel writes it: `2Mi` is `2MB`.
pub fn page_size(quantity: &str) -> String {
    quantity.replace("Ki", "KB").replace("Mi", "MB").replace("Gi", "GB")
}

/// The limits as the runtime is told of them.
pub fn pod(pod: &Pod) -> wire::LinuxContainerResources {
    let limits = pod_limits(pod);
    wire::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: limits.cpu_quota.unwrap_or(0),
        cpu_shares: limits.cpu_shares.unwrap_or(0),
        memory_limit_in_bytes: limits.memory.unwrap_or(0),
        ..Default::default()
    }
}
