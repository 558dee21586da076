//! From a file to a pod of this node, with upstream's name, identity and defaults (`config/common.go`). Pure.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use schema::Object;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Where a pod came from, and which one it is; upstream's annotations.
pub const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";

/// Why a file is no static pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Decode { path: String, source: schema::DecodeError },
    #[error("{path}: {source}")]
    List { path: String, source: serde_json::Error },
    #[error("{path}: expected a Pod of v1, not a {kind} of {version}")]
    Kind { path: String, kind: String, version: String },
    #[error("{path}: invalid pod: {details}")]
    Invalid { path: String, details: String },
    #[error("{path}: static pods may not reference {what}")]
    Reference { path: String, what: &'static str },
}

/// Whence a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Page,
}

/// Reads a manifest, JSON or YAML.
pub fn parse(path: &Path, text: &[u8], node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    let path = path.display().to_string();
    let decoding = |source| ManifestError::Decode { path: path.clone(), source };
    let json = schema::yaml::to_json(text).map_err(decoding)?;
    pod(Source::File, path, (text, &json), node, now)
}

/// Reads a page: a Pod, or a PodList of which all have to be right.
pub fn parse_page(url: &str, text: &[u8], node: &str, now: Timestamp) -> Result<Vec<Pod>, ManifestError> {
    let path = url.to_owned();
    let decoding = |source| ManifestError::Decode { path: path.clone(), source };
    let json = schema::yaml::to_json(text).map_err(decoding)?;
    let meta = schema::json::peek_type_meta(&json).map_err(decoding)?;
    if (&*meta.api_version, &*meta.kind) != ("v1", "PodList") {
        return Ok(vec![pod(Source::Page, path, (text, &json), node, now)?]);
    }
    let listing = |source| ManifestError::List { path: url.to_owned(), source };
    let list: List = serde_json::from_slice(&json).map_err(listing)?;
    let one = |mut item: serde_json::Map<String, serde_json::Value>| {
        // In a list they need not say what they are.
        item.entry("apiVersion").or_insert_with(|| "v1".into());
        item.entry("kind").or_insert_with(|| "Pod".into());
        let json = serde_json::to_vec(&item).map_err(listing)?;
        pod(Source::Page, url.to_owned(), (&json, &json), node, now)
    };
    list.items.into_iter().map(one).collect()
}

