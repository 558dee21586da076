//! `/stats/summary` (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`).

use std::path::Path;
use std::sync::Arc;

use cri::v1 as wire;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Volume;
use serde_json::{Map, Value, json};

use super::measures::{ContainerMeasure, Disk, PodMeasure, disk, disk_of, measure, node, number};
use super::{Refusal, Server, system};
use crate::Shared;
use crate::eviction::pods_group;
use crate::machine::Tasks;
use crate::pods::log_directory;
use crate::pods::spec::PodExt;

/// The summary; with `only_cpu_and_memory` just these.
pub async fn summary(server: &Server, only_cpu_and_memory: bool) -> Result<Value, Refusal> {
    let pods = measure(server).await?;
    let (images, containers) = match server.shared.runtime.filesystems().await {
        Ok((images, containers)) => (images.clone(), containers.or(images)),
        Err(status) => {
            tracing::debug!(%status, "the runtime does not tell of its images' disk");
            (None, None)
        }
    };
    let shared = server.shared.clone();
    // Counting files takes its time.
    let made = tokio::task::spawn_blocking(move || {
        whole(&shared, &pods, (images.as_deref(), containers.as_deref()), only_cpu_and_memory)
    });
    made.await.map_err(Refusal::internal)?.map_err(Refusal::internal)
}

