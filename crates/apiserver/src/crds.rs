//! Custom resource definitions: each makes a resource that is served by the same code as the built-in ones.

use std::sync::Arc;

use http::Method;
use kinds::Rules;
use schema::types::StructRef;
use schema::{Object, Value};
use serde_json::json;
use store::StoreError;

use crate::bootstrap::send;
use crate::cache::{Cache, ChangeKind, Entry};
use crate::codec::Codec;
use crate::core::Core;
use crate::custom::{CustomRules, PrinterColumn, ScalePaths};
use crate::registry::{Resource, Storage, StoredAs, Sub, api_version};

const GROUP: &str = "apiextensions.k8s.io";
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Serves every definition that there is, and follows those that come and go.
///
/// # Errors
/// Those of the store.
pub async fn start(core: &Arc<Core>) -> Result<(), StoreError> {
    let Some(cache) = core.cache(GROUP, "customresourcedefinitions") else { return Ok(()) };
    let (_, entries, mut watcher) = cache.list_and_watch("");
    for entry in &entries {
        serve(core, entry).await?;
    }
    let owned = core.clone();
    core.tasks.spawn(async move {
        let core = owned;
        loop {
            let Ok(change) = watcher.next().await else {
                tracing::error!("fell behind the custom resource definitions; stopping");
                core.tasks.shutdown().trigger();
                return;
            };
            let done = match change.kind {
                ChangeKind::Deleted => {
                    withdraw(&core, &change.entry);
                    Ok(())
                }
                ChangeKind::Added | ChangeKind::Modified => serve(&core, &change.entry).await,
            };
            if let Err(error) = done {
                tracing::warn!(definition = %change.entry.key, %error, "a custom resource is not served");
            }
        }
    });
    // What came up before the pipeline did is told of its state now.
    for entry in entries {
        let core_for = core.clone();
        core.tasks.spawn(async move { settle(&core_for, &entry).await });
    }
    Ok(())
}

fn definition(core: &Core, entry: &Entry) -> Option<Object> {
    let registry = core.registry();
    let resource = registry.preferred(GROUP, "customresourcedefinitions")?;
    let (codec, _) = core.codec(resource).ok()?;
    match codec.object(entry) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(definition = %entry.key, %error, "a definition cannot be read");
            None
        }
    }
}

fn text(object: &Object, path: &[&str]) -> String {
    object.str_at(path).unwrap_or_default().to_owned()
}

fn texts(object: &Object, path: &[&str]) -> Vec<String> {
    let list = object.list_at(path).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn serve(core: &Arc<Core>, entry: &Arc<Entry>) -> Result<(), StoreError> {
    let Some(crd) = definition(core, entry) else { return Ok(()) };
    if crd.deletion_timestamp().is_some() {
        let (core_for, entry) = (core.clone(), entry.clone());
        core.tasks.spawn(async move { clean_up(&core_for, &entry).await });
        return Ok(());
    }
    let versions: Vec<Object> = crd
        .list_at(&["spec", "versions"])
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_struct)
        .cloned()
        .collect();
    let Some(stored) = versions.iter().find(|version| version.bool_at(&["storage"]) == Some(true)) else {
        return Ok(());
    };
    let group = text(&crd, &["spec", "group"]);
    let plural = text(&crd, &["spec", "names", "plural"]);
    let storage = match storage_of(&crd, stored) {
        Ok(storage) => storage,
        Err(problems) => {
            tracing::warn!(definition = %entry.key, problems = problems.join("; "), "a schema is not structural");
            return Ok(());
        }
    };
    let known = core
        .registry()
        .preferred(&group, &plural)
        .and_then(|r| r.stored.as_ref().map(|(_, cache)| cache.clone()));
    let cache = match known {
        Some(cache) => cache,
        None => {
            let codec = Codec {
                storage: storage.clone(),
                kind: text(&crd, &["spec", "names", "kind"]),
                namespaced: crd.str_at(&["spec", "scope"]) == Some("Namespaced"),
                selectable: &[],
                completes: |_| {},
                cluster_prefix: core.prefix.clone(),
                transformer: core.transformer.clone(),
            };
            let cache =
                Arc::new(Cache::new(storage.prefix.clone(), Arc::new(codec), core.progress().clone()));
            core.feeder.add_live(cache.clone()).await?;
            cache
        }
    };
    let mut registry = (*core.registry()).clone();
    registry.remove(&group, &plural);
    for version in versions.iter().filter(|version| version.bool_at(&["served"]) == Some(true)) {
        match resource(&crd, version, &storage, &cache) {
            Ok(resource) => registry.insert(resource),
            Err(problems) => {
                tracing::warn!(definition = %entry.key, problems = problems.join("; "), "a schema is not structural");
            }
        }
    }
    *core.registry.write() = Arc::new(registry);
    let (core_for, entry) = (core.clone(), entry.clone());
    core.tasks.spawn(async move { settle(&core_for, &entry).await });
    Ok(())
}

