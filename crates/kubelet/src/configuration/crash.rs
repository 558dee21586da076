//! How long what crashes waits before it is started again (KEP-4603).

use std::time::Duration;

use kinds::gates::Gate;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Fields, duration};

const FIELD: &str = "crashLoopBackOff";
/// Upstream's first pause and its longest, and both with the gate that shortens them.
const USUAL: (u64, u64) = (10, 300);
const REDUCED: (u64, u64) = (1, 60);

/// The longest pause between two starts of what crashes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    #[serde(default, deserialize_with = "duration::optional")]
    pub max_container_restart_period: Option<Duration>,
}

/// Fills in what is not named, where that may be.
pub(super) fn settle(value: &mut Map<String, Value>, fields: &mut Fields) {
    let longest = &mut fields.crash_loop_back_off.max_container_restart_period;
    if longest.is_some() || !fields.gates.has(Gate::KubeletCrashLoopBackOffMax) {
        return;
    }
    let reduced = fields.gates.has(Gate::ReduceDefaultCrashLoopBackOffDecay);
    let seconds = if reduced { REDUCED.1 } else { USUAL.1 };
    *longest = Some(Duration::from_secs(seconds));
    let text = if reduced { "1m0s" } else { "5m0s" };
    value.insert(FIELD.to_owned(), json!({"maxContainerRestartPeriod": text}));
}

/// What is wrong with it.
pub(super) fn check(fields: &Fields, wrong: &mut Vec<String>) {
    let Some(longest) = fields.crash_loop_back_off.max_container_restart_period else { return };
    if !fields.gates.has(Gate::KubeletCrashLoopBackOffMax) {
        wrong.push("FeatureGate KubeletCrashLoopBackOffMax not enabled, CrashLoopBackOff.MaxContainerRestartPeriod must not be set".to_owned());
    } else if !(1000..=300_000).contains(&longest.as_millis()) {
        wrong.push(format!(
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: {} seconds) must be set between 1s and 300s",
            longest.as_secs_f64()
        ));
    }
}

impl Fields {
    /// The first pause between two starts of what crashes, and the longest.
    pub fn crash_pauses(&self) -> (Duration, Duration) {
        let reduced = self.gates.has(Gate::ReduceDefaultCrashLoopBackOffDecay);
        let (first, longest) = if reduced { REDUCED } else { USUAL };
        let usual = Duration::from_secs(longest);
        let longest = self.crash_loop_back_off.max_container_restart_period.unwrap_or(usual);
        (Duration::from_secs(first).min(longest), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{Configuration, Source};

    fn pauses(text: &str) -> Result<(u64, u64), String> {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let source = Source { path: "/k".into(), text: format!("{head}{text}") };
        let read = Configuration::merge(&[source], Map::new()).map_err(|error| error.to_string())?;
        let (first, longest) = read.0.fields.crash_pauses();
        Ok((first.as_secs(), longest.as_secs()))
    }

    #[test]
    fn pauses_are_as_long_as_gates_and_the_field_say() {
        assert_eq!(pauses("maxPods: 1\n"), Ok((10, 300)));
        let reduced = "featureGates: {ReduceDefaultCrashLoopBackOffDecay: true}\n";
        assert_eq!(pauses(reduced), Ok((1, 60)));
        assert_eq!(pauses("crashLoopBackOff: {maxContainerRestartPeriod: 4s}\n"), Ok((4, 4)));
        let longer = format!("{reduced}crashLoopBackOff: {{maxContainerRestartPeriod: 2m}}\n");
        assert_eq!(pauses(&longer), Ok((1, 120)));
        let off = "featureGates: {KubeletCrashLoopBackOffMax: false}\n";
        assert_eq!(pauses(off), Ok((10, 300)));
        for (text, told) in [
            (
                "crashLoopBackOff: {maxContainerRestartPeriod: 500ms}\n".to_owned(),
                "(got: 0.5 seconds) must be set between 1s and 300s",
            ),
            (
                format!("{off}crashLoopBackOff: {{maxContainerRestartPeriod: 4s}}\n"),
                "KubeletCrashLoopBackOffMax not enabled",
            ),
        ] {
            let error = pauses(&text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn gates_are_said_over_each_other_and_judged_in_upstreams_words() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let merge = |text: &str, flags: Value| {
            let source = Source { path: "/k".into(), text: format!("{head}featureGates: {text}\n") };
            let Value::Object(flags) = flags else { unreachable!() };
            Configuration::merge(&[source], flags).map(|read| read.0.fields)
        };
        let flags = json!({"featureGates": {"EmptyDirVolumeMode": true}});
        let fields = merge("{ReduceDefaultCrashLoopBackOffDecay: true}", flags).unwrap();
        assert!(fields.gates.has(Gate::EmptyDirVolumeMode), "of a flag");
        assert!(fields.gates.has(Gate::ReduceDefaultCrashLoopBackOffDecay), "of the file");
        let refused = |text| merge(text, json!({})).unwrap_err().to_string();
        let told = "failed to validate kubelet configuration, error: ";
        assert_eq!(refused("{Nonsense: true}"), format!("{told}unrecognized feature gate: Nonsense"));
        assert_eq!(
            refused("{NodeSwap: false}"),
            format!("{told}cannot set feature gate NodeSwap to false, feature is locked to true")
        );
    }
}