fn whole(
    shared: &Arc<Shared>,
    pods: &[PodMeasure],
    (images, containers): (Option<&str>, Option<&str>),
    only_cpu_and_memory: bool,
) -> std::io::Result<Value> {
    let now = time(shared.config.clock.now());
    let used = node(shared, pods)?;
    let memory = shared.machine.memory;
    // A node that is a part of its machine has what its pods have.
    let resident = match used.rss.and_then(|bytes| i64::try_from(bytes).ok()) {
        None => shared.cgroups.resident(&pods_group(shared))?,
        known => known,
    };
    // Nobody counts huge pages as used, and nothing else fits into them.
    let huge: u64 = shared.machine.huge_pages.iter().map(|(_, bytes)| bytes).sum();
    let available = used.working_set.map(|used| memory.saturating_sub(used).saturating_sub(huge));
    let at = i64::try_from(shared.config.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
    let rate = |whose, total: Option<u64>| shared.rates.since(whose, at, total?);
    let [faults, major] = match used.is_machine {
        true => system::page_faults().map(|count| count.and_then(|count| i64::try_from(count).ok())),
        false => shared.cgroups.page_faults(&pods_group(shared))?,
    };
    let pressed = |resource| if used.is_machine { system::pressure(resource) } else { Value::Null };
    let mut node = json!({
        "nodeName": shared.config.node_name,
        "startTime": started(),
        "cpu": {"time": now, "usageNanoCores": rate("node", used.cpu), "usageCoreNanoSeconds": used.cpu,
                "psi": pressed("cpu")},
        "memory": {"time": now, "availableBytes": available, "usageBytes": used.working_set,
                   "workingSetBytes": used.working_set, "rssBytes": resident, "pageFaults": faults,
                   "majorPageFaults": major, "psi": pressed("memory")},
    });
    if let Value::Object(node) = &mut node {
        let booted = system::booted().unwrap_or_default();
        let of_process = |name, pid: &str| {
            let process = system::Process::read(pid, booted)?;
            let since = time_of(i64::try_from(process.started).ok()?.saturating_mul(1_000_000_000));
            Some(process.told((name, rate(name, Some(process.cpu))), since, &now))
        };
        let runtime = system::server_of(&shared.config.cri_endpoint);
        let parts = [
            of_process("kubelet", "self"),
            runtime.and_then(|pid| of_process("runtime", &pid)),
            Some(all_pods(shared, pods, &now, rate)?),
        ];
        node.insert("systemContainers".to_owned(), parts.into_iter().flatten().collect());
    }
    if let (false, Value::Object(node)) = (only_cpu_and_memory, &mut node) {
        node.insert("fs".to_owned(), fs(disk(&shared.config.root_dir), &now));
        let of = |mountpoint: Option<&str>| fs(mountpoint.and_then(|path| disk(Path::new(path))), &now);
        let runtime = json!({"imageFs": of(images), "containerFs": of(containers)});
        node.insert("runtime".to_owned(), runtime);
        node.insert("rlimit".to_owned(), rlimit(&now));
        node.insert("network".to_owned(), system::network(&now));
        if used.is_machine {
            node.insert("io".to_owned(), json!({"time": now, "psi": system::pressure("io")}));
            node.insert("swap".to_owned(), system::swap(&now));
        }
    }
    let context = Context { shared, now: &now, layers: containers, brief: only_cpu_and_memory };
    let pods: Vec<Value> = pods.iter().map(|pod| context.pod(pod)).collect();
    let mut summary = json!({"node": node, "pods": pods});
    prune(&mut summary);
    Ok(summary)
}

/// What all pods use together, as upstream tells it beside the services of the system.
fn all_pods(
    shared: &Shared,
    pods: &[PodMeasure],
    now: &str,
    rate: impl Fn(&'static str, Option<u64>) -> Option<u64>,
) -> std::io::Result<Value> {
    let group = pods_group(shared);
    let (limit, used) = (shared.cgroups.memory_limit(&group)?, shared.cgroups.working_set(&group)?);
    let cpu: u64 = pods.iter().filter_map(PodMeasure::cpu).sum();
    let [faults, major] = shared.cgroups.page_faults(&group)?;
    Ok(json!({
        "name": "pods",
        "startTime": started(),
        "cpu": {"time": now, "usageNanoCores": rate("pods", Some(cpu)), "usageCoreNanoSeconds": cpu},
        "memory": {"time": now, "usageBytes": shared.cgroups.memory_usage(&group)?, "workingSetBytes": used,
                   "rssBytes": shared.cgroups.resident(&group)?, "pageFaults": faults, "majorPageFaults": major,
                   "availableBytes": limit.zip(used).map(|(limit, used)| (limit - used).max(0))},
    }))
}

/// Takes away what is not known.
fn prune(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time of the CRI's; one that is not told is null, as in Go.
fn time_of(nanoseconds: i64) -> Value {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(at) if nanoseconds > 0 => json!(time(at)),
        _ => Value::Null,
    }
}

/// When the machine started.
fn started() -> Value {
    let seconds = system::booted().and_then(|seconds| i64::try_from(seconds).ok());
    seconds.map_or(Value::Null, |seconds| time_of(seconds.saturating_mul(1_000_000_000)))
}

fn fs(disk: Option<Disk>, now: &str) -> Value {
    disk.map_or(Value::Null, |disk| {
        json!({"time": now, "availableBytes": disk.available, "capacityBytes": disk.capacity, "usedBytes": disk.used,
               "inodesFree": disk.inodes_free, "inodes": disk.inodes, "inodesUsed": disk.inodes_used})
    })
}

fn rlimit(now: &str) -> Value {
    match Tasks::read() {
        Ok(tasks) => json!({"time": now, "maxpid": tasks.most, "curproc": tasks.running}),
        Err(_) => Value::Null,
    }
}

fn psi(stats: Option<&wire::PsiStats>) -> Value {
    let data = |data: Option<&wire::PsiData>| {
        let data = data.copied().unwrap_or_default();
        json!({"total": data.total, "avg10": data.avg10, "avg60": data.avg60, "avg300": data.avg300})
    };
    stats.map_or(
        Value::Null,
        |stats| json!({"full": data(stats.full.as_ref()), "some": data(stats.some.as_ref())}),
    )
}

fn cpu(usage: Option<&wire::CpuUsage>) -> Value {
    usage.map_or(Value::Null, |cpu| {
        json!({"time": time_of(cpu.timestamp), "usageNanoCores": number(cpu.usage_nano_cores.as_ref()),
               "usageCoreNanoSeconds": number(cpu.usage_core_nano_seconds.as_ref()), "psi": psi(cpu.psi.as_ref())})
    })
}

fn memory(usage: Option<&wire::MemoryUsage>) -> Value {
    usage.map_or(Value::Null, |memory| {
        json!({
            "time": time_of(memory.timestamp),
            "availableBytes": number(memory.available_bytes.as_ref()),
            "usageBytes": number(memory.usage_bytes.as_ref()),
            "workingSetBytes": number(memory.working_set_bytes.as_ref()),
            "rssBytes": number(memory.rss_bytes.as_ref()),
            "pageFaults": number(memory.page_faults.as_ref()),
            "majorPageFaults": number(memory.major_page_faults.as_ref()),
            "psi": psi(memory.psi.as_ref()),
        })
    })
}

fn network(usage: Option<&wire::NetworkUsage>) -> Value {
    let interface = |of: &wire::NetworkInterfaceUsage| {
        json!({"name": of.name, "rxBytes": number(of.rx_bytes.as_ref()), "rxErrors": number(of.rx_errors.as_ref()),
               "txBytes": number(of.tx_bytes.as_ref()), "txErrors": number(of.tx_errors.as_ref())})
    };
    let Some(usage) = usage else { return Value::Null };
    let mut out = Map::from_iter([("time".to_owned(), time_of(usage.timestamp))]);
    if let Some(Value::Object(first)) = usage.default_interface.as_ref().map(interface) {
        out.extend(first);
    }
    let all = usage.default_interface.iter().chain(&usage.interfaces);
    out.insert("interfaces".to_owned(), all.map(interface).collect());
    Value::Object(out)
}

/// What all pods' parts need.
struct Context<'a> {
    shared: &'a Shared,
    now: &'a str,
    /// Where containers' own layers are.
    layers: Option<&'a str>,
    brief: bool,
}

impl Context<'_> {
    fn pod(&self, measure: &PodMeasure) -> Value {
        let pod = &measure.pod;
        let linux = measure.sandbox.as_ref();
        let since = measure.observed.sandbox().map_or(Value::Null, |sandbox| time_of(sandbox.created_at));
        let at = time_of(measure.at());
        let whole_cpu = linux.and_then(|linux| linux.cpu.as_ref());
        let whole_memory = linux.and_then(|linux| linux.memory.as_ref());
        let cpu = match whole_cpu {
            Some(_) => cpu(whole_cpu),
            None => json!({"time": at, "usageCoreNanoSeconds": measure.cpu(),
                           "usageNanoCores": measure.sum(|c| number(c.stats.cpu.as_ref()?.usage_nano_cores.as_ref()))}),
        };
        let memory = match whole_memory {
            Some(_) => memory(whole_memory),
            None => json!({"time": at, "workingSetBytes": measure.working_set(),
                           "usageBytes": measure.sum(|c| number(c.stats.memory.as_ref()?.usage_bytes.as_ref()))}),
        };
        let mut used = Used::default();
        let containers: Vec<Value> = measure
            .containers
            .iter()
            .map(|container| self.container(measure, container, &mut used))
            .collect();
        let mut out = json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "startTime": since, "containers": containers, "cpu": cpu, "memory": memory,
        });
        let Value::Object(fields) = &mut out else { return out };
        if self.brief {
            return out;
        }
        let volumes = self.volumes(measure, &mut used);
        fields.insert(
            "volume".to_owned(),
            if volumes.is_empty() { Value::Null } else { Value::Array(volumes) },
        );
        fields.insert("network".to_owned(), network(linux.and_then(|linux| linux.network.as_ref())));
        let processes = linux.and_then(|linux| number(linux.process.as_ref()?.process_count.as_ref()));
        fields.insert("process_stats".to_owned(), json!({"process_count": processes}));
        let root = disk(&self.shared.config.root_dir);
        let own = root.map(|disk| Disk { used: used.bytes, inodes_used: used.inodes, ..disk });
        fields.insert("ephemeral-storage".to_owned(), fs(own, self.now));
        out
    }

    fn container(&self, pod: &PodMeasure, container: &ContainerMeasure, used: &mut Used) -> Value {
        let stats = &container.stats;
        let since = container.instance.as_ref().map_or(Value::Null, |instance| time_of(instance.started_at));
        let mut out = json!({"name": container.name, "startTime": since, "cpu": cpu(stats.cpu.as_ref()),
                             "memory": memory(stats.memory.as_ref())});
        let Value::Object(fields) = &mut out else { return out };
        if self.brief {
            return out;
        }
        let layer = stats.writable_layer.as_ref();
        let rootfs = self.layers.and_then(|path| disk(Path::new(path))).map(|disk| Disk {
            used: layer.and_then(|layer| number(layer.used_bytes.as_ref())).unwrap_or(0),
            inodes_used: layer.and_then(|layer| number(layer.inodes_used.as_ref())).unwrap_or(0),
            ..disk
        });
        let logs = disk_of(&log_directory(self.shared, &pod.pod).join(&container.name));
        used.add(rootfs);
        used.add(logs);
        fields.insert("rootfs".to_owned(), fs(rootfs, self.now));
        fields.insert("logs".to_owned(), fs(logs, self.now));
        let swap = stats.swap.as_ref().map_or(Value::Null, |swap| {
            json!({"time": time_of(swap.timestamp), "swapUsageBytes": number(swap.swap_usage_bytes.as_ref()),
                   "swapAvailableBytes": number(swap.swap_available_bytes.as_ref())})
        });
        fields.insert("swap".to_owned(), swap);
        let io = stats.io.as_ref();
        let io =
            io.map_or(Value::Null, |io| json!({"time": time_of(io.timestamp), "psi": psi(io.psi.as_ref())}));
        fields.insert("io".to_owned(), io);
        out
    }

    fn volumes(&self, measure: &PodMeasure, used: &mut Used) -> Vec<Value> {
        let pod = &measure.pod;
        let all = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let told = all.iter().filter_map(|volume| {
            let found = volume_disk(self.shared, pod.uid(), volume)?;
            let mut stats = fs(Some(found), self.now);
            let Value::Object(fields) = &mut stats else { return None };
            fields.insert("name".to_owned(), json!(volume.name));
            match claim(pod.name(), volume) {
                Some(name) => drop(
                    fields.insert("pvcRef".to_owned(), json!({"name": name, "namespace": pod.namespace()})),
                ),
                // Memory is no disk.
                None if volume
                    .empty_dir
                    .as_ref()
                    .is_some_and(|empty| empty.medium.as_deref() == Some("Memory")) => {}
                None => used.add(Some(found)),
            }
            Some(stats)
        });
        told.collect()
    }
}