fn withdraw(core: &Arc<Core>, entry: &Entry) {
    let Some(crd) = definition(core, entry) else { return };
    let (group, plural) = (text(&crd, &["spec", "group"]), text(&crd, &["spec", "names", "plural"]));
    let mut registry = (*core.registry()).clone();
    registry.remove(&group, &plural);
    *core.registry.write() = Arc::new(registry);
    core.feeder.remove(&format!("{group}/{plural}"));
}

fn schema_of(crd: &Object, version: &Object) -> Result<StructRef, Vec<String>> {
    let json = match version.struct_at(&["schema", "openAPIV3Schema"]) {
        Some(props) => schema::json::encode(props),
        None => br#"{"type":"object","x-kubernetes-preserve-unknown-fields":true}"#.to_vec(),
    };
    let group = text(crd, &["spec", "group"]);
    let kind = text(crd, &["spec", "names", "kind"]);
    schema::crd::structural(&json, &group, &text(version, &["name"]), &kind).map(StructRef::from)
}

fn storage_of(crd: &Object, version: &Object) -> Result<Storage, Vec<String>> {
    let group = text(crd, &["spec", "group"]);
    let plural = text(crd, &["spec", "names", "plural"]);
    Ok(Storage {
        api_version: api_version(&group, &text(version, &["name"])),
        ty: schema_of(crd, version)?,
        stored_as: StoredAs::Json,
        prefix: format!("{group}/{plural}"),
        encrypted: false,
    })
}

