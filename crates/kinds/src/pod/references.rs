//! What of the API a pod names: a static pod, which lives without the API, may name none of it.

use schema::Object;

use super::validate::read::{containers, has, items, sub, text};

/// The first kind of object that the pod needs; `None` when it needs none.
pub fn api_reference(spec: &Object) -> Option<&'static str> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if names_key(spec, "secret") || has(spec, "imagePullSecrets") {
        return Some("secrets");
    }
    if names_key(spec, "configMap") {
        return Some("configmaps");
    }
    if has(spec, "resourceClaims") {
        return Some("resourceclaims");
    }
    items(spec, "volumes").find_map(volume)
}

/// Whether a variable of any container comes from a secret or a config map.
fn names_key(spec: &Object, kind: &str) -> bool {
    let (whole, key) = (format!("{kind}Ref"), format!("{kind}KeyRef"));
    containers(spec).any(|(.., container)| {
        items(container, "envFrom").any(|source| has(source, &whole))
            || items(container, "env").any(|variable| variable.at(&["valueFrom", &key]).is_some())
    })
}

fn volume(volume: &Object) -> Option<&'static str> {
    for (field, what) in [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ] {
        if has(volume, field) {
            return Some(what);
        }
    }
    items(sub(volume, "projected")?, "sources").find_map(|source| {
        [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ]
        .into_iter()
        .find(|(field, _)| has(source, field))
        .map(|(_, what)| what)
    })
}

#[cfg(test)]
mod tests {
    use super::api_reference;

    #[test]
    fn what_pods_need_of_the_api() {
        let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        for (spec, wanted) in [
            (
                r#"{"volumes":[{"name":"h","hostPath":{"path":"/"}},{"name":"d","projected":{"sources":[{"downwardAPI":{}}]}}]}"#,
                None,
            ),
            (r#"{"serviceAccountName":"a"}"#, Some("serviceaccounts")),
            (
                r#"{"containers":[{"name":"c","env":[{"name":"a","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}]}"#,
                Some("secrets"),
            ),
            (
                r#"{"initContainers":[{"name":"c","envFrom":[{"configMapRef":{"name":"m"}}]}]}"#,
                Some("configmaps"),
            ),
            (
                r#"{"volumes":[{"name":"s","secret":{"secretName":"s"}}]}"#,
                Some("secrets (via secret volumes)"),
            ),
            (
                r#"{"volumes":[{"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]}"#,
                Some("serviceaccounts (via projected volumes)"),
            ),
        ] {
            let json = format!("{{\"spec\":{spec}}}");
            let pod = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
            assert_eq!(api_reference(pod.struct_at(&["spec"]).unwrap()), wanted, "{spec}");
        }
    }
}
