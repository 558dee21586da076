//! Fields of features that v1.37 has and keeps off: taken out of a new pod, as a server with the feature off does.
//! Left in what was stored with them.

use schema::Object;

use super::validate::read::{CONTAINER_LISTS, has, items};
use crate::edit::{each, within};

/// Removes the fields of features that are off.
pub(crate) fn drop(pod: &mut Object) {
    within(pod, "spec", |spec| {
        spec.remove("schedulingGroup");
        spec.remove("evictionResponders");
        each(spec, "volumes", volume);
        for list in CONTAINER_LISTS {
            each(spec, list, container);
        }
    });
}

/// Whether a stored pod has any of them.
pub(crate) fn is_used(pod: &Object) -> bool {
    let mut without = pod.clone();
    drop(&mut without);
    without != *pod
}

/// Removes from a changed status the fields of features that are off, but for those that the pod already tells.
pub(crate) fn drop_status(status: &mut Object, old: Option<&Object>) {
    for field in ["nodeAllocatableResourceClaimStatuses", "volumeHealth"] {
        if old.is_none_or(|old| items(old, field).next().is_none()) {
            status.remove(field);
        }
    }
    if !old.is_some_and(tells_of_images) {
        for list in STATUS_LISTS {
            each(status, list, |container| {
                each(container, "volumeMounts", |mount| {
                    mount.remove("volumeStatus");
                });
            });
        }
    }
}

const STATUS_LISTS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

/// Whether a status says of which image a volume is.
fn tells_of_images(status: &Object) -> bool {
    let containers = STATUS_LISTS.into_iter().flat_map(|list| items(status, list));
    containers.flat_map(|container| items(container, "volumeMounts")).any(|mount| has(mount, "volumeStatus"))
}

fn container(container: &mut Object) {
    each(container, "volumeMounts", |mount| {
        mount.remove("bindMountOptions");
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, handler);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, handler);
        }
    });
}

fn handler(handler: &mut Object) {
    within(handler, "httpGet", |get| {
        get.remove("protocol");
    });
    within(handler, "grpc", |grpc| {
        grpc.remove("mode");
    });
}

fn volume(volume: &mut Object) {
    within(volume, "emptyDir", |directory| {
        directory.remove("mode");
    });
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, source, |source| {
            source.remove("defaultUser");
            each(source, "items", user);
            each(source, "sources", |projection| {
                for field in ["secret", "configMap", "downwardAPI"] {
                    within(projection, field, |source| each(source, "items", user));
                }
                for field in ["serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
                    within(projection, field, user);
                }
            });
        });
    }
}

fn user(item: &mut Object) {
    item.remove("user");
}
