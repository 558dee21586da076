//! Feature gates (`--feature-gates`): which there are, and which features are on.
//!
//! The table (`table.txt`, one gate a line: name, stage, v1.37's default, `locked`) is upstream's; its last words are our
//! own. `acts`: the feature can be had and left. `on`: it is on here, whatever upstream's default. Of all others Knarr
//! has what the default says, and whoever asks for the other setting is refused instead of misled.
//!
//! A set is a small value that whoever starts a component makes once and hands on: nothing of it is global.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

const TABLE: &str = include_str!("table.txt");
const ALPHA: &str = "AllAlpha";
const BETA: &str = "AllBeta";

/// A gate whose two settings both mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// KEP-5936: whom the files of a volume belong to (`user`, `defaultUser`).
    AtomicWriteVolumeUserFields,
    /// KEP-4960: `lifecycle.stopSignal`.
    ContainerStopSignals,
    /// Options of the CPU manager that are alpha.
    CpuManagerPolicyAlphaOptions,
    /// Options of the CPU manager that are beta.
    CpuManagerPolicyBetaOptions,
    /// KEP-5996: `defaultPodSysctls` of a node's configuration.
    DefaultPodSysctls,
    /// `emptyDir.mode`.
    EmptyDirVolumeMode,
    /// KEP-4939: `grpc.mode` of probes.
    GrpcContainerProbeTls,
    /// KEP-5999: `httpGet.protocol` of probes.
    H2cContainerProbe,
    /// KEP-5365: which image a volume is (`volumeMounts[].volumeStatus` of a container's status).
    ImageVolumeWithDigest,
    /// KEP-6030: other sizes for volumes in memory of a pod that runs (`emptyDir.sizeLimit`).
    InPlacePodVerticalScalingMemoryBackedVolumes,
    /// The pages `/allocatedPods` of a node.
    KubeletAllocatedPodsEndpoint,
    /// KEP-4603: `crashLoopBackOff.maxContainerRestartPeriod` of a node's configuration.
    KubeletCrashLoopBackOffMax,
    /// KEP-2570: memory that is kept for who asked for it, and who is slowed down before it is short.
    MemoryQos,
    /// KEP-5526: pods that have resources as a whole have processors and memory for themselves, too.
    PodLevelResourceManagers,
    /// KEP-3288: logs of standard output or of standard error alone.
    PodLogsQuerySplitStreams,
    /// `qosReserved` of a node's configuration: memory that classes of pods leave to those above them.
    QosReserved,
    /// KEP-4603: shorter pauses between restarts of what crashes.
    ReduceDefaultCrashLoopBackOffDecay,
    /// KEP-5855: `volumeMounts[].bindMountOptions`.
    VolumeBindMountOptions,
}

impl Gate {
    /// All of them.
    const ALL: [Self; 18] = [
        Self::AtomicWriteVolumeUserFields,
        Self::ContainerStopSignals,
        Self::CpuManagerPolicyAlphaOptions,
        Self::CpuManagerPolicyBetaOptions,
        Self::DefaultPodSysctls,
        Self::EmptyDirVolumeMode,
        Self::GrpcContainerProbeTls,
        Self::H2cContainerProbe,
        Self::ImageVolumeWithDigest,
        Self::InPlacePodVerticalScalingMemoryBackedVolumes,
        Self::KubeletAllocatedPodsEndpoint,
        Self::KubeletCrashLoopBackOffMax,
        Self::MemoryQos,
        Self::PodLevelResourceManagers,
        Self::PodLogsQuerySplitStreams,
        Self::QosReserved,
        Self::ReduceDefaultCrashLoopBackOffDecay,
        Self::VolumeBindMountOptions,
    ];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtomicWriteVolumeUserFields => "AtomicWriteVolumeUserFields",
            Self::ContainerStopSignals => "ContainerStopSignals",
            Self::CpuManagerPolicyAlphaOptions => "CPUManagerPolicyAlphaOptions",
            Self::CpuManagerPolicyBetaOptions => "CPUManagerPolicyBetaOptions",
            Self::DefaultPodSysctls => "DefaultPodSysctls",
            Self::EmptyDirVolumeMode => "EmptyDirVolumeMode",
            Self::GrpcContainerProbeTls => "GRPCContainerProbeTLS",
            Self::H2cContainerProbe => "H2CContainerProbe",
            Self::ImageVolumeWithDigest => "ImageVolumeWithDigest",
            Self::InPlacePodVerticalScalingMemoryBackedVolumes => {
                "InPlacePodVerticalScalingMemoryBackedVolumes"
            }
            Self::KubeletAllocatedPodsEndpoint => "KubeletAllocatedPodsEndpoint",
            Self::KubeletCrashLoopBackOffMax => "KubeletCrashLoopBackOffMax",
            Self::MemoryQos => "MemoryQoS",
            Self::PodLevelResourceManagers => "PodLevelResourceManagers",
            Self::PodLogsQuerySplitStreams => "PodLogsQuerySplitStreams",
            Self::QosReserved => "QOSReserved",
            Self::ReduceDefaultCrashLoopBackOffDecay => "ReduceDefaultCrashLoopBackOffDecay",
            Self::VolumeBindMountOptions => "VolumeBindMountOptions",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    name: &'static str,
    stage: &'static str,
    /// Upstream's.
    default: bool,
    locked: bool,
    acts: bool,
    /// It is on unless somebody says otherwise.
    on: bool,
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, stage, default) = (words.next()?, words.next()?, words.next()? == "true");
        let mut row = Row { name, stage, default, locked: false, acts: false, on: default };
        for word in words {
            match word {
                "locked" => row.locked = true,
                "acts" => row.acts = true,
                _ => row.on = true,
            }
        }
        Some(row)
    })
}

