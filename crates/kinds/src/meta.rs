//! What every object's metadata must be, whatever its kind.

use schema::{Map, Object, Value};

use crate::content::{self, Problems};
use crate::field::{At, Errors, Json, Path, ToPath};
use crate::pod::validate::shown;

/// What a name must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: at most 253 characters, the rule of most kinds.
    Subdomain,
    /// RFC 1123 label: at most 63 characters.
    Label,
    /// What fits into a path segment (RBAC kinds).
    PathSegment,
}

/// What is wrong with the metadata of an object (`apimachinery/pkg/api/validation.ValidateObjectMeta`).
pub fn validate(object: &Object, rule: NameRule, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("metadata");
    if !object.generate_name().is_empty() {
        let name = object.generate_name();
        errors.each(&path.child("generateName"), name, rule.check_prefix(name));
    }
    if object.name().is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        errors.each(&path.child("name"), object.name(), rule.check(object.name()));
    }
    if namespaced {
        if object.namespace().is_empty() {
            errors.required(&path.child("namespace"), "");
        } else {
            errors.each(&path.child("namespace"), object.namespace(), content::label(object.namespace()));
        }
    } else if !object.namespace().is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    if object.generation() < 0 {
        errors.invalid(&path.child("generation"), object.generation(), NOT_NEGATIVE);
    }
    always(object, &path, errors);
    finalizers(object, &path.child("finalizers"), errors);
}

/// What must be right in every write of an object.
fn always(object: &Object, path: &Path, errors: &mut Errors) {
    labels(object.labels(), &path.child("labels"), errors);
    annotations(object.annotations(), &path.child("annotations"), errors);
    owners(object, &path.child("ownerReferences"), errors);
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

fn finalizers(object: &Object, path: &Path, errors: &mut Errors) {
    let finalizers = object.finalizers();
    for finalizer in &finalizers {
        errors.each(path, finalizer, content::qualified_name(finalizer));
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let shown: Vec<_> = finalizers.iter().map(|name| format!("{name:?}")).collect();
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.invalid(path, Json(format!("[{}]", shown.join(","))), why);
    }
}

/// What is wrong with one finalizer of a namespace's specification.
pub(crate) fn finalizer(name: &str, at: &Path, errors: &mut Errors) {
    errors.each(at, name, content::qualified_name(name));
    standard_finalizer(name, at, errors);
}

fn standard_finalizer(name: &str, at: &Path, errors: &mut Errors) {
    if !name.contains('/') && !matches!(name, "kubernetes" | ORPHAN | FOREGROUND) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(at, name, why);
    }
}

/// A finalizer of a built-in kind has a domain before its name, or is one of Kubernetes' own
/// (`pkg/apis/core/validation.ValidateObjectMeta`).
pub fn standard_finalizers(object: &Object, errors: &mut Errors) {
    let path = Path::new("metadata").child("finalizers");
    for (index, finalizer) in object.finalizers().into_iter().enumerate() {
        standard_finalizer(finalizer, &path.index(index), errors);
    }
}

/// How often a kind's own rules for a change look at metadata that every object's rules have looked at already: what is
/// wrong is told each time. First as at that of a new object, then at what may not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// In a change of the object.
    pub main: (u8, u8),
    /// In a change of its status, or of another part.
    pub part: (u8, u8),
}

impl Looks {
    /// What is common.
    pub const CHANGE: Self = Self { main: (0, 1), part: (0, 1) };
    /// The rules for new objects are asked as well.
    pub const BOTH: Self = Self { main: (1, 1), part: (0, 1) };
    /// Only the rules for new objects are asked.
    pub const WHOLE: Self = Self { main: (1, 0), part: (1, 0) };
    /// None are.
    pub const NONE: Self = Self { main: (0, 0), part: (0, 0) };
}

/// What is wrong with a change of metadata (`ValidateObjectMetaUpdate`).
pub fn validate_update(new: &Object, old: &Object, errors: &mut Errors) {
    let path = Path::new("metadata");
    if old.deletion_timestamp().is_some() {
        let had = old.finalizers();
        let mut added: Vec<_> = new.finalizers().into_iter().filter(|name| !had.contains(name)).collect();
        if !added.is_empty() {
            added.sort_unstable();
            added.dedup();
            let list = added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            errors.forbidden(&path.child("finalizers"), why);
        }
    }
    if new.generation() < 0 {
        errors.invalid(&path.child("generation"), new.generation(), NOT_NEGATIVE);
    }
    if new.generation() < old.generation() {
        errors.invalid(&path.child("generation"), new.generation(), "must not be decremented");
    }
    for (field, new, old) in [
        ("name", new.name(), old.name()),
        ("namespace", new.namespace(), old.namespace()),
        ("uid", new.uid(), old.uid()),
    ] {
        if new != old {
            errors.invalid(&path.child(field), new, "field is immutable");
        }
    }
    if new.deletion_timestamp() != old.deletion_timestamp() {
        let shown = new.deletion_timestamp().map_or_else(|| "null".to_owned(), |time| format!("\"{time}\""));
        errors.invalid(&path.child("deletionTimestamp"), Json(shown), "field is immutable");
    }
    let grace = |object: &Object| object.int_at(&["metadata", "deletionGracePeriodSeconds"]);
    if grace(new) != grace(old) {
        let shown = grace(new).map_or_else(|| "null".to_owned(), |seconds| seconds.to_string());
        errors.invalid(&path.child("deletionGracePeriodSeconds"), Json(shown), "field is immutable");
    }
    always(new, &path, errors);
}

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// What is wrong with labels.
pub fn labels(labels: Option<&Map>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flat_map(Map::strings) {
        errors.each(path, key, content::qualified_name(key));
        errors.each(path, value, content::label_value(value));
    }
}

