//! Upstream's rules (`pkg/kubelet/apis/config/validation`), in its words.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

use kinds::gates::Gate;
use schema::quantity::Quantity;

use super::{Fields, Verify, crash};
use crate::cpus::CpuSet;
use crate::pods::reserve;

/// What is wrong, in upstream's order.
pub fn validate(fields: &Fields) -> Vec<String> {
    let mut wrong = Vec::new();
    numbers(fields, &mut wrong);
    images(fields, &mut wrong);
    choices(fields, &mut wrong);
    crash::check(fields, &mut wrong);
    shutdown(fields, &mut wrong);
    enforcement(fields, &mut wrong);
    logs(fields, &mut wrong);
    let list = &fields.preloaded_images_verification_allowlist;
    wrong.extend(Verify::new(&fields.image_pull_credentials_verification_policy, list).err());
    exclusive(fields, &mut wrong);
    let mut all: Vec<String> =
        wrong.into_iter().map(|message| format!("invalid configuration: {message}")).collect();
    all.extend(fields.logging.wrong());
    all
}

fn numbers(f: &Fields, wrong: &mut Vec<String>) {
    if f.node_lease_duration_seconds <= 0 {
        wrong.push("nodeLeaseDurationSeconds must be greater than 0".to_owned());
    }
    if !f.system_cgroups.is_empty() && f.cgroup_root.is_empty() {
        wrong.push(
            "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified"
                .to_owned(),
        );
    }
    let negative = [
        ("eventBurst (--event-burst)", i64::from(f.event_burst)),
        ("eventRecordQPS (--event-qps)", i64::from(f.event_record_qps)),
        ("kubeAPIBurst (--kube-api-burst)", i64::from(f.kube_api_burst)),
        ("kubeAPIQPS (--kube-api-qps)", i64::from(f.kube_api_qps)),
        ("maxOpenFiles (--max-open-files)", f.max_open_files),
        ("maxPods (--max-pods)", i64::from(f.max_pods)),
        ("podsPerCore (--pods-per-core)", i64::from(f.pods_per_core)),
        ("registryBurst (--registry-burst)", i64::from(f.registry_burst)),
        ("registryPullQPS (--registry-qps)", i64::from(f.registry_pull_qps)),
    ];
    for (name, value) in negative.into_iter().filter(|(_, value)| *value < 0) {
        wrong.push(format!("{name} {value} must not be a negative number"));
    }
    if f.node_status_max_images < -1 {
        let value = f.node_status_max_images;
        wrong.push(format!("nodeStatusMaxImages (--node-status-max-images) {value} must be -1 or greater"));
    }
    let period = f.cpu_cfs_quota_period;
    if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period) {
        wrong.push(format!(
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {{{period:?}}} must be between 1ms and 1sec, inclusive"
        ));
    }
    if !f.default_pod_sysctls.is_empty() && !f.gates.has(Gate::DefaultPodSysctls) {
        wrong.push("FeatureGate DefaultPodSysctls not enabled, defaultPodSysctls must not be set".to_owned());
    }
    if let Some(ids) = f.user_namespaces.ids_per_pod {
        if ids < 65_536 {
            wrong.push("userNamespaces.idsPerPod must not be less than 65536".to_owned());
        } else if ids % 65_536 != 0 {
            wrong.push("userNamespaces.idsPerPod must be a multiple of 65536".to_owned());
        } else if ids > i64::from(u32::MAX) {
            wrong.push("userNamespaces.idsPerPod must not be more than 4294967295".to_owned());
        }
    }
    let ranges = [
        ("healthzPort (--healthz-port)", f.healthz_port, 0, 65535, "1 and 65535"),
        ("iptablesDropBit (--iptables-drop-bit)", f.iptables_drop_bit, 0, 31, "0 and 31"),
        ("iptablesMasqueradeBit (--iptables-masquerade-bit)", f.iptables_masquerade_bit, 0, 31, "0 and 31"),
        ("oomScoreAdj (--oom-score-adj)", f.oom_score_adj, -1000, 1000, "-1000 and 1000"),
        ("port (--port)", f.port, 1, 65535, "1 and 65535"),
        ("readOnlyPort (--read-only-port)", f.read_only_port, 0, 65535, "0 and 65535"),
    ];
    for (name, value, least, most, words) in ranges {
        if !(least..=most).contains(&value) {
            wrong.push(format!("{name} {value} must be between {words}, inclusive"));
        }
    }
}

