//! RFC 6902 operations on an untyped tree.

use super::PatchError;
use crate::json;
use crate::map::Map;
use crate::types::Type;
use crate::value::Value;

type Result<T> = std::result::Result<T, PatchError>;

const MAX_OPERATIONS: usize = 10_000;
/// What `copy` operations may add up to; upstream's default is no limit, which one request could
/// use to take all memory.
const MAX_NODES: usize = 2_000_000;

/// One operation, its members still as they came.
pub(super) struct Operation(Map);

/// The operations, and what is strictly wrong with them.
pub(super) fn parse(patch: &[u8]) -> Result<(Vec<Operation>, Vec<String>)> {
    let ty = Type::List(Box::new(Type::Map(Box::new(Type::Any))));
    let (value, mut strict) = json::decode_strict(&ty, patch).map_err(|e| {
        // The type has that name there.
        let why = e.to_string().replace("map[string]interface {}", "handlers.jsonPatchOp");
        PatchError::Malformed(format!("error decoding patch: {why}"))
    })?;
    let Some(Value::List(items)) = value else {
        return Ok((Vec::new(), strict));
    };
    if items.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { allowed: MAX_OPERATIONS, got: items.len() });
    }
    let mut operations = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        // Null is an operation that says nothing.
        let map = match item {
            Value::Map(map) => map,
            _ => Map::new(),
        };
        for key in map.keys() {
            if !matches!(key, "op" | "path" | "from" | "value") {
                strict.push(format!("unknown field {:?}", format!("[{at}].{key}")));
            }
        }
        operations.push(Operation(map));
    }
    let strict = strict.into_iter().map(|e| format!("json patch {e}"));
    Ok((operations, strict.collect()))
}

impl Operation {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get_str(key)
    }

    fn path(&self, kind: &str) -> Result<&str> {
        self.text("path")
            .ok_or_else(|| failed(format!("{kind} operation failed to decode path: missing value")))
    }

    fn from(&self, kind: &str) -> Result<&str> {
        self.text("from")
            .ok_or_else(|| failed(format!("{kind} operation failed to decode from: missing value")))
    }

    fn value(&self) -> Value {
        self.0.get("value").cloned().unwrap_or(Value::Null)
    }
}

fn failed(message: String) -> PatchError {
    PatchError::Unprocessable(message)
}

pub(super) fn apply(tree: &mut Value, operation: Operation) -> Result<()> {
    let kind = operation.text("op").unwrap_or("unknown").to_owned();
    match kind.as_str() {
        "add" => add(tree, &operation),
        "remove" => remove(tree, &operation),
        "replace" => replace(tree, &operation),
        "move" => relocate(tree, &operation, true),
        "copy" => relocate(tree, &operation, false),
        "test" => test(tree, &operation),
        other => Err(failed(format!("Unexpected kind: {other}"))),
    }
}

