//! Leaving a server that stays as it was.

use anyhow::Result;
use serde::Deserialize;

use crate::bench::http::Call;
use crate::bench::load::each;
use crate::bench::target::Target;

const NAMES: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
struct List {
    /// Upstream writes `null` for none.
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// The names of a collection.
pub(super) async fn names(target: &Target, path: &str) -> Result<Vec<String>> {
    let list: List = serde_json::from_slice(&target.client.call(Call::get(path).accept(NAMES)).await?)?;
    Ok(list.items.into_iter().flatten().map(|item| item.metadata.name).collect())
}

/// Deletes a collection, many at a time: upstream would take one after the other.
pub(super) async fn delete_all(target: &Target, path: &str) -> Result<()> {
    let names = names(target, path).await?;
    let at = |number: usize| format!("{path}/{}", names.get(number).map_or("", String::as_str));
    each(&target.client, names.len(), |number| Call::delete(at(number))).await
}
