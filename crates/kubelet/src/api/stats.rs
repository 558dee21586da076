//! `/stats/summary`: what the node's pods use, from the runtime.

use std::collections::BTreeMap;

use cri::v1::ContainerStats;
use serde_json::{Value, json};

use super::{Refusal, Server};
use crate::pods::observed::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};

/// The summary.
pub async fn summary(server: &Server) -> Result<Value, Refusal> {
    let stats = server.shared.runtime.stats().await.map_err(|status| Refusal::internal(status.message()))?;
    let time = server.shared.config.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    for stats in &stats {
        let labels = stats.attributes.as_ref().map(|attributes| &attributes.labels);
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
        let pod = (label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
        pods.entry(pod).or_default().push(container(label(CONTAINER_NAME), stats, &time));
    }
    let sum = |containers: &[Value], section: &str, field: &str| -> u64 {
        containers.iter().filter_map(|c| c.get(section)?.get(field)?.as_u64()).sum()
    };
    let totals = |containers: &[Value]| {
        let of = |section, field| sum(containers, section, field);
        (
            json!({"time": time, "usageNanoCores": of("cpu", "usageNanoCores"), "usageCoreNanoSeconds": of("cpu", "usageCoreNanoSeconds")}),
            json!({"time": time, "usageBytes": of("memory", "usageBytes"), "workingSetBytes": of("memory", "workingSetBytes")}),
        )
    };
    let all: Vec<Value> = pods.values().flatten().cloned().collect();
    let (cpu, memory) = totals(&all);
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|((namespace, name, uid), containers)| {
            let (cpu, memory) = totals(&containers);
            json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "startTime": time,
                   "containers": containers, "cpu": cpu, "memory": memory})
        })
        .collect();
    Ok(
        json!({"node": {"nodeName": server.shared.config.node_name, "cpu": cpu, "memory": memory}, "pods": pods}),
    )
}

fn container(name: String, stats: &ContainerStats, time: &str) -> Value {
    let number = |value: Option<&cri::v1::UInt64Value>| value.map_or(0, |value| value.value);
    let (cpu, memory) = (stats.cpu.as_ref(), stats.memory.as_ref());
    json!({
        "name": name,
        "cpu": {
            "time": time,
            "usageNanoCores": number(cpu.and_then(|cpu| cpu.usage_nano_cores.as_ref())),
            "usageCoreNanoSeconds": number(cpu.and_then(|cpu| cpu.usage_core_nano_seconds.as_ref())),
        },
        "memory": {
            "time": time,
            "usageBytes": number(memory.and_then(|memory| memory.usage_bytes.as_ref())),
            "workingSetBytes": number(memory.and_then(|memory| memory.working_set_bytes.as_ref())),
            "rssBytes": number(memory.and_then(|memory| memory.rss_bytes.as_ref())),
        },
    })
}