#[derive(Deserialize)]
struct List {
    items: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Of a manifest as it stands there, and as JSON.
fn pod(
    from: Source,
    path: String,
    (text, json): (&[u8], &[u8]),
    node: &str,
    now: Timestamp,
) -> Result<Pod, ManifestError> {
    let decoding = |source| ManifestError::Decode { path: path.clone(), source };
    let meta = schema::json::peek_type_meta(json).map_err(decoding)?;
    if (&*meta.api_version, &*meta.kind) != ("v1", "Pod") {
        let (kind, version) = (meta.kind.to_string(), meta.api_version.to_string());
        return Err(ManifestError::Kind { path, kind, version });
    }
    let kind = schema::builtin().kind("", "v1", "Pod");
    let Some(kind) = kind else {
        return Err(ManifestError::Kind { path, kind: "Pod".into(), version: "v1".into() });
    };
    let mut object = schema::json::decode(&kind.ty, json).map_err(decoding)?.object;
    identify(&mut object, from, (&path, text), node, now);
    check(&object, &path)?;
    let mut pod: Pod = schema::serde::from_object(&object).map_err(decoding)?;
    forbid_references(&pod, &path)?;
    if let Some(spec) = pod.spec.as_mut() {
        spec.node_name = Some(node.to_owned());
        if from == Source::File {
            // It stays, whatever happens to its node.
            let stays = Toleration {
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                ..Toleration::default()
            };
            spec.tolerations.get_or_insert_default().push(stays);
        }
    }
    pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    Ok(pod)
}

fn identify(object: &mut Object, from: Source, (path, text): (&str, &[u8]), node: &str, now: Timestamp) {
    let mut hasher = Sha256::new();
    for part in [node.as_bytes(), path.as_bytes(), text] {
        hasher.update(part);
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    let given = object.str_at(&["metadata", "uid"]).unwrap_or_default().to_owned();
    let uid = match given.is_empty() {
        true => digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
        false => given,
    };
    let name = format!("{}-{}", object.name(), node.to_lowercase());
    let meta = object.metadata_mut();
    meta.set("uid", uid.as_str());
    meta.set("name", name.as_str());
    if meta.str_at(&["namespace"]).unwrap_or_default().is_empty() {
        meta.set("namespace", "default");
    }
    if let Some(annotations) = meta.map_mut("annotations") {
        annotations.insert(HASH, uid.as_str());
        annotations.insert(SOURCE, if from == Source::File { "file" } else { "http" });
        annotations.insert(SEEN, now.to_string().as_str());
    }
    (kinds::rules("", "Pod").defaults)(object);
}

fn check(object: &Object, path: &str) -> Result<(), ManifestError> {
    let rules = kinds::rules("", "Pod");
    let mut errors = kinds::field::Errors::new();
    let name = kinds::field::Path::new("metadata").child("name");
    errors.each(&name, object.name(), rules.name.check(object.name()));
    (rules.validate)(object, &mut errors);
    (rules.validate_create)(object, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    let details: Vec<String> =
        errors.0.iter().map(|error| format!("{}: {}", error.path, error.body())).collect();
    Err(ManifestError::Invalid { path: path.to_owned(), details: details.join(", ") })
}

/// What the API server would have to be asked for (`podutil.HasAPIObjectReference`).
fn forbid_references(pod: &Pod, path: &str) -> Result<(), ManifestError> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let refuse = |what| Err(ManifestError::Reference { path: path.to_owned(), what });
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return refuse("a service account");
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        for from in container.env_from.iter().flatten() {
            if from.config_map_ref.is_some() || from.secret_ref.is_some() {
                return refuse("config maps or secrets");
            }
        }
        for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            if from.config_map_key_ref.is_some() || from.secret_key_ref.is_some() {
                return refuse("config maps or secrets");
            }
        }
    }
    for volume in spec.volumes.iter().flatten() {
        if volume.config_map.is_some() || volume.secret.is_some() || volume.persistent_volume_claim.is_some()
        {
            return refuse("config maps, secrets or claims");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec: {containers: [{name: c, image: i}]}\n";

    fn read(text: &str) -> Result<Pod, ManifestError> {
        parse(Path::new("/etc/m/web.yaml"), text.as_bytes(), "Node-1", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let pod = read(POD).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        let annotations = pod.metadata.annotations.unwrap();
        assert_eq!(Some(&annotations[HASH]), pod.metadata.uid.as_ref());
        assert_eq!(annotations[SOURCE], "file");
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"), "defaults are filled in");
        assert_eq!(spec.tolerations.unwrap()[0].effect.as_deref(), Some("NoExecute"));
        let other = read(&POD.replace("a: b", "a: c")).unwrap();
        assert_ne!(Some(&annotations[HASH]), other.metadata.uid.as_ref(), "a changed file is another pod");
    }

    #[test]
    fn what_is_no_static_pod_is_refused_with_a_reason() {
        for (text, words) in [
            ("kind: ConfigMap\napiVersion: v1\n", "expected a Pod of v1"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {containers: []}\n",
                "spec.containers: Required value",
            ),
            ("{", "/etc/m/web.yaml: "),
            (
                &POD.replace("spec: {", "spec: {serviceAccountName: x, "),
                "may not reference a service account",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_page_has_a_pod_or_a_list_of_them() {
        let read = |text: &str| parse_page("http://m/pods", text.as_bytes(), "Node-1", Timestamp::UNIX_EPOCH);
        let one = read(POD).unwrap();
        assert_eq!(one[0].metadata.annotations.as_ref().unwrap()[SOURCE], "http");
        assert_eq!(one[0].spec.as_ref().unwrap().tolerations, None, "upstream gives it none");
        let list = "{apiVersion: v1, kind: PodList, items: [\
                    {metadata: {name: a}, spec: {containers: [{name: c, image: i}]}},\
                    {metadata: {name: b}, spec: {containers: [{name: c, image: i}]}}]}";
        let names: Vec<_> = read(list).unwrap().into_iter().map(|pod| pod.metadata.name.unwrap()).collect();
        assert_eq!(names, ["a-node-1", "b-node-1"]);
        assert!(read("{apiVersion: v1, kind: PodList, items: []}").unwrap().is_empty());
        let error = read(&list.replace("[{name: c, image: i}]}}]", "[]}}]")).unwrap_err().to_string();
        assert!(error.contains("http://m/pods: invalid pod: spec.containers: Required value"), "{error}");
        assert!(read("{apiVersion: v1, kind: PodList, items: 1}").is_err());
    }
}