fn decode_key(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// The container that a path ends in, and the last key.
fn find<'t>(tree: &'t mut Value, path: &str) -> Option<(&'t mut Value, String)> {
    let (first, rest) = path.split_once('/')?;
    // What stands before the first slash does not count.
    let _ = first;
    let mut parts: Vec<&str> = rest.split('/').collect();
    let key = decode_key(parts.pop()?);
    let mut at = tree;
    for part in parts {
        at = match at {
            Value::Map(map) => map.get_mut(&decode_key(part))?,
            Value::List(items) => {
                let index = index_of(&decode_key(part), items.len()).ok()?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Map(_) | Value::List(_)).then_some((at, key))
}

/// A list's index; negative ones count from the end.
fn index_of(key: &str, len: usize) -> std::result::Result<usize, String> {
    let index: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let from_start = if index < 0 { index + len as i64 } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|i| *i < len)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

fn get(container: &Value, key: &str) -> std::result::Result<Option<Value>, String> {
    match container {
        Value::Map(map) => Ok(map.get(key).cloned()),
        Value::List(items) => Ok(items.get(index_of(key, items.len())?).cloned()),
        _ => Ok(None),
    }
}

fn put(container: &mut Value, key: &str, value: Value) -> std::result::Result<(), String> {
    match container {
        Value::Map(map) => {
            map.insert(key, value);
        }
        Value::List(items) if key == "-" => items.push(value),
        Value::List(items) => {
            if key.parse::<i64>().is_err() {
                return Err(format!(
                    "value was not a proper array index: '{key}': strconv.Atoi: parsing {key:?}: invalid syntax"
                ));
            }
            let index = index_of(key, items.len() + 1)?;
            items.insert(index, value);
        }
        _ => {}
    }
    Ok(())
}

fn take(container: &mut Value, key: &str) -> std::result::Result<Value, String> {
    match container {
        Value::Map(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Value::List(items) => {
            let index = index_of(key, items.len())?;
            Ok(items.remove(index))
        }
        _ => Ok(Value::Null),
    }
}

fn missing(kind: &str, what: &str, path: &str) -> PatchError {
    failed(format!("{kind} operation does not apply: doc is missing {what}: {path}: missing value"))
}

fn add(tree: &mut Value, operation: &Operation) -> Result<()> {
    let path = operation.path("add")?;
    let Some((container, key)) = find(tree, path) else {
        return Err(missing("add", "path", &format!("{path:?}")));
    };
    put(container, &key, operation.value())
        .map_err(|e| failed(format!("error in add for path: '{path}': {e}")))
}

fn remove(tree: &mut Value, operation: &Operation) -> Result<()> {
    let path = operation.path("remove")?;
    let Some((container, key)) = find(tree, path) else {
        return Err(missing("remove", "path", &format!("{path:?}")));
    };
    take(container, &key).map(drop).map_err(|e| failed(format!("error in remove for path: '{path}': {e}")))
}

fn replace(tree: &mut Value, operation: &Operation) -> Result<()> {
    let path = operation.path("replace")?;
    if path.is_empty() {
        let value = operation.value();
        if !matches!(value, Value::Map(_) | Value::List(_)) {
            let message = "replace operation value must be object or array: %!w(<nil>)";
            return Err(failed(message.into()));
        }
        *tree = value;
        return Ok(());
    }
    let Some((container, key)) = find(tree, path) else {
        return Err(missing("replace", "path", path));
    };
    match container {
        // Upstream does not mind a key that is not there.
        Value::Map(map) => {
            map.insert(key, operation.value());
        }
        Value::List(items) => {
            let slot = index_of(&key, items.len()).ok().and_then(|i| items.get_mut(i));
            match slot {
                Some(slot) => *slot = operation.value(),
                None => return Err(missing("replace", "key", path)),
            }
        }
        _ => {}
    }
    Ok(())
}

/// `move` and `copy`.
fn relocate(tree: &mut Value, operation: &Operation, remove: bool) -> Result<()> {
    let kind = if remove { "move" } else { "copy" };
    let from = operation.from(kind)?;
    let Some((container, key)) = find(tree, from) else {
        return Err(missing(kind, "from path", from));
    };
    let at_from = |e: String| match remove {
        true => failed(format!("error in move for path: '{key}': {e}")),
        false => failed(format!("error in copy for from: '{from}': {e}")),
    };
    let value = get(container, &key).map_err(at_from)?.unwrap_or(Value::Null);
    if remove {
        take(container, &key).map_err(at_from)?;
    }
    let path = operation.path(kind)?;
    let size = if remove { 0 } else { nodes(tree) };
    if size > MAX_NODES {
        let message = format!(
            "Unable to complete the copy, the accumulated size increase of copy is {size}, exceeding the limit {MAX_NODES}"
        );
        return Err(failed(message));
    }
    let Some((container, key)) = find(tree, path) else {
        return Err(missing(kind, "destination path", path));
    };
    put(container, &key, value).map_err(|e| match remove {
        true => failed(format!("error in move for path: '{path}': {e}")),
        false => failed(format!("error while adding value during copy: {e}")),
    })
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, v)| nodes(v)).sum::<usize>(),
        _ => 1,
    }
}

fn test(tree: &mut Value, operation: &Operation) -> Result<()> {
    let path = operation.path("test")?;
    let failed_test = || PatchError::TestFailed(path.to_owned());
    if path.is_empty() {
        return same(tree, &operation.value()).then_some(()).ok_or_else(failed_test);
    }
    let Some((container, key)) = find(tree, path) else {
        return Err(failed(format!("test operation does not apply: is missing path: {path}: missing value")));
    };
    let found = get(container, &key)
        .map_err(|e| failed(format!("error in test for path: '{path}': {e}")))?
        .unwrap_or(Value::Null);
    same(&found, &operation.value()).then_some(()).ok_or_else(failed_test)
}

/// Equal as JSON; 1 and 1.0 are not.
fn same(a: &Value, b: &Value) -> bool {
    a == b
}
