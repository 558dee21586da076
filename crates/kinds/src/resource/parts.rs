//! What kinds of dynamic resources have in common: names of theirs, lists with a limit, selectors, configuration.

use std::collections::BTreeSet;

use schema::{Object, Value};

use crate::content;
use crate::field::{At, Errors};
use crate::pod::validate::read::{items, sub, text};

/// The longest name of a driver.
const LONGEST_DRIVER: usize = 63;
const LONGEST_POOL: usize = 253;
const LONGEST_ID: usize = 32;
/// The longest name of an attribute or a capacity: domain, slash and identifier.
pub(super) const LONGEST_QUALIFIED: usize = LONGEST_DRIVER + 1 + LONGEST_ID;
const MOST_SELECTORS: usize = 32;
const LONGEST_PARAMETERS: usize = 10 * 1024;
/// What a taint does.
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The name of a driver: that of a CSI driver.
pub(crate) fn driver(name: &str, at: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    if name.len() > LONGEST_DRIVER {
        errors.too_long(at, LONGEST_DRIVER);
    }
    errors.each(at, name, content::subdomain(&name.to_lowercase()));
}

/// The name of a pool: subdomains, parted by slashes.
pub(super) fn pool(name: &str, at: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(at, "");
    }
    if name.len() > LONGEST_POOL {
        errors.too_long(at, LONGEST_POOL);
    }
    for part in name.split('/') {
        errors.each(at, part, content::subdomain(part));
    }
}

/// The name of a device, a request or a counter.
pub(super) fn label(name: &str, at: &At<'_>, errors: &mut Errors) {
    errors.each(at, name, content::label(name));
}

/// The name of an attribute or a capacity, with a domain or without.
pub(super) fn qualified(name: &str, at: &At<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, at, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(at, "", "the domain must not be empty"),
                domain => driver(domain, at, errors),
            }
            match id {
                "" => errors.invalid(at, "", "the name must not be empty"),
                id => identifier(id, at, errors),
            }
        }
        _ => {}
    }
}

/// The name of an attribute, which must have a domain.
pub(super) fn fully_qualified(name: &str, at: &At<'_>, errors: &mut Errors) {
    qualified(name, at, errors);
    if !name.contains('/') {
        errors.invalid(at, name, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

fn identifier(id: &str, at: &At<'_>, errors: &mut Errors) {
    if id.len() > LONGEST_ID {
        errors.too_long(at, LONGEST_ID);
    }
    errors.each(at, id, content::c_identifier(id));
}

/// A UUID, as it is usually written.
pub(super) fn uuid(text: &str, at: &At<'_>, errors: &mut Errors) {
    let is_hex =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bare = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    let parts: Vec<&str> = bare.split('-').collect();
    let grouped =
        parts.len() == 5 && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| is_hex(part, length));
    if !matches!(text.len(), 32 | 36 | 38 | 45) {
        errors.invalid(at, text, format!("error validating uid: invalid UUID length: {}", text.len()));
    } else if !grouped && !is_hex(text, 32) {
        errors.invalid(at, text, "error validating uid: invalid UUID format");
    } else if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.invalid(at, text, why);
    }
}

/// Checks each of a list, unless there are more than `most`. Whether there were not.
pub(super) fn slice<'o>(
    all: impl Iterator<Item = &'o Object>,
    most: usize,
    at: &At<'_>,
    errors: &mut Errors,
    mut check: impl FnMut(&'o Object, &At<'_>, &mut Errors),
) -> bool {
    let all: Vec<&Object> = all.collect();
    if all.len() > most {
        errors.too_many(at, all.len(), most);
        return false;
    }
    for (number, one) in all.iter().enumerate() {
        check(one, &at.index(number), errors);
    }
    true
}

/// As [`slice`], and no two have the same text in `key`.
pub(super) fn set<'o>(
    owner: &'o Object,
    (field, key): (&str, &str),
    most: usize,
    at: &At<'_>,
    errors: &mut Errors,
    check: impl FnMut(&'o Object, &At<'_>, &mut Errors),
) {
    if !slice(items(owner, field), most, at, errors, check) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (number, one) in items(owner, field).enumerate() {
        if !seen.insert(text(one, key)) {
            errors.duplicate(&at.index(number), text(one, key));
        }
    }
}

