//! Whether a node takes a pod that was given to it: upstream's handlers in upstream's order, of which the first that
//! refuses is told (`kubelet.go`, `kubelet/lifecycle`).
//!
//! 1. `pressure`: a node that is short of something;
//! 2. `sysctls`: settings of the kernel that are not allowed;
//! 3. what containers have for themselves ([`crate::exclusive`]);
//! 4. [`before_fit`], then `fit` and `node`: the pod's operating system, resources, affinity, ports and taints. A
//!    critical pod that lacks nothing but resources gets those of others (`preempt`);
//! 5. `apparmor`;
//! 6. a node that shuts down.
//!
//! Pure: [`super::take`] asks them and acts.

pub mod apparmor;
mod default_sysctls;
mod demand;
pub mod fit;
pub mod node;
pub mod preempt;
mod pressure;
pub mod sysctls;

use k8s_openapi::api::core::v1::Pod;

use super::spec::PodExt;
pub use demand::{Demand, demand};
pub use pressure::under_pressure;

/// Why a pod is refused, as its status says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

impl Refusal {
    /// Whether it is about what other pods have.
    pub fn may_pass(&self) -> bool {
        self.reason.starts_with("OutOf")
            || matches!(self.reason.as_str(), "UnexpectedAdmissionError" | "TopologyAffinityError")
    }
}

/// A refusal in these words.
pub fn refuse(reason: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), message: message.into() }
}

/// A node that shuts down takes no more pods, not even static ones.
///
/// # Errors
/// [`Refusal`].
pub fn while_closing(closing: bool) -> Result<(), Refusal> {
    match closing {
        true => Err(refuse("NodeShutdown", "Pod was rejected as the node is shutting down.")),
        false => Ok(()),
    }
}

/// What no room on the node would help against. `strict_groups` says whether the runtime knows
/// `supplementalGroupsPolicy`.
///
/// # Errors
/// [`Refusal`].
pub fn before_fit(pod: &Pod, can: Can) -> Result<(), Refusal> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(refuse("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let os = pod.spec().and_then(|spec| spec.os.as_ref());
    if os.is_some_and(|os| os.name != "linux") {
        return Err(refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    let policy = pod.security().and_then(|security| security.supplemental_groups_policy.as_deref());
    if policy == Some("Strict") && !can.strict_groups {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(refuse("SupplementalGroupsPolicyNotSupported", message));
    }
    let lists = [pod.init_containers(), pod.containers()];
    let mut mounts =
        lists.into_iter().flatten().flat_map(|container| container.volume_mounts.iter().flatten());
    if !can.mount_options && mounts.any(|mount| mount.bind_mount_options.iter().flatten().next().is_some()) {
        let message = "this node does not support bindMountOptions of volume mounts";
        return Err(refuse("PodFeatureUnsupported", message));
    }
    Ok(())
}

/// What the node can do that not every one can.
#[derive(Debug, Clone, Copy)]
pub struct Can {
    /// `supplementalGroupsPolicy: Strict`.
    pub strict_groups: bool,
    /// `bindMountOptions`.
    pub mount_options: bool,
}

/// The label under which a refusal is counted: reasons that are not on upstream's list would be without end.
pub fn counted(reason: &str) -> &'static str {
    const KNOWN: [&str; 20] = [
        "AppArmor",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodOSNotSupported",
        "InvalidNodeInfo",
        "InitContainerRestartPolicyForbidden",
        "SupplementalGroupsPolicyNotSupported",
        "UnexpectedAdmissionError",
        "UnknownReason",
        "UnexpectedPredicateFailureType",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfephemeral-storage",
        "OutOfpods",
        "PodLevelResourcesNotSupported",
        "PodFeatureUnsupported",
        "Evicted",
        "SysctlForbidden",
        "TopologyAffinityError",
        "NodeShutdown",
        "VolumeAttachmentLimitExceeded",
    ];
    match KNOWN.iter().find(|known| **known == reason) {
        Some(known) => known,
        None if reason.starts_with("OutOf") => "OutOfExtendedResources",
        None => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn another_operating_system_is_refused_by_label_and_by_field() {
        let all = Can { strict_groups: true, mount_options: true };
        let reason = |pod: &Pod| before_fit(pod, all).map_err(|refusal| refusal.reason);
        let mut labelled = pod(json!({"containers": [], "os": {"name": "windows"}}));
        assert_eq!(reason(&labelled), Err("PodOSNotSupported".to_owned()));
        labelled.metadata.labels = Some([("kubernetes.io/os".to_owned(), "windows".to_owned())].into());
        assert_eq!(reason(&labelled), Err("PodOSSelectorNodeLabelDoesNotMatch".to_owned()));
        let own = pod(json!({"containers": [], "os": {"name": "linux"}}));
        assert_eq!(reason(&own), Ok(()));
    }

    #[test]
    fn groups_are_strict_only_where_the_runtime_knows_how() {
        let can_nothing = Can { strict_groups: false, mount_options: false };
        let strict =
            pod(json!({"containers": [], "securityContext": {"supplementalGroupsPolicy": "Strict"}}));
        assert_eq!(before_fit(&strict, Can { strict_groups: true, mount_options: false }), Ok(()));
        let refusal = before_fit(&strict, can_nothing).unwrap_err();
        assert_eq!(refusal.message, "SupplementalGroupsPolicy=Strict is not supported in this node");
        let merge = pod(json!({"containers": [], "securityContext": {"supplementalGroupsPolicy": "Merge"}}));
        assert_eq!(before_fit(&merge, can_nothing), Ok(()));
    }

    #[test]
    fn mounts_forbid_only_where_the_runtime_knows_how() {
        let mount = json!({"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]});
        let of = |list: &str| {
            let mut spec = json!({"containers": []});
            spec[list] = json!([{"name": "c", "volumeMounts": [mount]}]);
            pod(spec)
        };
        let can = |mount_options| Can { strict_groups: false, mount_options };
        for list in ["containers", "initContainers"] {
            assert_eq!(before_fit(&of(list), can(true)), Ok(()));
            assert_eq!(before_fit(&of(list), can(false)).unwrap_err().reason, "PodFeatureUnsupported");
        }
    }

    #[test]
    fn refusals_are_counted_under_names_of_which_there_are_few() {
        for (reason, wanted) in [
            ("OutOfcpu", "OutOfcpu"),
            ("OutOfexample.com/x", "OutOfExtendedResources"),
            ("NodePorts", "Other"),
            ("NodeAffinity", "Other"),
            ("NodeShutdown", "NodeShutdown"),
        ] {
            assert_eq!(counted(reason), wanted, "{reason}");
        }
    }
}
