//! ServiceAccount: a pod runs as an account that exists, and finds its token.

use schema::{Object, Value};

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and seven seconds: upstream's mark of a token that was asked for on a pod's behalf.
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn is_new_pod(attempt: &Attempt<'_>) -> bool {
    attempt.is_core("pods") && !attempt.is_sub() && attempt.operation == Operation::Create
}

/// Whether something that a new pod names is not in the watch cache.
pub fn misses_something(attempt: &Attempt<'_>, pod: &Object) -> bool {
    if !is_new_pod(attempt) {
        return false;
    }
    let named = |path: &[&str]| pod.str_at(path).filter(|name| !name.is_empty());
    let account = named(&["spec", "serviceAccountName"]).unwrap_or("default");
    let account = format!("{}/{account}", attempt.namespace());
    let missing = |group: &str, plural: &str, name: Option<&str>| {
        name.is_some_and(|name| attempt.find(group, plural, name).is_none())
    };
    missing("", "serviceaccounts", Some(&account))
        || missing("scheduling.k8s.io", "priorityclasses", named(&["spec", "priorityClassName"]))
        || missing("node.k8s.io", "runtimeclasses", named(&["spec", "runtimeClassName"]))
}

/// A new pod runs as a service account that exists, and finds its token where every client looks for it.
///
/// # Errors
/// 403 when the account does not exist.
pub fn service_account(attempt: &Attempt<'_>, pod: &mut Object) -> Result<()> {
    if !is_new_pod(attempt) || pod.annotation("kubernetes.io/config.mirror").is_some() {
        return Ok(());
    }
    let namespace = attempt.namespace().to_owned();
    let pod_name = pod.name().to_owned();
    let Some(spec) = pod.struct_mut("spec") else { return Ok(()) };
    if spec.str_at(&["serviceAccountName"]).unwrap_or_default().is_empty() {
        spec.set("serviceAccountName", "default");
    }
    let name = spec.str_at(&["serviceAccountName"]).unwrap_or_default().to_owned();
    spec.set("serviceAccount", name.as_str());
    let Some(account) = attempt.read("", "serviceaccounts", &format!("{namespace}/{name}"))? else {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(ApiError::forbidden("", "pods", &pod_name, &why));
    };
    if spec.list_at(&["imagePullSecrets"]).is_none_or(<[Value]>::is_empty) {
        if let Some(secrets) = account.get("imagePullSecrets") {
            spec.set("imagePullSecrets", secrets.clone());
        }
    }
    let automount = spec
        .bool_at(&["automountServiceAccountToken"])
        .or_else(|| account.bool_at(&["automountServiceAccountToken"]))
        .unwrap_or(true);
    if automount {
        mount_token(attempt, spec);
    }
    Ok(())
}

fn mount_token(attempt: &Attempt<'_>, spec: &mut Object) {
    let has_mount = |container: &Object| {
        container
            .list_at(&["volumeMounts"])
            .unwrap_or_default()
            .iter()
            .any(|mount| mount.child("mountPath").and_then(Value::as_str) == Some(TOKEN_PATH))
    };
    let lists = ["containers", "initContainers"];
    let needed = lists.iter().any(|list| {
        spec.list_at(&[*list]).unwrap_or_default().iter().filter_map(Value::as_struct).any(|c| !has_mount(c))
    });
    if !needed {
        return;
    }
    let volume = format!("kube-api-access-{}", attempt.core.random.suffix(5));
    for list in lists {
        let containers = match spec.get_mut(list).and_then(Value::as_list_mut) {
            Some(containers) => containers,
            None => continue,
        };
        for container in containers.iter_mut().filter_map(Value::as_struct_mut) {
            if has_mount(container) {
                continue;
            }
            let Some(item) = container.item_type("volumeMounts") else { continue };
            let mut mount = Object::new(item);
            mount.set("name", volume.as_str());
            mount.set("readOnly", true);
            mount.set("mountPath", TOKEN_PATH);
            if let Some(mounts) = container.list_mut("volumeMounts") {
                mounts.push(Value::Struct(mount));
            }
        }
    }
    let Some(item) = spec.item_type("volumes") else { return };
    let json = format!(
        r#"{{"name":"{volume}","projected":{{"defaultMode":420,"sources":[
            {{"serviceAccountToken":{{"expirationSeconds":{TOKEN_SECONDS},"path":"token"}}}},
            {{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},
            {{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}]}}}}"#
    );
    match schema::json::decode(&item, json.as_bytes()) {
        Ok(decoded) => {
            if let Some(volumes) = spec.list_mut("volumes") {
                volumes.push(Value::Struct(decoded.object));
            }
        }
        Err(error) => tracing::error!(%error, "the token volume does not fit the catalogue"),
    }
}