fn images(f: &Fields, wrong: &mut Vec<String>) {
    let (high, low) = (f.image_gc_high_threshold_percent, f.image_gc_low_threshold_percent);
    let names = [
        "imageGCHighThresholdPercent (--image-gc-high-threshold)",
        "imageGCLowThresholdPercent (--image-gc-low-threshold)",
    ];
    for (name, value) in names.iter().zip([high, low]) {
        if !(0..=100).contains(&value) {
            wrong.push(format!("{name} {value} must be between 0 and 100, inclusive"));
        }
    }
    if low >= high {
        let [high_name, low_name] = names;
        wrong.push(format!("{low_name} {low} must be less than {high_name} {high}"));
    }
    let (least, most) = (f.image_minimum_gc_age, f.image_maximum_gc_age);
    if !most.is_zero() && most <= least {
        wrong.push(format!("imageMaximumGCAge {most:?} must be greater than imageMinimumGCAge {least:?}"));
    }
    if let Some(parallel) = f.max_parallel_image_pulls {
        if parallel < 1 {
            wrong.push(format!("maxParallelImagePulls {parallel} must be a positive number"));
        }
        if f.serialize_image_pulls && parallel > 1 {
            wrong.push("maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false".to_owned());
        }
    }
    if f.run_once {
        wrong.push(
            "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set".to_owned(),
        );
    }
}

fn choices(f: &Fields, wrong: &mut Vec<String>) {
    let policies = ["none", "best-effort", "restricted", "single-numa-node"];
    if !policies.contains(&f.topology_manager_policy.as_str()) {
        wrong.push(format!(
            "topologyManagerPolicy (--topology-manager-policy) {:?} must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
            f.topology_manager_policy
        ));
    }
    if !["container", "pod"].contains(&f.topology_manager_scope.as_str()) {
        wrong.push(format!(
            "topologyManagerScope (--topology-manager-scope) {:?} must be one of: \"container\", or \"pod\"",
            f.topology_manager_scope
        ));
    }
    if !["", "LimitedSwap", "NoSwap"].contains(&f.memory_swap.swap_behavior.as_str()) {
        wrong.push(format!(
            "memorySwap.swapBehavior {:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
            f.memory_swap.swap_behavior
        ));
    }
    if !["none", "hairpin-veth", "promiscuous-bridge"].contains(&f.hairpin_mode.as_str()) {
        wrong.push(format!(
            "option {:?} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"",
            f.hairpin_mode
        ));
    }
    if let Some(factor) = f.memory_throttling_factor.filter(|factor| !(*factor > 0.0 && *factor <= 1.0)) {
        wrong.push(format!(
            "memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0"
        ));
    }
    let policy = f.memory_reservation_policy.as_str();
    if policy == "TieredReservation" && !f.gates.has(Gate::MemoryQos) {
        wrong.push(
            "memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled"
                .to_owned(),
        );
    } else if !["None", "TieredReservation"].contains(&policy) {
        wrong.push(format!(
            "option {policy:?} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\""
        ));
    }
    if let Err(error) = reserve::percent(&f.qos_reserved) {
        wrong.push(format!("--qos-reserved value failed to parse: {error}"));
    }
    if f.register_with_taints.iter().any(|taint| taint.time_added.is_some()) {
        wrong.push("taint.TimeAdded is not nil".to_owned());
    }
}

fn shutdown(f: &Fields, wrong: &mut Vec<String>) {
    let (all, critical) = (f.shutdown_grace_period, f.shutdown_grace_period_critical_pods);
    let by_two = !all.is_zero() || !critical.is_zero();
    if by_two && !f.shutdown_grace_period_by_pod_priority.is_empty() {
        wrong.push(
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
                .to_owned(),
        );
    }
    if critical > all {
        wrong.push(format!(
            "shutdownGracePeriodCriticalPods {{{critical:?}}} must be <= shutdownGracePeriod {{{all:?}}}"
        ));
    }
    for (name, period) in [("shutdownGracePeriod", all), ("shutdownGracePeriodCriticalPods", critical)] {
        if !period.is_zero() && period < Duration::from_secs(1) {
            wrong.push(format!("{name} {{{period:?}}} must be either zero or otherwise >= 1 sec"));
        }
    }
}