fn resource(
    crd: &Object,
    version: &Object,
    storage: &Storage,
    cache: &Arc<Cache>,
) -> Result<Resource, Vec<String>> {
    let group = text(crd, &["spec", "group"]);
    let name = text(version, &["name"]);
    let own = api_version(&group, &name);
    let ty = if own == storage.api_version { storage.ty.clone() } else { schema_of(crd, version)? };
    let kind = text(crd, &["spec", "names", "kind"]);
    let list_kind = Some(text(crd, &["spec", "names", "listKind"])).filter(|text| !text.is_empty());
    let singular = Some(text(crd, &["spec", "names", "singular"])).filter(|text| !text.is_empty());
    let has_status = version.at(&["subresources", "status"]).is_some();
    let scale = version.struct_at(&["subresources", "scale"]).map(|scale| ScalePaths {
        spec: text(scale, &["specReplicasPath"]),
        status: text(scale, &["statusReplicasPath"]),
        selector: scale.str_at(&["labelSelectorPath"]).map(str::to_owned),
    });
    let verbs = |list: &[&str]| list.iter().map(|&verb| verb.to_owned()).collect::<Vec<_>>();
    let part = || verbs(&["get", "patch", "update"]);
    let mut subresources = Vec::new();
    if has_status {
        let gvk = (group.clone(), name.clone(), kind.clone());
        subresources.push(Sub { name: "status".to_owned(), gvk, verbs: part() });
    }
    if scale.is_some() {
        let gvk = ("autoscaling".to_owned(), "v1".to_owned(), "Scale".to_owned());
        subresources.push(Sub { name: "scale".to_owned(), gvk, verbs: part() });
    }
    let custom = CustomRules { has_status, scale, columns: columns(version), selectable: Vec::new() };
    Ok(Resource {
        group,
        version: name,
        list_kind: list_kind.unwrap_or_else(|| format!("{kind}List")),
        singular: singular.unwrap_or_else(|| kind.to_lowercase()),
        kind,
        plural: text(crd, &["spec", "names", "plural"]),
        short_names: texts(crd, &["spec", "names", "shortNames"]),
        categories: texts(crd, &["spec", "names", "categories"]),
        namespaced: crd.str_at(&["spec", "scope"]) == Some("Namespaced"),
        verbs: verbs(&["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]),
        ty,
        rules: Rules {
            prepare_create: if has_status {
                kinds::custom_prepare_create
            } else {
                |object| object.set_generation(1)
            },
            prepare_update: if has_status {
                kinds::custom_prepare_update
            } else {
                kinds::custom_prepare_whole
            },
            ..kinds::GENERIC
        },
        custom: Some(Arc::new(custom)),
        subresources,
        stored: Some((storage.clone(), cache.clone())),
    })
}

fn columns(version: &Object) -> Vec<PrinterColumn> {
    let listed: Vec<PrinterColumn> = version
        .list_at(&["additionalPrinterColumns"])
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_struct)
        .map(|column| PrinterColumn {
            name: text(column, &["name"]),
            ty: text(column, &["type"]),
            path: text(column, &["jsonPath"]),
            priority: column.int_at(&["priority"]).unwrap_or_default(),
        })
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let age = ".metadata.creationTimestamp".to_owned();
    vec![PrinterColumn { name: "Age".to_owned(), ty: "date".to_owned(), path: age, priority: 0 }]
}

/// Tells the definition that its names are accepted and that it is served.
async fn settle(core: &Arc<Core>, entry: &Arc<Entry>) {
    let Some(crd) = definition(core, entry) else { return };
    let established = crd.list_at(&["status", "conditions"]).unwrap_or_default().iter().any(|condition| {
        let text = |field| condition.child(field).and_then(Value::as_str);
        text("type") == Some("Established") && text("status") == Some("True")
    });
    let generation = crd.int_at(&["status", "observedGeneration"]).unwrap_or_default();
    if established && crd.finalizers().contains(&FINALIZER) && generation == crd.generation() {
        return;
    }
    let path = format!("/apis/{GROUP}/v1/customresourcedefinitions/{}", crd.name());
    if !crd.finalizers().contains(&FINALIZER) {
        let mut finalizers: Vec<&str> = crd.finalizers();
        finalizers.push(FINALIZER);
        let patch =
            json!({"metadata": {"finalizers": finalizers, "resourceVersion": crd.resource_version()}});
        // The write comes back as a change, which settles the rest.
        let (code, message) = merge(core, &path, &patch).await;
        if code != 200 && code != 409 {
            tracing::warn!(definition = crd.name(), code, %message, "the finalizer could not be added");
        }
        return;
    }
    let now = crate::write::prepare::whole_seconds(core.clock.now()).to_string();
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    let names = crd.struct_at(&["spec", "names"]).map(schema::json::encode).unwrap_or_default();
    let names: serde_json::Value = serde_json::from_slice(&names).unwrap_or_default();
    let stored: Vec<String> = crd
        .list_at(&["spec", "versions"])
        .unwrap_or_default()
        .iter()
        .filter(|version| version.child("storage").and_then(Value::as_bool) == Some(true))
        .filter_map(|version| version.child("name").and_then(Value::as_str).map(str::to_owned))
        .collect();
    let mut all_stored = texts(&crd, &["status", "storedVersions"]);
    all_stored.extend(
        stored.into_iter().filter(|version| !texts(&crd, &["status", "storedVersions"]).contains(version)),
    );
    let status = json!({"status": {
        "observedGeneration": crd.generation(), "acceptedNames": names, "storedVersions": all_stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    }});
    let (code, message) = merge(core, &format!("{path}/status"), &status).await;
    if code != 200 {
        tracing::warn!(definition = crd.name(), code, %message, "the status could not be written");
    }
}

async fn merge(core: &Arc<Core>, path: &str, patch: &serde_json::Value) -> (u16, String) {
    crate::bootstrap::send_as(core, Method::PATCH, path, "application/merge-patch+json", patch).await
}

/// Removes the objects of a definition that is being deleted, and then lets it go. Finalizers of their own may hold
/// some of the objects: then this waits for them.
async fn clean_up(core: &Arc<Core>, entry: &Arc<Entry>) {
    let Some(crd) = definition(core, entry) else { return };
    if !crd.finalizers().contains(&FINALIZER) {
        return;
    }
    let (group, plural) = (text(&crd, &["spec", "group"]), text(&crd, &["spec", "names", "plural"]));
    let registry = core.registry();
    if let Some(resource) = registry.preferred(&group, &plural) {
        let Some((_, cache)) = &resource.stored else { return };
        let Ok(mut watcher) = cache.watch(None) else { return };
        if !delete_all(core, resource, cache).await {
            return;
        }
        while !cache.is_empty() {
            if watcher.next().await.is_err() {
                return;
            }
        }
    }
    let left: Vec<&str> = crd.finalizers().into_iter().filter(|&name| name != FINALIZER).collect();
    let path = format!("/apis/{GROUP}/v1/customresourcedefinitions/{}", crd.name());
    let (code, message) = merge(core, &path, &json!({"metadata": {"finalizers": left}})).await;
    if code != 200 && code != 404 {
        tracing::warn!(definition = crd.name(), code, %message, "the finalizer could not be removed");
    }
}

async fn delete_all(core: &Arc<Core>, resource: &Resource, cache: &Cache) -> bool {
    let root = format!("/apis/{}", resource.api_version());
    let plural = &resource.plural;
    for found in cache.list("").1 {
        let path = match found.namespace() {
            "" => format!("{root}/{plural}/{}", found.name()),
            namespace => format!("{root}/namespaces/{namespace}/{plural}/{}", found.name()),
        };
        let (code, message) = send(core, Method::DELETE, &path, &json!({})).await;
        if code != 200 && code != 404 {
            tracing::warn!(%path, code, %message, "a custom object could not be deleted");
            return false;
        }
    }
    true
}
