//! Quality of service, cgroup settings and the OOM score, from requests and limits. Pure.

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use schema::quantity::Quantity;

use super::spec::PodExt;

const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// An amount of a resource in thousandths; `None` when it is not given or unreadable.
fn milli(
    amounts: Option<
        &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >,
    name: &str,
) -> Option<i64> {
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
    for container in pod.init_containers().iter().chain(pod.containers()) {
        for name in ["cpu", "memory"] {
            let resources = container.resources.as_ref();
            let positive = |value: Option<i64>| value.filter(|value| *value > 0);
            let (limit, request) = (positive(limit(resources, name)), positive(request(resources, name)));
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && limit == request;
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

/// The weight for millicores.
pub fn shares(millis: i64) -> i64 {
    if millis == 0 { MIN_SHARES } else { (millis * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The quota per [`PERIOD`] for millicores; 0 is none.
pub fn quota(millis: i64) -> i64 {
    if millis == 0 { 0 } else { (millis * PERIOD / 1000).max(MIN_QUOTA) }
}

/// How readily the kernel kills a container when memory is short.
pub fn oom_score(pod: &Pod, container: &Container, memory: u64) -> i64 {
    let critical =
        pod.spec().and_then(|spec| spec.priority).is_some_and(|priority| priority >= 2_000_000_000);
    match qos(pod) {
        _ if critical => -997,
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = i128::from(request(container.resources.as_ref(), "memory").unwrap_or(0));
            let score = 1000 - 1000 * request / i128::from(memory.max(1));
            i64::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The cgroup settings of a container.
pub fn container(pod: &Pod, container: &Container, memory: u64) -> wire::LinuxContainerResources {
    let resources = container.resources.as_ref();
    wire::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(limit(resources, "cpu").unwrap_or(0)),
        cpu_shares: shares(request(resources, "cpu").unwrap_or(0)),
        memory_limit_in_bytes: limit(resources, "memory").unwrap_or(0),
        oom_score_adj: oom_score(pod, container, memory),
        ..Default::default()
    }
}

/// The cgroup settings of a whole pod. A limit holds only if every container has one.
pub fn pod(pod: &Pod) -> wire::LinuxContainerResources {
    let limits = |name: &str| -> Option<i64> {
        let mut sum = 0;
        for container in pod.containers() {
            sum += limit(container.resources.as_ref(), name).filter(|limit| *limit > 0)?;
        }
        let init = pod.init_containers().iter().filter_map(|c| limit(c.resources.as_ref(), name)).max();
        Some(sum.max(init.unwrap_or(0)))
    };
    let requests: i64 = pod.containers().iter().filter_map(|c| request(c.resources.as_ref(), "cpu")).sum();
    wire::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(limits("cpu").unwrap_or(0)),
        cpu_shares: shares(requests),
        memory_limit_in_bytes: limits("memory").unwrap_or(0),
        ..Default::default()
    }
}
