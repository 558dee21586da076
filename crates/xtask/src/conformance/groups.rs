//! Which tests there are to run, and which of them are left out.

/// Tests that are run together.
#[derive(Debug)]
pub(super) struct Group {
    pub name: &'static str,
    /// Tests whose name has one of these. Regular expressions of Go.
    pub focus: &'static [&'static str],
    /// Of those, the ones whose name has one of these are left out, each with its reason.
    pub skip: &'static [Skip],
    /// Its tests disturb one another: one at a time.
    pub serial: bool,
}

/// A regular expression of Go, and why tests whose name it matches are left out.
pub(super) type Skip = (&'static str, &'static str);

const CLUSTER: Skip = (r"\[(Serial|Disruptive)\]", "wants the cluster for itself");
const SLOW: Skip = (r"\[Slow\]", "takes minutes by itself");
const FLAKY: Skip = (r"\[Flaky\]", "its authors do not trust it");
const OFF: Skip = (r"\[Feature:OffByDefault\]", "off by default in this version");
const FEATURE: Skip = (r"\[Feature(Gate)?:", "has a group of its own, or its part is not here");
const WINDOWS: Skip = (r"\[Feature:Windows|Windows", "wants nodes of Windows");
const APPARMOR: Skip = ("AppArmor", "wants a kernel with AppArmor, and to load profiles");
const SSH: Skip = (r"\[Feature:HostAccess\]|SSH", "reaches nodes by SSH");
const DEVICES: Skip =
    (r"\[DRA\] (kubelet|multiple nodes)|DynamicResourceAllocation", "has a group of its own");
const DRA: Skip = (r"\[DRA\]", "has a group of its own");
const REGISTRY: Skip = ("running a container with a new image", "pulls from registries of the Internet");
const HANDLER: Skip =
    ("RuntimeClass with scheduling", "wants nodes with a runtime handler of the name test-handler");
const OLD: Skip = (r"with v1beta[12] API", "versions of the API that are off by default");
const ALPHA: Skip = (r"\[Alpha\]|\[Feature:(GenericWorkload|NodeLogQuery)", "alpha");

/// The groups, in the order in which they run.
pub(super) const ALL: &[Group] = &[
    Group {
        name: "node",
        focus: &[r"\[sig-node\]"],
        skip: &[CLUSTER, SLOW, FLAKY, FEATURE, WINDOWS, APPARMOR, SSH, DRA],
        serial: false,
    },
    Group {
        name: "resize",
        focus: &[r"\[sig-node\].*(Resize|PodLevelResources)"],
        skip: &[CLUSTER, SLOW, FLAKY, OFF, ALPHA, WINDOWS],
        serial: false,
    },
    Group {
        name: "features",
        focus: &[
            r"\[sig-node\].*\[Feature(Gate)?:(SidecarContainers|ContainerRestartRules|RestartAllContainers)",
            r"\[sig-node\].*\[Feature(Gate)?:(EnvFiles|HostnameOverride|SupplementalGroupsPolicy)",
            r"\[sig-node\].*\[Feature(Gate)?:(UserNamespacesSupport|PodLogsQuerySplitStreams|ContainerStopSignals)",
            r"\[sig-node\].*\[Feature(Gate)?:(KubeletFineGrainedAuthz|ResourceHealthStatus|RuntimeHandler)",
        ],
        skip: &[CLUSTER, SLOW, FLAKY, OFF, ALPHA, WINDOWS, DRA],
        serial: false,
    },
    Group {
        name: "storage",
        focus: &[
            r"\[sig-storage\] (EmptyDir|Projected|ConfigMap|Secrets|Downward API|HostPath|Subpath|Ephemeralstorage|Volumes)",
            r"\[sig-storage\] PersistentVolumes-local",
            r"\[sig-storage\] In-tree Volumes \[Driver: (local|emptydir|hostPath)",
        ],
        skip: &[CLUSTER, SLOW, FLAKY, FEATURE, WINDOWS],
        serial: false,
    },
    Group {
        name: "network",
        focus: &[
            r"\[sig-network\] (Networking|DNS|DNS configMap|HostPort|HostPortManager|Connectivity|Services)",
            r"\[sig-network\] (KubeProxy|EndpointSlice|Proxy version|Pods)",
        ],
        skip: &[CLUSTER, SLOW, FLAKY, FEATURE, WINDOWS, SSH],
        serial: false,
    },
    Group {
        name: "cli",
        focus: &[r"\[sig-cli\]"],
        skip: &[CLUSTER, SLOW, FLAKY, FEATURE, WINDOWS],
        serial: false,
    },
    Group {
        // Their driver is reached in the kubelet's folder: with `--nodes 1` alone.
        name: "devices",
        focus: &[r"\[sig-node\] \[DRA\]"],
        skip: &[CLUSTER, SLOW, FLAKY, OFF, OLD, ALPHA, WINDOWS],
        serial: false,
    },
    Group {
        name: "slow",
        focus: &[r"\[sig-node\].*\[Slow\]"],
        skip: &[CLUSTER, FLAKY, FEATURE, WINDOWS, DEVICES],
        serial: false,
    },
    Group {
        name: "serial",
        focus: &[r"\[sig-node\].*\[Serial\]", r"\[sig-scheduling\].*\[Serial\]"],
        skip: &[SLOW, FLAKY, FEATURE, WINDOWS, REGISTRY, HANDLER, DEVICES],
        serial: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_stand_once() {
        for (at, group) in ALL.iter().enumerate() {
            assert!(group.name.bytes().all(|byte| byte.is_ascii_lowercase()), "{}", group.name);
            assert!(!ALL[..at].iter().any(|other| other.name == group.name), "{}", group.name);
            assert!(!group.focus.is_empty(), "{}", group.name);
        }
    }
}
