//! A writer: makes objects under generated names, and counts a register up, noting every outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Shutdown;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::Target;
use super::history::{History, Outcome};

fn object(writer: usize, attempt: u64) -> ConfigMap {
    let labels = BTreeMap::from([
        ("chaos".to_owned(), "new".to_owned()),
        ("attempt".to_owned(), format!("{writer}-{attempt}")),
    ]);
    let metadata =
        ObjectMeta { generate_name: Some("c-".to_owned()), labels: Some(labels), ..Default::default() };
    ConfigMap { metadata, ..Default::default() }
}

/// The register of one writer, which nobody else writes.
fn register(writer: usize) -> ConfigMap {
    let labels = BTreeMap::from([("chaos".to_owned(), "register".to_owned())]);
    let metadata =
        ObjectMeta { name: Some(format!("register-{writer}")), labels: Some(labels), ..Default::default() };
    ConfigMap {
        metadata,
        data: Some(BTreeMap::from([("value".to_owned(), "0".to_owned())])),
        ..Default::default()
    }
}

/// What came of a request: a refusal says that nothing was written; a broken connection says nothing.
fn outcome<T>(result: &Result<T, kube::Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Acknowledged,
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}

/// Writes until it is stopped.
pub async fn run(writer: usize, target: &Target, history: &History, stop: &Shutdown) {
    let mut maps: Api<ConfigMap> = Api::namespaced(target.client().await, "default");
    while maps.create(&PostParams::default(), &register(writer)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = format!("register-{writer}");
    let mut next = 1;
    for attempt in 0.. {
        if stop.is_triggered() {
            return;
        }
        let made = maps.create(&PostParams::default(), &object(writer, attempt)).await;
        history.created(format!("{writer}-{attempt}"), outcome(&made));
        let counted = match maps.get(&name).await {
            Ok(mut map) => {
                map.data.get_or_insert_default().insert("value".to_owned(), next.to_string());
                let counted = maps.replace(&name, &PostParams::default(), &map).await;
                history.counted(writer, next, outcome(&counted));
                next += 1;
                counted.is_ok()
            }
            Err(_) => false,
        };
        if made.is_err() || !counted {
            tokio::time::sleep(Duration::from_millis(20)).await;
            maps = Api::namespaced(target.client().await, "default");
        }
    }
}
