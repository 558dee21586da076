//! The default roles and bindings: made when missing, and brought up to date where they allow it.

use std::sync::Arc;

use auth::rbac::{self, Reconcile};
use http::Method;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SecurityError;
use crate::bootstrap::send;
use crate::core::Core;
use crate::start::StartError;

const ROOT: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Makes and renews the default policy.
///
/// # Errors
/// [`StartError::Bootstrap`], naming the role.
pub async fn reconcile(core: &Arc<Core>) -> Result<(), StartError> {
    let policy = rbac::bootstrap_policy()
        .map_err(|error| StartError::Setting(SecurityError::from(error).to_string()))?;
    let cluster = |plural: &str| format!("{ROOT}/{plural}");
    for expected in &policy.cluster_roles {
        let name = expected.metadata.name.as_deref().unwrap_or_default();
        let existing: Option<ClusterRole> = stored(core, "clusterroles", name);
        apply(core, &cluster("clusterroles"), name, rbac::cluster_role(existing.as_ref(), expected)).await?;
    }
    for expected in &policy.cluster_role_bindings {
        let name = expected.metadata.name.as_deref().unwrap_or_default();
        let existing: Option<ClusterRoleBinding> = stored(core, "clusterrolebindings", name);
        let change = rbac::cluster_role_binding(existing.as_ref(), expected);
        apply(core, &cluster("clusterrolebindings"), name, change).await?;
    }
    for expected in &policy.roles {
        let (namespace, name) = place(&expected.metadata);
        let existing: Option<Role> = stored(core, "roles", &format!("{namespace}/{name}"));
        let path = format!("{ROOT}/namespaces/{namespace}/roles");
        apply(core, &path, name, rbac::role(existing.as_ref(), expected)).await?;
    }
    for expected in &policy.role_bindings {
        let (namespace, name) = place(&expected.metadata);
        let existing: Option<RoleBinding> = stored(core, "rolebindings", &format!("{namespace}/{name}"));
        let path = format!("{ROOT}/namespaces/{namespace}/rolebindings");
        apply(core, &path, name, rbac::role_binding(existing.as_ref(), expected)).await?;
    }
    aggregate(core).await
}

fn place(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn stored<T: DeserializeOwned>(core: &Core, plural: &str, key: &str) -> Option<T> {
    let registry = core.registry();
    let resource = registry.preferred("rbac.authorization.k8s.io", plural)?;
    let (storage, cache) = resource.stored.as_ref()?;
    let entry = cache.get(key)?;
    schema::serde::from_protobuf(&storage.ty, &entry.bytes).ok()
}

async fn apply<T: Serialize>(
    core: &Arc<Core>,
    collection: &str,
    name: &str,
    change: Reconcile<T>,
) -> Result<(), StartError> {
    let object = format!("{collection}/{name}");
    let (method, path, body) = match &change {
        Reconcile::Nothing => return Ok(()),
        Reconcile::Create(new) => (Method::POST, collection.to_owned(), new),
        Reconcile::Update(new) => (Method::PUT, object.clone(), new),
        Reconcile::Recreate(new) => {
            send(core, Method::DELETE, &object, &serde_json::json!({})).await;
            (Method::POST, collection.to_owned(), new)
        }
    };
    let body = serde_json::to_value(body).unwrap_or_default();
    match send(core, method, &path, &body).await {
        (200 | 201 | 409, _) => Ok(()),
        (_, message) => Err(StartError::Bootstrap { path: object, message }),
    }
}

/// Gathers the rules of aggregated roles (`admin`, `edit`, `view`) from those that add to them.
async fn aggregate(core: &Arc<Core>) -> Result<(), StartError> {
    let registry = core.registry();
    let Some(resource) = registry.preferred("rbac.authorization.k8s.io", "clusterroles") else {
        return Ok(());
    };
    let Some((storage, cache)) = &resource.stored else { return Ok(()) };
    // `edit` is part of `admin`, and `view` of `edit`: what is gathered may itself be gathered from.
    for _ in 0..3 {
        if core.consistent().await.is_err() {
            break;
        }
        let all: Vec<ClusterRole> = cache
            .list("")
            .1
            .iter()
            .filter_map(|entry| schema::serde::from_protobuf(&storage.ty, &entry.bytes).ok())
            .collect();
        for role in &all {
            let Some(rules) = rbac::aggregate(role, &all) else { continue };
            if role.rules.as_ref() == Some(&rules) {
                continue;
            }
            let mut role = role.clone();
            role.rules = Some(rules);
            let name = role.metadata.name.clone().unwrap_or_default();
            apply(core, &format!("{ROOT}/clusterroles"), &name, Reconcile::Update(role)).await?;
        }
    }
    Ok(())
}