fn enforcement(f: &Fields, wrong: &mut Vec<String>) {
    let list = &f.enforce_node_allocatable;
    let has = |name: &str| list.iter().any(|entry| entry == name);
    for part in ["system-reserved", "kube-reserved"] {
        if has(part) && has(&format!("{part}-compressible")) {
            wrong.push(format!(
                "both \"{part}\" and \"{part}-compressible\" cannot be specified together in enforceNodeAllocatable (--enforce-node-allocatable)"
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for entry in list {
        if !seen.insert(entry) {
            wrong.push(format!(
                "duplicated enforcements {entry:?} in enforceNodeAllocatable (--enforce-node-allocatable)"
            ));
            continue;
        }
        let needs = |cgroup: &str, field: &str, flag: &str, part: &str| {
            cgroup.is_empty().then(|| format!(
                "{field} ({flag}) must be specified when \"{part}\" or \"{part}-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)"
            ))
        };
        match entry.as_str() {
            "pods" => {}
            "system-reserved" | "system-reserved-compressible" => wrong.extend(needs(
                &f.system_reserved_cgroup,
                "systemReservedCgroup",
                "--system-reserved-cgroup",
                "system-reserved",
            )),
            "kube-reserved" | "kube-reserved-compressible" => wrong.extend(needs(
                &f.kube_reserved_cgroup,
                "kubeReservedCgroup",
                "--kube-reserved-cgroup",
                "kube-reserved",
            )),
            "none" => {
                if list.len() > 1 {
                    wrong.push("enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" is specified".to_owned());
                }
                continue;
            }
            other => {
                wrong.push(format!(
                    "option {other:?} specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""
                ));
                continue;
            }
        }
        if !f.cgroups_per_qos {
            wrong.push(format!(
                "cgroupsPerQOS (--cgroups-per-qos) must be set to true when {entry:?} contained in enforceNodeAllocatable (--enforce-node-allocatable)"
            ));
        }
    }
}

/// What is kept from containers that have processors or memory for themselves.
fn exclusive(f: &Fields, wrong: &mut Vec<String>) {
    if !f.reserved_system_cpus.is_empty() {
        if !f.system_reserved_cgroup.is_empty() || !f.kube_reserved_cgroup.is_empty() {
            wrong.push("can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)".to_owned());
        }
        if let Err(error) = f.reserved_system_cpus.parse::<CpuSet>() {
            wrong.push(format!(
                "unable to parse reservedSystemCPUs (--reserved-cpus) {}, error: {error}",
                f.reserved_system_cpus
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for reservation in &f.reserved_memory {
        let node = reservation.numa_node;
        for (kind, text) in &reservation.limits {
            if kind != "memory" && !kind.starts_with("hugepages-") {
                wrong.push(format!(
                    "the limit type {kind:?} for NUMA node {node} is not supported, only [memory hugepages-<HugePageSize>] is accepted"
                ));
            }
            if text.parse::<Quantity>().is_ok_and(|amount| amount.value() == 0) {
                wrong.push(format!(
                    "reserved memory may not be zero for NUMA node {node} and resource {kind:?}"
                ));
            }
            if !seen.insert((node, kind)) {
                wrong.push(format!(
                    "the reserved memory has a duplicate value for NUMA node {node} and resource {kind:?}"
                ));
            }
        }
    }
}

fn logs(f: &Fields, wrong: &mut Vec<String>) {
    if f.enable_system_log_query && !f.enable_system_log_handler {
        wrong.push("enableSystemLogHandler is required for enableSystemLogQuery".to_owned());
    }
    if f.container_log_max_workers < 1 {
        wrong.push("containerLogMaxWorkers must be greater than or equal to 1".to_owned());
    }
    if f.container_log_monitor_interval < Duration::from_secs(3) {
        wrong.push(
            "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
                .to_owned(),
        );
    }
    if f.container_log_max_files <= 1 {
        wrong.push("containerLogMaxFiles must be greater than 1".to_owned());
    }
    let path = f.pod_logs_dir.display().to_string();
    if !Path::new(&path).is_absolute() {
        wrong.push(format!("pod logs path {path:?} must be absolute path"));
    }
    let is_odd = |part: Component<'_>| matches!(part, Component::ParentDir | Component::CurDir);
    if f.pod_logs_dir.components().any(is_odd)
        || path.contains("//")
        || (path.len() > 1 && path.ends_with('/'))
    {
        wrong.push(format!("pod logs path {path:?} must be normalized"));
    }
    if !path.is_ascii() {
        wrong.push(format!("pod logs path {path:?} mut contains ASCII characters only"));
    }
}
