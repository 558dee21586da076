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

/// Whether the pod names a secret anywhere.
fn names_secret(spec: &Object) -> bool {
    let named = |source: &Object| !text(source, "name").is_empty();
    items(spec, "imagePullSecrets").any(named)
        || names_key(spec, "secret")
        || items(spec, "volumes").any(|volume| {
            SECRETS_OF_VOLUMES.iter().any(|path| volume.str_at(path).is_some_and(|name| !name.is_empty()))
                || sub(volume, "projected").is_some_and(|projected| {
                    items(projected, "sources").any(|source| sub(source, "secret").is_some_and(named))
                })
        })
}

/// Where volumes name their secrets.
const SECRETS_OF_VOLUMES: [&[&str]; 10] = [
    &["secret", "secretName"],
    &["csi", "nodePublishSecretRef", "name"],
    &["azureFile", "secretName"],
    &["cephfs", "secretRef", "name"],
    &["cinder", "secretRef", "name"],
    &["flexVolume", "secretRef", "name"],
    &["rbd", "secretRef", "name"],
    &["scaleIO", "secretRef", "name"],
    &["iscsi", "secretRef", "name"],
    &["storageos", "secretRef", "name"],
];

/// What a mirror pod, which no one has to be allowed to make, may not name.
pub fn forbidden_to_mirrors(spec: &Object) -> Option<&'static str> {
    let token = |volume: &Object| {
        sub(volume, "projected").is_some_and(|projected| {
            items(projected, "sources").any(|source| has(source, "serviceAccountToken"))
        })
    };
    if !text(spec, "serviceAccountName").is_empty() {
        Some("a mirror pod may not reference service accounts")
    } else if names_secret(spec) {
        Some("a mirror pod may not reference secrets")
    } else if items(spec, "volumes").any(token) {
        Some("a mirror pod may not use ServiceAccountToken volume projections")
    } else {
        None
    }
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
    use super::{api_reference, forbidden_to_mirrors};

    fn spec(json: &str) -> schema::Object {
        let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        let pod = schema::json::decode(&kind.ty, format!("{{\"spec\":{json}}}").as_bytes()).unwrap().object;
        pod.struct_at(&["spec"]).unwrap().clone()
    }

    #[test]
    fn what_mirrors_may_not_name() {
        const ACCOUNTS: &str = "a mirror pod may not reference service accounts";
        const SECRETS: &str = "a mirror pod may not reference secrets";
        const TOKENS: &str = "a mirror pod may not use ServiceAccountToken volume projections";
        for (json, wanted) in [
            (r#"{"volumes":[{"name":"c","configMap":{"name":"m"}}]}"#, None),
            (r#"{"serviceAccountName":"a","imagePullSecrets":[{"name":"s"}]}"#, Some(ACCOUNTS)),
            (r#"{"imagePullSecrets":[{"name":"s"}]}"#, Some(SECRETS)),
            (r#"{"imagePullSecrets":[{"name":""}]}"#, None),
            (r#"{"volumes":[{"name":"s","secret":{"secretName":"s"}}]}"#, Some(SECRETS)),
            (r#"{"volumes":[{"name":"r","rbd":{"secretRef":{"name":"s"}}}]}"#, Some(SECRETS)),
            (
                r#"{"volumes":[{"name":"p","projected":{"sources":[{"secret":{"name":"s"}}]}}]}"#,
                Some(SECRETS),
            ),
            (
                r#"{"volumes":[{"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]}"#,
                Some(TOKENS),
            ),
        ] {
            assert_eq!(forbidden_to_mirrors(&spec(json)), wanted, "{json}");
        }
    }

    #[test]
    fn what_pods_need_of_the_api() {
        for (json, wanted) in [
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
            assert_eq!(api_reference(&spec(json)), wanted, "{json}");
        }
    }
}
