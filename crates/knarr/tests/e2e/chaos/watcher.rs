//! A watcher: lists once and then follows, from the last revision it saw, over as many connections as it takes.

use std::sync::Arc;
use std::time::Duration;

use base::Shutdown;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::Target;

/// What a watcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it was in the list that the watcher began with.
    pub listed: bool,
    /// Whether it was told as new.
    pub added: bool,
    /// The revision.
    pub revision: u64,
    /// The object's name.
    pub name: String,
    /// The label `attempt`.
    pub attempt: Option<String>,
    /// The register's value.
    pub value: Option<u64>,
}

impl Seen {
    fn of(listed: bool, added: bool, map: &ConfigMap) -> Self {
        let label = |key: &str| map.metadata.labels.as_ref()?.get(key).cloned();
        Self {
            listed,
            added,
            revision: map.metadata.resource_version.as_deref().unwrap().parse().unwrap(),
            name: map.metadata.name.clone().unwrap(),
            attempt: label("attempt"),
            value: map.data.as_ref().and_then(|data| data.get("value")?.parse().ok()),
        }
    }
}

const LAST: &str = "the-last-one";

/// Follows until `stop` and the last object, and returns everything it was told, in order.
pub async fn run(target: Arc<Target>, stop: Shutdown) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut version = loop {
        let maps: Api<ConfigMap> = Api::namespaced(target.client().await, "default");
        match maps.list(&ListParams::default().labels("chaos")).await {
            Ok(list) => {
                seen.extend(list.items.iter().map(|map| Seen::of(true, true, map)));
                break list.metadata.resource_version.unwrap();
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    loop {
        let maps: Api<ConfigMap> = Api::namespaced(target.client().await, "default");
        let params = WatchParams::default().labels("chaos").timeout(60);
        if let Ok(stream) = maps.watch(&params, &version).await {
            let mut stream = Box::pin(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(WatchEvent::Added(map)) => seen.push(Seen::of(false, true, &map)),
                    Ok(WatchEvent::Modified(map)) => seen.push(Seen::of(false, false, &map)),
                    Ok(WatchEvent::Bookmark(bookmark)) => version = bookmark.metadata.resource_version,
                    Ok(WatchEvent::Deleted(map)) => panic!("nobody deleted {:?}", map.metadata.name),
                    // 410 would be a history that is lost: nothing is compacted in this time.
                    Ok(WatchEvent::Error(status)) if status.code == 410 => {
                        panic!("history is gone: {status:?}")
                    }
                    Ok(WatchEvent::Error(_)) | Err(_) => break,
                }
                if let Some(last) = seen.last() {
                    version = version.parse::<u64>().unwrap().max(last.revision).to_string();
                    if last.name == LAST && stop.is_triggered() {
                        return seen;
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends the watchers once they have seen everything.
pub async fn caught_up(target: &Target, watching: &Shutdown) {
    watching.trigger();
    let maps: Api<ConfigMap> = Api::namespaced(target.client().await, "default");
    let labels = [("chaos".to_owned(), "end".to_owned())].into();
    let metadata = ObjectMeta { name: Some(LAST.to_owned()), labels: Some(labels), ..Default::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, ..Default::default() }).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"x": "y"}}));
    maps.patch(LAST, &PatchParams::default(), &patch).await.unwrap();
}
