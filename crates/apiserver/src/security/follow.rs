//! Keeps the authorizers up to date with what is stored.

use std::sync::Arc;

use auth::node::{PodRefs, VolumeRefs};
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde::de::DeserializeOwned;

use super::Security;
use crate::cache::{ChangeKind, Entry};
use crate::core::Core;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Fills the authorizers with what is there, and follows it from then on. What is there counts once this returns.
pub fn follow(core: &Arc<Core>, security: &Security) {
    let rbac = security.rbac.clone();
    each::<Role>(core, RBAC, "roles", move |entry, role| {
        rbac.update(|snapshot| match role {
            Some(role) => snapshot.upsert_role(role),
            None => snapshot.remove_role(entry.namespace(), entry.name()),
        });
    });
    let rbac = security.rbac.clone();
    each::<ClusterRole>(core, RBAC, "clusterroles", move |entry, role| {
        rbac.update(|snapshot| match role {
            Some(role) => snapshot.upsert_cluster_role(role),
            None => snapshot.remove_cluster_role(entry.name()),
        });
    });
    let rbac = security.rbac.clone();
    each::<RoleBinding>(core, RBAC, "rolebindings", move |entry, binding| {
        rbac.update(|snapshot| match binding {
            Some(binding) => snapshot.upsert_role_binding(binding),
            None => snapshot.remove_role_binding(entry.namespace(), entry.name()),
        });
    });
    let rbac = security.rbac.clone();
    each::<ClusterRoleBinding>(core, RBAC, "clusterrolebindings", move |entry, binding| {
        rbac.update(|snapshot| match binding {
            Some(binding) => snapshot.upsert_cluster_role_binding(binding),
            None => snapshot.remove_cluster_role_binding(entry.name()),
        });
    });
    let nodes = security.nodes.clone();
    each::<Pod>(core, "", "pods", move |entry, pod| {
        nodes.update(|graph| match pod {
            Some(pod) => {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
                graph.upsert_pod(entry.namespace(), entry.name(), node, PodRefs::of(pod));
            }
            None => graph.remove_pod(entry.namespace(), entry.name()),
        });
    });
    let nodes = security.nodes.clone();
    each::<PersistentVolume>(core, "", "persistentvolumes", move |entry, volume| {
        nodes.update(|graph| match volume {
            Some(volume) => graph.upsert_volume(entry.name(), VolumeRefs::of(volume)),
            None => graph.remove_volume(entry.name()),
        });
    });
    let nodes = security.nodes.clone();
    each::<VolumeAttachment>(core, "storage.k8s.io", "volumeattachments", move |entry, attachment| {
        nodes.update(|graph| match attachment {
            Some(attachment) => graph.upsert_attachment(entry.name(), &attachment.spec.node_name),
            None => graph.remove_attachment(entry.name()),
        });
    });
    let nodes = security.nodes.clone();
    each::<ResourceSlice>(core, "resource.k8s.io", "resourceslices", move |entry, slice| {
        let node = slice.and_then(|slice| slice.spec.node_name.as_deref()).unwrap_or_default();
        nodes.update(|graph| match node {
            "" => graph.remove_resource_slice(entry.name()),
            node => graph.upsert_resource_slice(entry.name(), node),
        });
    });
}

/// Calls `apply` with every object of a resource, and with `None` for each that goes.
fn each<T: DeserializeOwned>(
    core: &Arc<Core>,
    group: &str,
    plural: &str,
    apply: impl Fn(&Entry, Option<&T>) + Send + Sync + 'static,
) {
    let registry = core.registry();
    let Some(resource) = registry.preferred(group, plural).cloned() else { return };
    let Some((storage, cache)) = resource.stored.clone() else { return };
    let (_, entries, mut watcher) = cache.list_and_watch("");
    let set = move |entry: &Entry, gone: bool| {
        if gone {
            return apply(entry, None);
        }
        match schema::serde::from_protobuf::<T>(&storage.ty, &entry.bytes) {
            Ok(object) => apply(entry, Some(&object)),
            Err(error) => {
                // What cannot be read grants nothing.
                tracing::error!(key = %entry.key, %error, "an object of the authorizers cannot be read");
                apply(entry, None);
            }
        }
    };
    entries.iter().for_each(|entry| set(entry, false));
    let tasks = core.tasks.clone();
    core.tasks.spawn(async move {
        loop {
            match watcher.next().await {
                Ok(change) => set(&change.entry, change.kind == ChangeKind::Deleted),
                Err(error) => {
                    // Authorizing by what was true some time ago is worse than not answering.
                    tracing::error!(%error, "the authorizers fell behind; stopping");
                    tasks.shutdown().trigger();
                    return;
                }
            }
        }
    });
}
