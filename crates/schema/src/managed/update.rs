//! What a write does to `metadata.managedFields`.

use jiff::Timestamp;

use super::compare::compare;
use super::entries::{self, Manager, Managers, Owned};
use super::path::{FieldSet, PathElement};
use crate::object::Object;

/// More updaters than these are merged, the oldest first.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Fields that nobody owns.
const STRIPPED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

fn stripped() -> FieldSet {
    let mut set = FieldSet::new();
    for path in STRIPPED {
        let path: Vec<_> = path.iter().map(|p| PathElement::field(p)).collect();
        set.insert(&path);
    }
    set
}

/// Brings `new`'s managed fields up to date after a create (`old` is None) or an update by
/// `manager`. What changed belongs to the manager now, and to nobody else; where nothing changed,
/// neither does the entry's time. `operation` is `Update`; `subresource` is empty for the object
/// itself, whose status is then nobody's.
pub fn update_managed_fields(
    old: Option<&Object>,
    new: &mut Object,
    manager: &str,
    operation: &str,
    api_version: &str,
    subresource: &str,
    time: Timestamp,
) {
    if new.ty().field("metadata").is_none() {
        return;
    }
    let empty;
    let changes = match old {
        Some(old) => compare(old, new),
        None => {
            empty = Object::new(new.ty().clone());
            compare(&empty, new)
        }
    };
    let (mut taken, mut removed) = (changes.added, changes.removed);
    taken.add(changes.modified);
    for set in [&mut taken, &mut removed] {
        set.remove(&stripped());
    }
    if taken.is_empty() && removed.is_empty() && keep_as_it_is(old, new, !subresource.is_empty()) {
        return;
    }
    let Some(mut managers) = current(old, new, !subresource.is_empty()) else {
        new.metadata_mut().remove("managedFields");
        return;
    };
    new.metadata_mut().remove("managedFields");
    // Nothing is tracked for an object that was written before tracking began.
    if old.is_some() && managers.is_empty() {
        return;
    }
    for owned in managers.values_mut() {
        owned.set.remove(&taken);
        owned.set.remove(&removed);
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    if subresource.is_empty() && !new.ty().custom {
        let mut status = FieldSet::new();
        status.insert(&[PathElement::field("status")]);
        taken = taken.recursive_difference(&status);
    }
    if !taken.is_empty() {
        let key = Manager {
            name: manager.to_owned(),
            operation: operation.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        };
        let mut set = managers.remove(&key).map(|previous| previous.set).unwrap_or_default();
        set.add(taken);
        let owned = Owned { set, api_version: api_version.to_owned(), time: Some(time) };
        managers.insert(key, owned);
    }
    cap(&mut managers);
    entries::write(new, &managers);
}

/// Nothing changed: where the client did not touch the managed fields either, they stay.
fn keep_as_it_is(old: Option<&Object>, new: &mut Object, subresource: bool) -> bool {
    let Some(old) = old else {
        return false;
    };
    let before = old.metadata().get("managedFields");
    let given = new.metadata().get("managedFields");
    if given == before {
        return true;
    }
    if subresource || given.is_none() {
        let before = before.cloned();
        new.metadata_mut().set("managedFields", before);
        return true;
    }
    false
}

/// The managers before the write. A client may set them itself, but not by a subresource, and not
/// by leaving them out. None when the client gave them up.
fn current(old: Option<&Object>, new: &Object, subresource: bool) -> Option<Managers> {
    let live = || old.and_then(entries::read).unwrap_or_default();
    if subresource {
        return Some(live());
    }
    if entries::is_reset(new) {
        return if old.is_some() { None } else { Some(Managers::new()) };
    }
    match entries::read(new) {
        Some(managers) if !managers.is_empty() => Some(managers),
        _ => Some(live()),
    }
}

/// Merges the oldest updaters of a version into one.
fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Manager> = managers.keys().filter(|m| !m.is_applier()).cloned().collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATERS {
        return;
    }
    let seconds = |m: &Manager| {
        let owned = managers.get(m);
        owned.and_then(|o| o.time).map_or(0, |t| t.as_second())
    };
    updaters.sort_by(|a, b| seconds(a).cmp(&seconds(b)).then_with(|| a.cmp(b)));
    let mut firsts: Vec<(String, Manager)> = Vec::new();
    for updater in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let Some(owned) = managers.get(&updater).cloned() else {
            continue;
        };
        let version = owned.api_version.clone();
        let Some((_, first)) = firsts.iter().find(|(v, _)| *v == version) else {
            firsts.push((version, updater));
            continue;
        };
        let bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: "Update".to_owned(),
            api_version: version,
            subresource: String::new(),
        };
        let before = match managers.contains_key(&bucket) {
            true => managers.get(&bucket).cloned(),
            false => managers.remove(first),
        };
        let set = before.map_or_else(|| owned.set.clone(), |b| b.set.union(&owned.set));
        managers.remove(&updater);
        managers.insert(bucket, Owned { set, ..owned });
        count -= 1;
    }
}
