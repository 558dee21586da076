//! Many objects: whole, or page by page at one revision.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use store::{KeyRange, RangeOptions};

use super::select::Selection;
use super::{get, options};
use crate::answer::{ListMeta, Writer};
use crate::body::Body;
use crate::cache::Entry;
use crate::core::Core;
use crate::pipeline::authorize::Authorized;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// How a list's revision is chosen.
enum At {
    /// At the newest revision or one that is no older than a minimum that was waited for.
    Cache,
    /// At exactly this revision, from the store's history.
    Exactly(u64),
}

/// Where a page begins: `continue`, as the server gave it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Continue {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: u64,
    #[serde(rename = "start")]
    start: String,
}

/// Lists what the request selects.
///
/// # Errors
/// 400 for options that contradict each other, 410 for a revision that is gone.
pub async fn list(
    core: &Arc<Core>,
    authorized: &Authorized,
    resource: &Arc<Resource>,
    writer: &Writer<'_>,
) -> Result<Response<Body>> {
    let info = authorized.info();
    options::check(info)?;
    let selection = Selection::read(info, resource)?;
    // Whoever takes what there is takes it whole, as from upstream's cache.
    let anything = info.param("resourceVersion") == Some("0");
    let limit = if anything { usize::MAX } else { options::limit(info)? };
    let token = info.param("continue").filter(|token| !token.is_empty()).map(read_token).transpose()?;
    let at = choose(core, info, token.as_ref()).await?;
    let start = token.map(|token| token.start).unwrap_or_default();
    // What the store kept back of a page that it was asked for alone.
    let mut kept_back = 0;
    let (revision, entries) = match at {
        At::Cache => {
            let (_, cache) = core.codec(resource)?;
            match selection.key() {
                Some(key) => (core.progress().revision(), cache.get(&key).into_iter().collect()),
                None => cache.list(selection.namespace()),
            }
        }
        At::Exactly(revision) => {
            let (entries, rest) = at_revision(core, resource, &selection, revision, (&start, limit)).await?;
            kept_back = rest;
            (revision, entries)
        }
    };
    let mut selected =
        entries.into_iter().filter(|entry| &*entry.key >= start.as_str() && selection.matches(entry));
    let page: Vec<Arc<Entry>> = selected.by_ref().take(limit).collect();
    let mut meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
    if let Some(next) = selected.next() {
        meta.continue_token = write_token(revision, &next.key);
        // Upstream tells the rest only where no selector hides it.
        if selection.is_everything() {
            meta.remaining = i64::try_from(selected.count() + 1 + kept_back).ok();
        }
    }
    writer.list(&page, &meta)
}

async fn choose(
    core: &Arc<Core>,
    info: &crate::pipeline::request::RequestInfo,
    token: Option<&Continue>,
) -> Result<At> {
    let version = info.param("resourceVersion").unwrap_or_default();
    if token.is_none() && !version.is_empty() && version.parse::<u64>().is_err() {
        let why = get::no_version(version);
        return Err(ApiError::bad_request(format!("invalid resource version: {why}")));
    }
    let matching = info.param("resourceVersionMatch").unwrap_or_default();
    if let Some(token) = token {
        if !version.is_empty() && version != "0" {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(At::Exactly(token.revision));
    }
    match (matching, version) {
        ("", _) => {
            get::fresh_enough(core, Some(version)).await?;
            Ok(At::Cache)
        }
        ("Exact", version) => {
            let version = get::parse_version(version)?;
            get::wait_for(core, version).await?;
            Ok(At::Exactly(version))
        }
        (_, version) => {
            get::fresh_enough(core, Some(version)).await?;
            Ok(At::Cache)
        }
    }
}

/// What the store held at a revision, from `start` on. Where no selector hides anything, at most one more than
/// `limit`; the number is of those that were left out behind.
async fn at_revision(
    core: &Arc<Core>,
    resource: &Arc<Resource>,
    selection: &Selection,
    revision: u64,
    (start, limit): (&str, usize),
) -> Result<(Vec<Arc<Entry>>, usize)> {
    let (codec, _) = core.codec(resource)?;
    let mut prefix = format!("{}{}/", core.prefix, codec.storage.prefix);
    let whole = prefix.len();
    if resource.namespaced && !selection.namespace().is_empty() {
        prefix.push_str(selection.namespace());
        prefix.push('/');
    }
    let limit = limit.checked_add(1).filter(|_| selection.is_everything());
    let options = RangeOptions { at: Some(revision), limit, ..RangeOptions::default() };
    let from = format!("{}{start}", prefix.get(..whole).unwrap_or_default());
    let mut range = KeyRange::prefix(prefix.clone());
    if from > prefix {
        range.start = from.into_bytes().into();
    }
    let found = core.store.range(&range, options).await?;
    let mut entries = Vec::with_capacity(found.kvs.len());
    for kv in &found.kvs {
        let key = kv.key.get(whole..).and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let entry = codec.entry_of(namespace, name, kv).map_err(ApiError::internal)?;
        entries.push(Arc::new(entry));
    }
    let rest = found.count.saturating_sub(entries.len());
    Ok((entries, rest))
}

fn write_token(revision: u64, start: &str) -> String {
    let token = Continue { version: "meta.k8s.io/v1".to_owned(), revision, start: start.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// 400 for what is no token, in upstream's words.
fn read_token(text: &str) -> Result<Continue> {
    let bad = |why: &str| {
        ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            // A letter alone at the end says nothing.
            _ => text.len() / 4 * 4,
        };
        bad(&format!("illegal base64 data at input byte {at}"))
    })?;
    let token: Continue = serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => bad("server does not recognize this encoded version "),
        _ => bad(&error.to_string()),
    })?;
    match token.version.as_str() {
        "meta.k8s.io/v1" => Ok(token),
        version => Err(bad(&format!("server does not recognize this encoded version {version}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_the_next_page_begins() {
        let token = read_token(&write_token(7, "a/x")).unwrap();
        assert_eq!((token.revision, token.start.as_str()), (7, "a/x"));
        assert_eq!(read_token("nonsense").err().unwrap().code, 400);
        // An empty object and one of another version.
        for (token, version) in [("e30", ""), ("eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEifQ", "x")] {
            let told = read_token(token).err().unwrap().message;
            assert!(told.ends_with(&format!("does not recognize this encoded version {version}")), "{told}");
        }
    }
}
