//! Metrics that the runtime has of its pods (`ListPodSandboxMetrics`), under cadvisor's names: passed on as they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cri::v1 as wire;

use super::super::exposition::escaped;
use crate::runtime::Runtime;

/// A family as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Its help and its kind.
    pub head: String,
    /// A line each.
    pub samples: String,
}

/// Each family by its name; nothing where the runtime has none.
pub async fn read(runtime: &Runtime) -> BTreeMap<String, Text> {
    match runtime.metrics().await {
        Ok((descriptors, pods)) => families(&descriptors, &pods),
        Err(status) => {
            tracing::debug!(%status, "the runtime has no metrics of its pods");
            BTreeMap::new()
        }
    }
}

fn families(
    descriptors: &[wire::MetricDescriptor],
    pods: &[wire::PodSandboxMetrics],
) -> BTreeMap<String, Text> {
    let known: BTreeMap<&str, &wire::MetricDescriptor> =
        descriptors.iter().map(|descriptor| (descriptor.name.as_str(), descriptor)).collect();
    let mut families = BTreeMap::new();
    let of_pod = |pod: &'_ wire::PodSandboxMetrics| {
        let inner: Vec<_> =
            pod.container_metrics.iter().flat_map(|container| container.metrics.clone()).collect();
        pod.metrics.clone().into_iter().chain(inner)
    };
    for metric in pods.iter().flat_map(of_pod) {
        let Some(descriptor) = known.get(metric.name.as_str()) else { continue };
        let Some(value) = &metric.value else { continue };
        let family: &mut Text = families.entry(metric.name.clone()).or_insert_with(|| {
            let kind = match metric.metric_type() {
                wire::MetricType::Counter => "counter",
                wire::MetricType::Gauge => "gauge",
            };
            let head = format!("# HELP {0} {1}\n# TYPE {0} {kind}\n", metric.name, descriptor.help);
            Text { head, samples: String::new() }
        });
        let family = &mut family.samples;
        // Writing to a string does not fail.
        let _ = write!(family, "{}", metric.name);
        let mut labels: Vec<_> = descriptor.label_keys.iter().zip(&metric.label_values).collect();
        labels.sort();
        for (index, (key, value)) in labels.into_iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(family, "{open}{key}=\"{}\"", escaped(value));
        }
        if !metric.label_values.is_empty() {
            family.push('}');
        }
        let _ = match metric.timestamp / 1_000_000 {
            0 => writeln!(family, " {}", value.value),
            at => writeln!(family, " {} {at}", value.value),
        };
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_measures_is_told_under_its_labels() {
        let descriptor = wire::MetricDescriptor {
            name: "container_threads".to_owned(),
            help: "Threads".to_owned(),
            label_keys: vec!["pod".to_owned(), "image".to_owned()],
        };
        let metric = |name: &str, value| wire::Metric {
            name: name.to_owned(),
            timestamp: 1_700_000_000_123_456_789,
            metric_type: wire::MetricType::Gauge as i32,
            label_values: vec!["web".to_owned(), "a\"b".to_owned()],
            value: Some(wire::UInt64Value { value }),
        };
        let container = wire::ContainerMetrics {
            container_id: "c".to_owned(),
            metrics: vec![metric("container_threads", 3), metric("unknown", 1)],
        };
        let pod = wire::PodSandboxMetrics {
            pod_sandbox_id: "p".to_owned(),
            metrics: vec![metric("container_threads", 4)],
            container_metrics: vec![container],
        };
        let told = families(&[descriptor], &[pod]);
        let labels = r#"{image="a\"b",pod="web"}"#;
        let head = "# HELP container_threads Threads\n# TYPE container_threads gauge\n".to_owned();
        let samples =
            format!("container_threads{labels} 4 1700000000123\ncontainer_threads{labels} 3 1700000000123\n");
        let wanted = Text { head, samples };
        assert_eq!(told, BTreeMap::from([("container_threads".to_owned(), wanted)]));
    }
}
