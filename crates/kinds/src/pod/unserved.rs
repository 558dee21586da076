//! Fields of features that are off (`--feature-gates`): taken out of a new pod, and left in one that was stored with
//! them, as upstream's server does. Those without a gate belong to features that v1.37 keeps off and Knarr lacks.

use schema::Object;

use super::validate::read::{CONTAINER_LISTS, has, items};
use crate::edit::{each, within};
use crate::gates::{Gate, Gates};

/// A feature, and how its fields are taken out of a pod or a template.
struct Feature {
    gate: Option<Gate>,
    drop: fn(&mut Object),
}

const FEATURES: [Feature; 7] = [
    Feature { gate: None, drop: workloads },
    Feature { gate: Some(Gate::AtomicWriteVolumeUserFields), drop: users_of_files },
    Feature { gate: Some(Gate::ContainerStopSignals), drop: stop_signals },
    Feature { gate: Some(Gate::EmptyDirVolumeMode), drop: modes_of_directories },
    Feature { gate: Some(Gate::GrpcContainerProbeTls), drop: modes_of_calls },
    Feature { gate: Some(Gate::H2cContainerProbe), drop: protocols },
    Feature { gate: Some(Gate::VolumeBindMountOptions), drop: mount_options },
];

/// Removes the fields of features that are off, but for those of features that the `old` pod uses.
pub(crate) fn drop(pod: &mut Object, old: Option<&Object>, gates: Gates) {
    let off = || FEATURES.iter().filter(|feature| feature.gate.is_none_or(|gate| !gates.has(gate)));
    let Some(old) = old else {
        off().for_each(|feature| (feature.drop)(pod));
        return;
    };
    let without = |pod: &Object, features: &[&Feature]| {
        let mut pod = pod.clone();
        features.iter().for_each(|feature| (feature.drop)(&mut pod));
        pod
    };
    let off: Vec<&Feature> = off().collect();
    // Nearly every change is of a pod that has none of them.
    if without(pod, &off) == *pod {
        return;
    }
    for feature in off {
        if without(old, &[feature]) == *old {
            (feature.drop)(pod);
        }
    }
}

/// Removes from a changed status the fields of features that are off, but for those that the pod already tells.
pub(crate) fn drop_status(status: &mut Object, old: Option<&Object>, gates: Gates) {
    for field in ["nodeAllocatableResourceClaimStatuses", "volumeHealth"] {
        if old.is_none_or(|old| items(old, field).next().is_none()) {
            status.remove(field);
        }
    }
    let told = |tells: fn(&Object) -> bool| old.is_some_and(|old| containers_of(old).any(tells));
    if !gates.has(Gate::ImageVolumeWithDigest) && !told(tells_of_images) {
        each_container(status, |container| {
            each(container, "volumeMounts", |mount| {
                mount.remove("volumeStatus");
            });
        });
    }
    if !gates.has(Gate::ContainerStopSignals) && !told(|container| has(container, "stopSignal")) {
        each_container(status, |container| {
            container.remove("stopSignal");
        });
    }
}

const STATUS_LISTS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

fn containers_of(status: &Object) -> impl Iterator<Item = &Object> {
    STATUS_LISTS.into_iter().flat_map(|list| items(status, list))
}

fn each_container(status: &mut Object, change: fn(&mut Object)) {
    for list in STATUS_LISTS {
        each(status, list, change);
    }
}

/// Whether a container's status says of which image a volume is.
fn tells_of_images(container: &Object) -> bool {
    items(container, "volumeMounts").any(|mount| has(mount, "volumeStatus"))
}

fn workloads(pod: &mut Object) {
    within(pod, "spec", |spec| {
        spec.remove("schedulingGroup");
        spec.remove("evictionResponders");
    });
}

fn all_containers(pod: &mut Object, change: fn(&mut Object)) {
    within(pod, "spec", |spec| {
        for list in CONTAINER_LISTS {
            each(spec, list, change);
        }
    });
}

fn mount_options(pod: &mut Object) {
    all_containers(pod, |container| {
        each(container, "volumeMounts", |mount| {
            mount.remove("bindMountOptions");
        });
    });
}

fn handlers(container: &mut Object, change: fn(&mut Object)) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, change);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, change);
        }
    });
}

fn protocols(pod: &mut Object) {
    all_containers(pod, |container| {
        handlers(container, |handler| {
            within(handler, "httpGet", |get| {
                get.remove("protocol");
            });
        });
    });
}

fn modes_of_calls(pod: &mut Object) {
    all_containers(pod, |container| {
        handlers(container, |handler| {
            within(handler, "grpc", |grpc| {
                grpc.remove("mode");
            });
        });
    });
}

fn stop_signals(pod: &mut Object) {
    all_containers(pod, |container| {
        within(container, "lifecycle", |lifecycle| {
            lifecycle.remove("stopSignal");
        });
    });
}

fn volumes(pod: &mut Object, change: fn(&mut Object)) {
    within(pod, "spec", |spec| each(spec, "volumes", change));
}

fn modes_of_directories(pod: &mut Object) {
    volumes(pod, |volume| {
        within(volume, "emptyDir", |directory| {
            directory.remove("mode");
        });
    });
}

fn users_of_files(pod: &mut Object) {
    volumes(pod, |volume| {
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
    });
}

fn user(item: &mut Object) {
    item.remove("user");
}