/// The claim that a volume is of.
pub fn claim(pod: &str, volume: &Volume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{pod}-{}", volume.name)),
        _ => None,
    }
}

/// A volume's file system, by the folder that it has below the pod's; volumes of the host's own folders have none.
pub fn volume_disk(shared: &Shared, uid: &str, volume: &Volume) -> Option<Disk> {
    let plugins = std::fs::read_dir(shared.volumes.pod_dir(uid).join("volumes")).ok()?;
    let folders = plugins.filter_map(Result::ok).map(|plugin| plugin.path().join(&volume.name));
    let folder = folders.filter(|folder| folder.is_dir()).min()?;
    let mount = folder.join("mount");
    disk_of(if claim("", volume).is_some() && mount.is_dir() { &mount } else { &folder })
}

/// What a pod uses of the node's disk.
#[derive(Default)]
struct Used {
    bytes: u64,
    inodes: u64,
}

impl Used {
    fn add(&mut self, disk: Option<Disk>) {
        let disk = disk.unwrap_or_default();
        self.bytes += disk.used;
        self.inodes += disk.inodes_used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_that_are_not_told_are_left_out() {
        let usage = wire::CpuUsage {
            timestamp: 1_767_225_600_000_000_000,
            usage_core_nano_seconds: Some(wire::UInt64Value { value: 5 }),
            ..Default::default()
        };
        let mut value = json!({"cpu": cpu(Some(&usage)), "memory": memory(None), "list": [{"a": null}]});
        prune(&mut value);
        let wanted =
            json!({"cpu": {"time": "2026-01-01T00:00:00Z", "usageCoreNanoSeconds": 5}, "list": [{}]});
        assert_eq!(value, wanted);
        assert_eq!(time_of(0), Value::Null);
    }

    #[test]
    fn a_network_is_its_first_interface_and_all_of_them() {
        let of = |name: &str, bytes| wire::NetworkInterfaceUsage {
            name: name.to_owned(),
            rx_bytes: Some(wire::UInt64Value { value: bytes }),
            ..Default::default()
        };
        let usage = wire::NetworkUsage {
            timestamp: 1,
            default_interface: Some(of("eth0", 7)),
            interfaces: vec![of("eth1", 8)],
        };
        let value = network(Some(&usage));
        assert_eq!((value["name"].as_str(), value["rxBytes"].as_u64()), (Some("eth0"), Some(7)));
        assert_eq!(value["interfaces"].as_array().map(Vec::len), Some(2));
    }
}
