//! RFC 7386.

use crate::map::Map;
use crate::value::Value;

pub(super) fn merge(target: &mut Value, patch: Map) {
    let Value::Map(map) = target else {
        let mut patch = Value::Map(patch);
        prune(&mut patch);
        *target = patch;
        return;
    };
    for (key, value) in patch {
        match (map.get_mut(&key), value) {
            (_, Value::Null) => {
                map.remove(&key);
            }
            (Some(current @ Value::Map(_)), Value::Map(value)) => merge(current, value),
            (_, mut value) => {
                prune(&mut value);
                map.insert(key, value);
            }
        }
    }
}

/// Nulls in objects that are new mean nothing; nulls in lists stay.
fn prune(value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|_, value| {
            prune(value);
            *value != Value::Null
        }),
        Value::List(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}
