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
    if !is_new_pod(attempt) || is_mirror(pod) {
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
        return Err(ApiError::forbidden("", "pods", &pod_name, &no_account(&namespace, &name)));
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

/// The pod has an account where the API server made it, and none where it mirrors what a node runs already.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, pod: &Object) -> Result<()> {
    if !is_new_pod(attempt) {
        return Ok(());
    }
    let Some(spec) = pod.struct_at(&["spec"]) else { return Ok(()) };
    let refuse = |why: &str| Err(ApiError::forbidden("", "pods", pod.name(), why));
    if is_mirror(pod) {
        return kinds::pod::forbidden_to_mirrors(spec).map_or(Ok(()), refuse);
    }
    let namespace = attempt.namespace();
    let account = spec.str_at(&["serviceAccountName"]).unwrap_or_default();
    if account.is_empty() {
        return refuse(&format!("no service account specified for pod {namespace}/{}", pod.name()));
    }
    if attempt.find("", "serviceaccounts", &format!("{namespace}/{account}")).is_none() {
        return refuse(&no_account(namespace, account));
    }
    Ok(())
}

fn no_account(namespace: &str, name: &str) -> String {
    let why = super::unaskable(name).unwrap_or_else(|| format!("serviceaccount {name:?} not found"));
    format!("error looking up service account {namespace}/{name}: {why}")
}

fn is_mirror(pod: &Object) -> bool {
    pod.annotation("kubernetes.io/config.mirror").is_some()
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
