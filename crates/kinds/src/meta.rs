//! What every object's metadata must be, whatever its kind.

use schema::{Map, Object, Value};

use crate::field::{Errors, Path};

/// What a name must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: at most 253 characters, the rule of most kinds.
    Subdomain,
    /// RFC 1123 label: at most 63 characters.
    Label,
    /// RFC 1035 label: begins with a letter (Services).
    Label1035,
    /// What fits into a path segment (RBAC kinds).
    PathSegment,
}

/// What is wrong with the metadata of an object (`apimachinery/pkg/api/validation.ValidateObjectMeta`).
pub fn validate(object: &Object, rule: NameRule, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("metadata");
    if !object.generate_name().is_empty() {
        let trimmed = object.generate_name().trim_end_matches('-');
        let shown = if trimmed.is_empty() { "a" } else { trimmed };
        if let Some(why) = rule.check(shown) {
            errors.invalid(&path.child("generateName"), object.generate_name(), why);
        }
    }
    if object.name().is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else if let Some(why) = rule.check(object.name()) {
        errors.invalid(&path.child("name"), object.name(), why);
    }
    if namespaced {
        if object.namespace().is_empty() {
            errors.required(&path.child("namespace"), "");
        } else if let Some(why) = NameRule::Label.check(object.namespace()) {
            errors.invalid(&path.child("namespace"), object.namespace(), why);
        }
    } else if !object.namespace().is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    labels(object.labels(), &path.child("labels"), errors);
    annotations(object.annotations(), &path.child("annotations"), errors);
    owners(object, &path.child("ownerReferences"), errors);
    for (index, finalizer) in object.finalizers().into_iter().enumerate() {
        let path = path.child("finalizers").index(index);
        if let Some(why) = qualified_name(finalizer) {
            errors.invalid(&path, finalizer, why);
        }
    }
}

/// What is wrong with a change of metadata (`ValidateObjectMetaUpdate`).
pub fn validate_update(new: &Object, old: &Object, errors: &mut Errors) {
    let path = Path::new("metadata");
    for (field, new, old) in
        [("name", new.name(), old.name()), ("namespace", new.namespace(), old.namespace())]
    {
        if new != old {
            errors.invalid(&path.child(field), new, "field is immutable");
        }
    }
    if new.generation() < old.generation() {
        errors.invalid(&path.child("generation"), new.generation(), "must not be decremented");
    }
    if old.deletion_timestamp().is_some() {
        let had = old.finalizers();
        let added: Vec<_> = new.finalizers().into_iter().filter(|name| !had.contains(name)).collect();
        if !added.is_empty() {
            let list = added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            errors.forbidden(&path.child("finalizers"), why);
        }
    }
}

/// What is wrong with labels.
pub fn labels(labels: Option<&Map>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flat_map(Map::strings) {
        if let Some(why) = qualified_name(key) {
            errors.invalid(path, key, why);
        }
        if let Some(why) = label_value(value) {
            errors.invalid(path, value, why);
        }
    }
}

/// The size that all annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn annotations(annotations: Option<&Map>, path: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flat_map(Map::strings) {
        if let Some(why) = qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key, why);
        }
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

fn owners(object: &Object, path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for (index, owner) in object.owner_references().iter().enumerate() {
        let path = path.index(index);
        let text = |field: &str| owner.child(field).and_then(Value::as_str).unwrap_or_default();
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(field).is_empty() {
                match field {
                    "apiVersion" => errors.invalid(&path.child(field), "", "version must not be empty"),
                    _ => errors.required(&path.child(field), ""),
                }
            }
        }
        if owner.child("controller").and_then(Value::as_bool) == Some(true) {
            let name = format!("{}/{}", text("kind"), text("name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.invalid(&path, crate::field::Json(String::new()), why);
            }
            controller.get_or_insert(name);
        }
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|byte| lower(byte) || byte == b'-')
        && text.bytes().next().is_some_and(lower)
        && text.bytes().last().is_some_and(lower)
}

fn is_word(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().all(|byte| word(byte) || b"-_.".contains(&byte))
        && text.bytes().next().is_some_and(word)
        && text.bytes().last().is_some_and(word)
}

impl NameRule {
    /// What is wrong with a name; `None` when nothing is.
    pub fn check(self, name: &str) -> Option<String> {
        let too_long = |max: usize| (name.len() > max).then(|| format!("must be no more than {max} bytes"));
        match self {
            Self::Subdomain => {
                too_long(253).or_else(|| (!name.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned()))
            }
            Self::Label => too_long(63).or_else(|| (!is_label(name)).then(|| LABEL.to_owned())),
            Self::Label1035 => {
                let fits = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
                too_long(63).or_else(|| (!fits).then(|| LABEL_1035.to_owned()))
            }
            Self::PathSegment => match name {
                "." | ".." => Some(format!("may not be '{name}'")),
                _ => ["/", "%"]
                    .iter()
                    .find(|bad| name.contains(**bad))
                    .map(|bad| format!("may not contain '{bad}'")),
            },
        }
    }
}

/// What is wrong with the key of a label, an annotation or a finalizer.
pub fn qualified_name(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        return Some(format!(
            "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            QUALIFIED.trim_start_matches("name part ")
        ));
    }
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".to_owned());
        }
        if let Some(why) = NameRule::Subdomain.check(prefix) {
            return Some(format!("prefix part {why}"));
        }
    }
    match name {
        "" => Some("name part must be non-empty".to_owned()),
        name if name.len() > 63 => Some("name part must be no more than 63 bytes".to_owned()),
        name if !is_word(name) => Some(QUALIFIED.to_owned()),
        _ => None,
    }
}

/// What is wrong with the value of a label.
pub fn label_value(value: &str) -> Option<String> {
    match value {
        "" => None,
        value if value.len() > 63 => Some("must be no more than 63 bytes".to_owned()),
        value if !is_word(value) => Some(LABEL_VALUE.to_owned()),
        _ => None,
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
