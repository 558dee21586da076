//! Volumes, claims, storage classes, and two kinds of policy that need little more than defaults.

mod attachment;
mod claim;
mod class;
mod csi;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use attachment::ATTACHMENT;
pub(crate) use csi::{CAPACITY, CSI_DRIVER, CSI_NODE};

use jiff::Timestamp;
use schema::{Object, Value};

use crate::edit::{self, each, made, text, unsaid};
use crate::meta::Looks;
use crate::rules::{GENERIC, Part, Rules, generic_prepare_update};

/// A storage class's annotations that say `"true"` when it is for claims that name none; the second is older.
pub const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

fn pending(object: &mut Object) {
    object.remove("status");
    made(object, "status", |status| text(status, "phase", "Pending"));
}

/// Neither counts how often it was changed.
fn without_generation(new: &mut Object, old: &Object, part: Part) {
    generic_prepare_update(new, old, part);
    new.set_generation(old.generation());
}

/// Since when a volume is in its phase, which whoever writes the phase may say otherwise.
fn dated(volume: &mut Object, old: Option<&Object>, now: Timestamp) {
    let of = |volume: &Object, field: &str| volume.at(&["status", field]).cloned();
    let (phase, said) = (of(volume, "phase"), of(volume, SINCE));
    let since = match old {
        Some(old) if of(old, "phase") == phase && said.is_none() => of(old, SINCE),
        Some(old) if of(old, "phase") == phase || (said.is_some() && said != of(old, SINCE)) => said,
        _ => Some(Value::Time(now)),
    };
    if let Some(since) = since {
        made(volume, "status", |status| {
            status.set(SINCE, since);
        });
    }
}

const SINCE: &str = "lastPhaseTransitionTime";

/// The rules of `PersistentVolume`.
pub(crate) const VOLUME: Rules = Rules {
    defaults: |volume| {
        made(volume, "spec", |spec| {
            text(spec, "persistentVolumeReclaimPolicy", "Retain");
            unsaid(spec, "volumeMode", "Filesystem");
            crate::pod::source_defaults(spec);
            edit::within(spec, "hostPath", |path| {
                if path.get("type").is_none() {
                    path.set("type", "");
                }
            });
        });
    },
    prepare_create: pending,
    prepare_update: without_generation,
    dated,
    validate_create: volume::validate,
    validate_update: volume::validate_update,
    warnings: volume::warnings,
    looks: Looks { main: (2, 0), part: (0, 1) },
    ..GENERIC
};

/// The rules of `PersistentVolumeClaim`.
pub(crate) const CLAIM: Rules = Rules {
    defaults: |claim| made(claim, "spec", |spec| unsaid(spec, "volumeMode", "Filesystem")),
    prepare_create: |new| {
        pending(new);
        claim::sources(new, None);
    },
    prepare_update: |new, old, part| {
        without_generation(new, old, part);
        claim::sources(new, Some(old));
    },
    validate_create: claim::validate,
    validate_update: claim::validate_update,
    warnings: claim::warnings,
    looks: Looks::BOTH,
    ..GENERIC
};

/// The rules of `StorageClass`.
pub(crate) const CLASS: Rules = Rules {
    defaults: |class| {
        unsaid(class, "reclaimPolicy", "Delete");
        unsaid(class, "volumeBindingMode", "Immediate");
    },
    validate_create: class::validate,
    validate_update: class::validate_update,
    looks: Looks::BOTH,
    ..GENERIC
};

/// The rules of `NetworkPolicy`.
pub(crate) const NETWORK_POLICY: Rules = Rules {
    defaults: |policy| {
        made(policy, "spec", |spec| {
            for field in ["ingress", "egress"] {
                each(spec, field, |rule| each(rule, "ports", |port| text(port, "protocol", "TCP")));
            }
            if spec.list_at(&["policyTypes"]).is_none_or(<[schema::Value]>::is_empty) {
                let mut types = vec![schema::Value::Str("Ingress".to_owned())];
                if spec.list_at(&["egress"]).is_some_and(|rules| !rules.is_empty()) {
                    types.push(schema::Value::Str("Egress".to_owned()));
                }
                spec.set("policyTypes", schema::Value::List(types));
            }
        });
    },
    ..GENERIC
};

/// The rules of `HorizontalPodAutoscaler`.
pub(crate) const AUTOSCALER: Rules = Rules {
    defaults: |scaler| made(scaler, "spec", |spec| edit::number(spec, "minReplicas", 1)),
    prepare_create: |scaler| {
        scaler.remove("status");
    },
    ..GENERIC
};
