//! What the numbers of a status must be (`pkg/apis/apps/validation`, `pkg/apis/core/validation`).

use schema::Object;

use super::int;
use crate::field::{Errors, Path};

/// The numbers of a kind's status.
pub(super) struct Numbers {
    /// None may be negative.
    pub(super) fields: &'static [&'static str],
    /// None may be more than `replicas`.
    pub(super) at_most_replicas: &'static [&'static str],
    /// What `readyReplicas` is called where there are too many available ones; empty when nobody asks.
    pub(super) ready: &'static str,
}

/// Those of a `Deployment`.
pub(super) const DEPLOYMENT: Numbers = Numbers {
    fields: &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ],
    at_most_replicas: &["updatedReplicas", "readyReplicas", "availableReplicas"],
    ready: "readyReplicas",
};

/// Those of a `ReplicaSet`.
pub(super) const REPLICA_SET: Numbers = Numbers {
    fields: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ],
    at_most_replicas: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    ready: "readyReplicas",
};

/// Those of a `StatefulSet`.
pub(super) const STATEFUL_SET: Numbers = Numbers {
    fields: &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ],
    at_most_replicas: &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
    ready: "status.readyReplicas",
};

/// Those of a `DaemonSet`.
pub(super) const DAEMON_SET: Numbers = Numbers {
    fields: &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ],
    at_most_replicas: &[],
    ready: "",
};

/// Checks a changed status.
pub(super) fn check(new: &Object, old: &Object, numbers: &Numbers, errors: &mut Errors) {
    let path = Path::new("status");
    let of = |field: &str| int(new, &["status", field]);
    for field in numbers.fields {
        if of(field) < 0 {
            errors.invalid(&path.child(field), of(field), "must be greater than or equal to 0");
        }
    }
    for field in numbers.at_most_replicas {
        if of(field) > of("replicas") {
            errors.invalid(&path.child(field), of(field), "cannot be greater than status.replicas");
        }
    }
    let available = of("availableReplicas");
    if !numbers.ready.is_empty() && available > of("readyReplicas") {
        let why = format!("cannot be greater than {}", numbers.ready);
        errors.invalid(&path.child("availableReplicas"), available, why);
    }
    let collisions = "collisionCount";
    let had = old.int_at(&["status", collisions]);
    if numbers.fields.contains(&collisions) && had.is_some_and(|had| of(collisions) < had) {
        errors.invalid(&path.child(collisions), of(collisions), "cannot be decremented");
    }
}