/// Which features are on in one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    on: u32,
    all_alpha: bool,
    all_beta: bool,
}

impl Default for Gates {
    /// As nobody said anything.
    fn default() -> Self {
        let on = |gate: &Gate| rows().any(|row| row.name == gate.name() && row.on);
        let bits = Gate::ALL.iter().filter(|gate| on(gate)).map(|gate| gate.bit());
        Self { on: bits.fold(0, |all, bit| all | bit), all_alpha: false, all_beta: false }
    }
}

impl Gates {
    /// What was said, over the defaults. A gate that is named wins over `AllAlpha` and `AllBeta`, which are about those
    /// features that Knarr can have and leave.
    ///
    /// # Errors
    /// What cannot be, in upstream's words where it has any: an unknown gate alone, or else everything that is wrong.
    pub fn new(said: &BTreeMap<String, bool>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        for (name, value) in said {
            let Some(row) = rows().find(|row| row.name == name) else {
                return Err(vec![format!("unrecognized feature gate: {name}")]);
            };
            if row.locked && row.default != *value {
                wrong.push(format!(
                    "cannot set feature gate {name} to {value}, feature is locked to {}",
                    row.default
                ));
            } else if *value && !row.acts && !row.on {
                wrong
                    .push(format!("cannot set feature gate {name} to true: Knarr does not have the feature"));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut gates = Self::default();
        let all = |name: &str| said.get(name).copied();
        for gate in Gate::ALL {
            let stage = rows().find(|row| row.name == gate.name()).map_or("", |row| row.stage);
            let together = match stage {
                "ALPHA" => all(ALPHA),
                "BETA" => all(BETA),
                _ => None,
            };
            if let Some(value) = said.get(gate.name()).copied().or(together) {
                gates.set(gate, value);
            }
        }
        gates.all_alpha = all(ALPHA).unwrap_or_default();
        gates.all_beta = all(BETA).unwrap_or_default();
        Ok(gates)
    }

    /// Features that stay although somebody turned them off, in a sentence each; those that upstream has off, too, are
    /// only said to be what they are there.
    pub fn kept(said: &BTreeMap<String, bool>) -> Vec<String> {
        let kept = rows().filter(|row| {
            !row.acts && row.on && row.default && !row.locked && said.get(row.name) == Some(&false)
        });
        kept.map(|row| format!("feature gate {} stays on: Knarr always has the feature", row.name)).collect()
    }

    fn set(&mut self, gate: Gate, value: bool) {
        self.on = if value { self.on | gate.bit() } else { self.on & !gate.bit() };
    }

    /// The same with one set.
    #[must_use]
    pub fn with(mut self, gate: Gate, value: bool) -> Self {
        self.set(gate, value);
        self
    }

    /// Whether a feature is on.
    pub fn has(self, gate: Gate) -> bool {
        self.on & gate.bit() != 0
    }

    /// Every gate by name, with its stage as the metric has it (nothing for GA), and whether it is on.
    pub fn all(self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        rows().map(move |row| {
            let on = match row.name {
                ALPHA => self.all_alpha,
                BETA => self.all_beta,
                name => {
                    Gate::ALL.iter().find(|gate| gate.name() == name).map_or(row.on, |gate| self.has(*gate))
                }
            };
            (row.name, if row.stage == "GA" { "" } else { row.stage }, on)
        })
    }

    /// `kubernetes_feature_enabled` in the Prometheus text format.
    pub fn metric(self) -> String {
        let mut out = format!("# HELP {METRIC} {HELP}\n# TYPE {METRIC} gauge\n");
        for (name, stage, on) in self.all() {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{METRIC}{{name=\"{name}\",stage=\"{stage}\"}} {}", u8::from(on));
        }
        out
    }
}

/// The metric that tells of gates.
pub const METRIC: &str = "kubernetes_feature_enabled";
/// What it says of itself.
pub const HELP: &str = "[BETA] This metric records the data about the stage and enablement of a k8s feature.";

/// Reads `NAME=true,OTHER=false`; of a gate that is named twice the last word counts.
///
/// # Errors
/// What is no such list, in upstream's words.
pub fn parse(text: &str) -> Result<BTreeMap<String, bool>, String> {
    let mut said = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("missing bool value for {}", part.trim()));
        };
        let (name, value) = (name.trim(), value.trim());
        let value = match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
            _ => {
                let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
                return Err(format!("invalid value of {name}={value}, err: {why}"));
            }
        };
        said.insert(name.to_owned(), value);
    }
    Ok(said)
}