/// What is wrong with the metadata of a template, which can only have labels and annotations
/// (`ValidateTemplateObjectMeta`).
pub(crate) fn of_template(metadata: &Object, at: &At<'_>, errors: &mut Errors) {
    annotations(metadata.map_at(&["annotations"]), &at.child("annotations").to_path(), errors);
    labels(metadata.map_at(&["labels"]), &at.child("labels").to_path(), errors);
    for (field, _) in metadata.fields() {
        if !matches!(&*field.json, "annotations" | "labels") {
            // Made of Go's name for it, with a small first letter.
            let name = if &*field.json == "uid" { "uID" } else { &field.json };
            errors.forbidden(&at.child(name), "cannot be set");
        }
    }
}

/// The size that all annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn annotations(annotations: Option<&Map>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flat_map(Map::strings) {
        errors.each(path, key, content::qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

fn owners(object: &Object, path: &Path, errors: &mut Errors) {
    let owners = object.owner_references();
    let mut controller: Option<String> = None;
    for (index, owner) in owners.iter().enumerate() {
        let at = path.index(index);
        let text = |field: &str| owner.child(field).and_then(Value::as_str).unwrap_or_default();
        let version = text("apiVersion");
        let malformed = version.matches('/').count() > 1 || version.ends_with('/');
        if !version.is_empty() && malformed {
            errors.invalid(&at.child("apiVersion"), version, "must be <group>/<version> or <version>");
        }
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.required(&at.child(field), "must not be empty");
            }
        }
        let json = |owner: &Value| owner.as_struct().map(shown::json).unwrap_or_default();
        if (version, text("kind")) == ("v1", "Event") {
            errors.invalid(&at, Json(json(owner)), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.child("controller").and_then(Value::as_bool) == Some(true) {
            let name = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                let all: Vec<_> = owners.iter().map(json).collect();
                errors.invalid(path, Json(format!("[{}]", all.join(","))), why);
            }
            controller.get_or_insert(name);
        }
    }
}

impl NameRule {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Problems {
        let segment = |name: &str| match name {
            "." | ".." => vec![format!("may not be '{name}'").into()],
            _ => ["/", "%"]
                .iter()
                .filter(|bad| name.contains(**bad))
                .map(|bad| format!("may not contain '{bad}'").into())
                .collect(),
        };
        match self {
            Self::Subdomain => content::subdomain(name),
            Self::Label => content::label(name),
            Self::PathSegment => segment(name),
        }
    }

    /// What is wrong with the beginning of a name, to which letters will be added: a dash at its end is none.
    pub fn check_prefix(self, prefix: &str) -> Problems {
        let long = prefix.len() > 1 && prefix.ends_with('-');
        match self {
            Self::PathSegment => {
                self.check(prefix).into_iter().filter(|why| !why.starts_with("may not be")).collect()
            }
            _ if long => self.check(&format!("{}a", prefix.get(..prefix.len() - 2).unwrap_or_default())),
            _ => self.check(prefix),
        }
    }
}

/// The time since the object was made, as `kubectl get` shows it.
pub fn age(object: &Object, now: i64) -> String {
    match object.creation_timestamp() {
        Some(made) => duration(now - made.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration as `k8s.io/apimachinery/pkg/util/duration.HumanDuration` prints it.
pub fn duration(seconds: i64) -> String {
    let two = |big: i64, small: i64, big_unit: char, small_unit: char| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=599 => two(minutes, seconds % 60, 'm', 's'),
        600..=10_799 => format!("{minutes}m"),
        10_800..=28_799 => two(hours, minutes % 60, 'h', 'm'),
        28_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 => two(days, hours % 24, 'd', 'h'),
        691_200..=63_071_999 => format!("{days}d"),
        63_072_000..=252_287_999 => two(days / 365, days % 365, 'y', 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_as_upstreams() {
        let cases = [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (40_000, "11h"),
            (200_000, "2d7h"),
            (700_000, "8d"),
            (70_000_000, "2y80d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
