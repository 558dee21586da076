//! The order of merged lists: as the patch has its items, with the server's own between them.

use super::PatchError;
use super::strategic::no_merge_key;
use crate::value::Value;

type Result<T> = std::result::Result<T, PatchError>;

/// How the items of a list are told apart.
pub(super) struct Items<'a> {
    pub key: &'a str,
    pub maps: bool,
}

/// Whether the items are maps; all must be of one type.
pub(super) fn are_maps(lists: &[&[Value]]) -> Result<bool> {
    let mut first: Option<&Value> = None;
    for value in lists.iter().copied().flatten() {
        let Some(first) = first else {
            if matches!(value, Value::List(_)) {
                let message = "lists of lists are not supported";
                return Err(PatchError::Unprocessable(message.into()));
            }
            first = Some(value);
            continue;
        };
        if std::mem::discriminant(first) != std::mem::discriminant(value) {
            let shown: Vec<String> = lists.iter().map(|l| super::go_text(&Value::List(l.to_vec()))).collect();
            let shown = shown.join(" ");
            return Err(PatchError::Merge(format!("list element types are not identical: [{shown}]")));
        }
    }
    match first {
        Some(first) => Ok(matches!(first, Value::Map(_))),
        None => Err(PatchError::Merge("no elements in any of the given slices".into())),
    }
}

/// Duplicates go, and the last item takes the place of each: upstream's order.
pub(super) fn deduplicate(mut items: Vec<Value>) -> Vec<Value> {
    let mut at = 0;
    while at < items.len() {
        let mut other = at + 1;
        while other < items.len() {
            if items.get(at) == items.get(other) {
                items.swap_remove(other);
            } else {
                other += 1;
            }
        }
        at += 1;
    }
    items
}

/// The patch's items must stand in the order that the patch demands.
pub(super) fn check(patch: &[Value], wanted: &[Value], key: &str) -> Result<()> {
    if wanted.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let directive = |item: &Value| item.as_map().and_then(|m| m.get("$patch")).cloned();
    let deletes = |item: &&Value| directive(item) == Some(Value::Str("delete".into()));
    let listed: Vec<&Value> = patch.iter().filter(|i| !deletes(i)).collect();
    let (mut at, mut order) = (0, wanted.iter().peekable());
    while let (Some(item), Some(next)) = (listed.get(at), order.peek()) {
        if directive(item).is_some() {
            at += 1;
            continue;
        }
        let same =
            if key.is_empty() { *item == *next } else { merge_value(item, key)? == merge_value(next, key)? };
        at += usize::from(same);
        order.next();
    }
    if at < listed.len() {
        let (patch, wanted) = (Value::List(patch.to_vec()), Value::List(wanted.to_vec()));
        return Err(PatchError::Merge(format!(
            "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
            super::go_text(&patch),
            super::go_text(&wanted)
        )));
    }
    Ok(())
}

fn merge_value<'v>(item: &'v Value, key: &str) -> Result<&'v Value> {
    match item {
        Value::Map(map) => map.get(key).ok_or_else(|| no_merge_key(map, key)),
        _ => Err(PatchError::Merge("expected a map[string]interface {}, but received another type".into())),
    }
}

impl Items<'_> {
    fn index(&self, list: &[Value], item: &Value) -> Option<usize> {
        if !self.maps {
            return list.iter().position(|v| v == item);
        }
        let wanted = item.child(self.key);
        list.iter().position(|v| v.child(self.key) == wanted)
    }

    /// Those that `by` names, and the others.
    pub fn partition(&self, items: Vec<Value>, by: &[Value]) -> Result<(Vec<Value>, Vec<Value>)> {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for item in items {
            let named = if self.key.is_empty() {
                by.contains(&item)
            } else {
                let value = merge_value(&item, self.key)?;
                by.iter().any(|b| b.child(self.key) == Some(value))
            };
            if named { mine.push(item) } else { theirs.push(item) }
        }
        Ok((mine, theirs))
    }

    /// Sorts each part by its order, and merges them as the server's order says.
    pub fn normalize(
        &self,
        mine: Vec<Value>,
        theirs: Vec<Value>,
        wanted: &[Value],
        server: &[Value],
    ) -> Result<Vec<Value>> {
        let mine = self.sort(mine, wanted)?;
        let theirs = self.sort(theirs, server)?;
        let mut merged = Vec::with_capacity(mine.len() + theirs.len());
        let (mut mine, mut theirs) = (mine.into_iter().peekable(), theirs.into_iter().peekable());
        loop {
            let theirs_first = match (theirs.peek(), mine.peek()) {
                (None, None) => return Ok(merged),
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(t), Some(m)) => match (self.index(server, t), self.index(server, m)) {
                    (Some(t), Some(m)) => t < m,
                    _ => false,
                },
            };
            merged.extend(if theirs_first { theirs.next() } else { mine.next() });
        }
    }

    /// By insertion, since what is not in the order counts as less than anything, in either
    /// direction; upstream's result depends on it.
    fn sort(&self, items: Vec<Value>, order: &[Value]) -> Result<Vec<Value>> {
        let mut deleted = Vec::new();
        let mut sorted: Vec<(Option<usize>, Value)> = Vec::with_capacity(items.len());
        if self.maps {
            for item in items.iter().chain(order) {
                merge_value(item, self.key)?;
            }
        }
        for item in items {
            let directive = item.child("$patch").and_then(Value::as_str);
            if self.maps && directive == Some("delete") {
                deleted.push(item);
            } else {
                sorted.push((self.index(order, &item), item));
            }
        }
        for start in 1..sorted.len() {
            let mut at = start;
            while at > 0 {
                let less = match (sorted.get(at), sorted.get(at - 1)) {
                    (Some((Some(a), _)), Some((Some(b), _))) => a < b,
                    _ => true,
                };
                if !less {
                    break;
                }
                sorted.swap(at, at - 1);
                at -= 1;
            }
        }
        Ok(sorted.into_iter().map(|(_, v)| v).chain(deleted).collect())
    }
}