/// Texts, of which there are no more than `most` and no two the same.
pub(super) fn texts(
    all: &[Value],
    most: usize,
    at: &At<'_>,
    errors: &mut Errors,
    check: impl Fn(&str, &At<'_>, &mut Errors),
) {
    if all.len() > most {
        return errors.too_many(at, all.len(), most);
    }
    let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
    for (number, one) in all.iter().enumerate() {
        check(one, &at.index(number), errors);
    }
    let mut seen = BTreeSet::new();
    for (number, one) in all.iter().enumerate() {
        if !seen.insert(one) {
            errors.duplicate(&at.index(number), *one);
        }
    }
}

/// The key of a map, cut in its middle when it is too long to be shown.
pub(super) fn shortened(key: &str, most: usize) -> String {
    let most = most.max(16);
    if key.len() <= most {
        return key.to_owned();
    }
    let rest = most - 3;
    let (first, last) = (rest.div_ceil(2), key.len() - rest / 2);
    format!("{}...{}", key.get(..first).unwrap_or_default(), key.get(last..).unwrap_or_default())
}

/// Selectors of devices.
pub(super) fn selectors(owner: &Object, at: &At<'_>, errors: &mut Errors) {
    slice(
        items(owner, "selectors"),
        MOST_SELECTORS,
        &at.child("selectors"),
        errors,
        |selector, at, errors| {
            let at = at.child("cel");
            let Some(cel) = sub(selector, "cel") else { return errors.required(&at, "") };
            let (expression, at) = (text(cel, "expression"), at.child("expression"));
            if expression.len() > cel::LONGEST {
                return errors.too_long(&at, cel::LONGEST);
            }
            match cel::Selector::compile(expression) {
                Err(why) => errors.invalid(&at, expression, why.to_string()),
                Ok(found) if found.most_cost() > cel::BUDGET => {
                    errors.forbidden(&at, "too complex, exceeds cost limit");
                }
                Ok(_) => {}
            }
        },
    );
}

/// What a driver is told in its own words.
pub(super) fn configuration(config: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("opaque");
    let Some(opaque) = sub(config, "opaque") else { return errors.required(&at, "") };
    driver(text(opaque, "driver"), &at.child("driver"), errors);
    raw(opaque.get("parameters"), LONGEST_PARAMETERS, &at.child("parameters"), errors);
}

/// Data that must be a JSON object.
pub(super) fn raw(data: Option<&Value>, most: usize, at: &At<'_>, errors: &mut Errors) {
    let bytes = data.and_then(Value::as_bytes).map(|bytes| bytes.trim_ascii());
    match bytes {
        None | Some(b"" | b"null") => errors.required(at, ""),
        Some(bytes) if bytes.len() > most => errors.too_long(at, most),
        Some(bytes) if !bytes.starts_with(b"{") => {
            errors.invalid(at, "<value omitted>", "must be a valid JSON object");
        }
        Some(_) => {}
    }
}

/// A taint.
pub(super) fn taint(taint: &Object, had: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
    errors.each(&at.child("key"), key, content::qualified_name(key));
    errors.each(&at.child("value"), value, content::label_value(value));
    if had != Some(effect) {
        let at = at.child("effect");
        match effect {
            "" => errors.required(&at, ""),
            effect if !EFFECTS.contains(&effect) => errors.not_supported(&at, effect, &EFFECTS),
            _ => {}
        }
    }
}

/// What a request bears of taints.
pub(super) fn tolerations(owner: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("tolerations");
    for (number, toleration) in items(owner, "tolerations").enumerate() {
        let at = at.index(number);
        let field = |name| text(toleration, name);
        let (key, value, effect) = (field("key"), field("value"), field("effect"));
        if !key.is_empty() {
            errors.each(&at.child("key"), key, content::qualified_name(key));
        }
        match field("operator") {
            "Exists" if !value.is_empty() => {
                errors.invalid(&at.child("value"), value, "must be empty for operator `Exists`");
            }
            "Exists" => {}
            "Equal" => errors.each(&at.child("value"), value, content::label_value(value)),
            "" => errors.required(&at.child("operator"), ""),
            other => errors.not_supported_in_order(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&at.child("effect"), effect, &EFFECTS);
        }
    }
}

/// The conditions that a device must meet before it is used, and those which say that it never will.
pub(super) fn binding(owner: &Object, at: &At<'_>, errors: &mut Errors) {
    const MOST: usize = 4;
    let of = |field| crate::pod::validate::read::list(owner, field);
    let (good, bad) = (of("bindingConditions"), of("bindingFailureConditions"));
    let (good_at, bad_at) = (at.child("bindingConditions"), at.child("bindingFailureConditions"));
    let named = |name: &str, at: &At<'_>, errors: &mut Errors| {
        errors.each(at, name, content::qualified_name(name));
    };
    texts(good, MOST, &good_at, errors, named);
    texts(bad, MOST, &bad_at, errors, named);
    for (number, name) in bad.iter().enumerate().filter(|(_, name)| good.contains(name)) {
        let why = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&bad_at.index(number), name.as_str().unwrap_or_default(), why);
    }
    let shown = || crate::field::Json("null".to_owned());
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            let why = "bindingConditions are required to use bindingFailureConditions";
            errors.invalid(&good_at, shown(), why);
        }
        (false, true) => {
            let why = "bindingFailureConditions are required to use bindingConditions";
            errors.invalid(&bad_at, shown(), why);
        }
        _ => {}
    }
}

/// Which nodes something is for: what is set of the fields that may say so, in backticks.
pub(super) fn nodes(owner: &Object, empty: &str, at: &At<'_>, errors: &mut Errors) -> Vec<&'static str> {
    let mut set = Vec::new();
    match crate::pod::validate::read::maybe(owner, "nodeName") {
        None => {}
        Some("") => errors.invalid(&at.child("nodeName"), "", empty),
        Some(name) => {
            set.push("`nodeName`");
            errors.each(&at.child("nodeName"), name, content::subdomain(name));
        }
    }
    if let Some(selector) = sub(owner, "nodeSelector") {
        set.push("`nodeSelector`");
        crate::pod::validate::node_selector(selector, &at.child("nodeSelector"), errors);
    }
    flag(owner, "allNodes", "`allNodes`", at, &mut set, errors);
    set
}

/// A flag that is either true or not there.
pub(super) fn flag(
    owner: &Object,
    field: &'static str,
    shown: &'static str,
    at: &At<'_>,
    set: &mut Vec<&'static str>,
    errors: &mut Errors,
) {
    match crate::pod::validate::read::flag(owner, field) {
        None => {}
        Some(true) => set.push(shown),
        Some(false) => {
            errors.invalid(&at.child(field), false, "must be either unset or set to true");
        }
    }
}
