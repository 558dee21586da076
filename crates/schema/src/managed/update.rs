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
    paths(&STRIPPED)
}

fn paths(paths: &[&[&str]]) -> FieldSet {
    let mut set = FieldSet::new();
    for path in paths {
        let path: Vec<_> = path.iter().map(|p| PathElement::field(p)).collect();
        set.insert(&path);
    }
    set
}

/// The fields that a write changes: what it leaves as it is it makes nobody own.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// All but these and what is below them.
    AllBut(&'a [&'a [&'a str]]),
}

impl About<'_> {
    fn of(&self, set: &FieldSet) -> FieldSet {
        match self {
            Self::AllBut(fields) => set.recursive_difference(&paths(fields)),
        }
    }
}

/// A write, as far as ownership is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Who writes.
    pub manager: &'a str,
    /// In which version, such as `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// What of all that `new` says such a write is about.
    pub about: About<'a>,
}

/// Brings `new`'s managed fields up to date after a create (`old` is None) or an update by
/// `manager`. What changed belongs to the manager now, and to nobody else; where nothing changed,
/// neither does the entry's time. `write` says what the write is.
pub fn update_managed_fields(old: Option<&Object>, new: &mut Object, write: &Write<'_>, time: Timestamp) {
    let subresource = write.subresource;
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
    // Whose such an item is cannot be said, so that nothing is.
    if changes.nameless {
        new.metadata_mut().remove("managedFields");
        return;
    }
    let (mut taken, mut removed) = (changes.added, changes.removed);
    taken.add(changes.modified);
    for set in [&mut taken, &mut removed] {
        *set = write.about.of(set);
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
    if !taken.is_empty() {
        let key = Manager {
            name: write.manager.to_owned(),
            operation: "Update".to_owned(),
            api_version: write.api_version.to_owned(),
            subresource: subresource.to_owned(),
        };
        let mut set = managers.remove(&key).map(|previous| previous.set).unwrap_or_default();
        set.add(taken);
        let owned = Owned { set, api_version: write.api_version.to_owned(), time: Some(time) };
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

/// Gives `new` the managed fields of `old` where both are the same but for when fields were taken: who says again what
/// is so changes nothing.
pub fn forget_new_times(old: &Object, new: &mut Object) {
    let entries = |o: &Object| o.metadata().get("managedFields").cloned();
    let (before, after) = (entries(old), entries(new));
    if before == after || before.is_none() || after.is_none() {
        return;
    }
    let mut same = new.clone();
    same.metadata_mut().set("managedFields", before.clone());
    same.set_resource_version(old.resource_version());
    if same != *old {
        return;
    }
    let without_times = |o: &Object| {
        let managers = entries::read(o)?;
        Some(managers.into_iter().map(|(manager, owned)| (manager, owned.set)).collect::<Vec<_>>())
    };
    if without_times(old) == without_times(new) {
        new.metadata_mut().set("managedFields", before);
    }
}
