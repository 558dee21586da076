//! What a rule is told of the pods that it ends. Pure.

use k8s_openapi::api::resource::v1::DeviceTaintRule as Rule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition that is told.
pub const IN_PROGRESS: &str = "EvictionInProgress";

/// What a rule does, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Pods that must go, or would have to.
    pub pods: usize,
    /// In so many namespaces.
    pub namespaces: usize,
    /// Devices that drivers publish.
    pub published: usize,
    /// Devices that claims have.
    pub allocated: usize,
    /// Pods that went since this process began to look.
    pub evicted: usize,
}

/// The condition as it stands in a rule.
pub fn told(rule: &Rule) -> Option<&Condition> {
    let all = rule.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|condition| condition.type_ == IN_PROGRESS)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

/// The condition as it is to be, in upstream's words.
pub fn condition(rule: &Rule, reach: Reach, now: Time) -> Condition {
    let places = |reach: Reach| counted(reach.namespaces, "namespace", "different namespaces");
    let (mut status, mut message) = ("False", String::new());
    let reason = match rule.spec.taint.effect.as_str() {
        "NoExecute" if reach.pods > 0 => {
            status = "True";
            let pods = counted(reach.pods, "pod needs", "pods need");
            message = format!("{pods} to be evicted in {}.", places(reach));
            "PodsPendingEviction"
        }
        "NoExecute" if reach.evicted > 0 => "Completed",
        "NoExecute" => "NotStarted",
        "None" => {
            message = format!(
                "{} selected. {} selected. {} would be evicted in {} if the effect was NoExecute. This information will \
                 not be updated again. Recreate the DeviceTaintRule to trigger an update.",
                counted(reach.published, "published device", "published devices"),
                counted(reach.allocated, "allocated device", "allocated devices"),
                counted(reach.pods, "pod", "pods"),
                places(reach),
            );
            "NoEffect"
        }
        _ => {
            message = "Eviction only happens for the NoExecute effect.".to_owned();
            "OtherEffect"
        }
    };
    if reach.evicted > 0 {
        let gone = counted(reach.evicted, "pod", "pods");
        let space = if message.is_empty() { "" } else { " " };
        message = format!("{message}{space}{gone} evicted since starting the controller.");
    }
    Condition {
        type_: IN_PROGRESS.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: rule.metadata.generation,
        last_transition_time: now,
    }
}

/// Whether two conditions say the same.
pub fn is_same(a: &Condition, b: &Condition) -> bool {
    (&a.status, &a.reason, &a.message, a.observed_generation)
        == (&b.status, &b.reason, &b.message, b.observed_generation)
}
