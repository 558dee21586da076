//! What must be right of everything that makes pods (`pkg/apis/apps/validation`, `pkg/apis/batch/validation`): of
//! its selector, and of its template.

use schema::labels::Selector;
use schema::{Object, Value};

use super::int;
use crate::edit;
use crate::field::{At, Errors, Json, Path};
use crate::pod::validate::{selector, shown};
use crate::pod::validate_template;
use crate::rules::Part;

/// Checks a `Deployment`.
pub(super) fn deployment(object: &Object, errors: &mut Errors) {
    not_negative(object, "replicas", errors);
    let parsed = strict_selector(object, "deployment", errors);
    template_of_replicas(object, parsed, errors);
    strategy(object, errors);
    not_negative(object, "minReadySeconds", errors);
    not_negative(object, "revisionHistoryLimit", errors);
    let deadline = object.int_at(&["spec", "progressDeadlineSeconds"]);
    not_negative(object, "progressDeadlineSeconds", errors);
    if let Some(deadline) = deadline.filter(|&deadline| deadline <= int(object, &["spec", "minReadySeconds"]))
    {
        let path = Path::new("spec").child("progressDeadlineSeconds");
        errors.invalid(&path, deadline, "must be greater than minReadySeconds");
    }
}

/// Checks a `ReplicaSet`.
pub(super) fn replica_set(object: &Object, errors: &mut Errors) {
    not_negative(object, "replicas", errors);
    not_negative(object, "minReadySeconds", errors);
    let parsed = strict_selector(object, "deployment", errors);
    template_of_replicas(object, parsed, errors);
}

/// Checks a `DaemonSet`.
pub(super) fn daemon_set(object: &Object, errors: &mut Errors) {
    let spec = Path::new("spec");
    let given = object.struct_at(&["spec", "selector"]);
    selector::check(given, &At::from_path(&spec.child("selector")), errors);
    if let (Some(template), Ok(parsed)) = (template(object), Selector::from_label_selector(given)) {
        if given.is_none() || !parsed.matches(|key| template.label(key)) {
            mismatch(template, errors);
        }
    }
    if given.is_some_and(is_empty) {
        empty(given, "daemonset", errors);
    }
    whole_template(object, errors);
    restarts(object, &["Always"], errors);
    no_deadline(object, "DaemonSet", errors);
    not_negative(object, "minReadySeconds", errors);
    let strategy = spec.child("updateStrategy");
    match edit::get(object, &["spec", "updateStrategy", "type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = strategy.child("rollingUpdate");
            match object.struct_at(&["spec", "updateStrategy", "rollingUpdate"]) {
                Some(update) => daemon_update(update, &path, errors),
                None => errors.required(&path, ""),
            }
        }
        _ => {
            let given = object.struct_at(&["spec", "updateStrategy"]).map(shown::internal);
            let given = Json(given.unwrap_or_default());
            errors.not_supported_in_order(&strategy, given, &["RollingUpdate", "OnDelete"]);
        }
    }
    not_negative(object, "revisionHistoryLimit", errors);
}

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

pub(super) fn not_negative(object: &Object, field: &str, errors: &mut Errors) {
    if let Some(number) = object.int_at(&["spec", field]).filter(|number| *number < 0) {
        errors.invalid(&Path::new("spec").child(field), number, NOT_NEGATIVE);
    }
}

pub(super) fn template(object: &Object) -> Option<&Object> {
    object.struct_at(&["spec", "template"])
}

fn is_empty(selector: &Object) -> bool {
    selector.map_at(&["matchLabels"]).is_none_or(|labels| labels.is_empty())
        && selector.list_at(&["matchExpressions"]).is_none_or(<[Value]>::is_empty)
}

fn empty(selector: Option<&Object>, of: &str, errors: &mut Errors) {
    let shown = selector.map(shown::json).unwrap_or_default();
    let why = format!("empty selector is invalid for {of}");
    errors.invalid(&Path::new("spec").child("selector"), Json(shown), why);
}

/// The selector, when it can be read; else how it is shown.
pub(super) fn strict_selector(object: &Object, of: &str, errors: &mut Errors) -> Result<Selector, String> {
    let path = Path::new("spec").child("selector");
    let given = object.struct_at(&["spec", "selector"]);
    match given {
        None => errors.required(&path, ""),
        Some(selector) => {
            selector::check(given, &At::from_path(&path), errors);
            if is_empty(selector) {
                empty(given, of, errors);
            }
        }
    }
    Selector::from_label_selector(given).map_err(|_| given.map(shown::json).unwrap_or_default())
}

fn template_of_replicas(object: &Object, parsed: Result<Selector, String>, errors: &mut Errors) {
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(given) => {
            let path = Path::new("spec").child("selector");
            errors.invalid(&path, Json(given), "invalid label selector");
            return;
        }
    };
    // A selector that is not there selects nothing.
    let nothing = object.struct_at(&["spec", "selector"]).is_none();
    if let Some(template) = template(object) {
        if nothing || !parsed.is_everything() && !parsed.matches(|key| template.label(key)) {
            mismatch(template, errors);
        }
    }
    whole_template(object, errors);
    restarts(object, &["Always"], errors);
    no_deadline(object, "ReplicaSet", errors);
}

pub(super) fn mismatch(template: &Object, errors: &mut Errors) {
    let shown = shown_labels(template);
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    errors.invalid(&path, Json(shown), "`selector` does not match template `labels`");
}

/// The labels of a template as JSON.
pub(super) fn shown_labels(template: &Object) -> String {
    template.labels().map_or_else(
        || "null".to_owned(),
        |labels| {
            let all: Vec<_> = labels.strings().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
            format!("{{{}}}", all.join(","))
        },
    )
}

pub(super) fn whole_template(object: &Object, errors: &mut Errors) {
    if let Some(template) = template(object) {
        validate_template(template, &Path::new("spec").child("template"), errors);
    }
}

pub(super) fn restarts(object: &Object, allowed: &[&str], errors: &mut Errors) {
    let policy = edit::get(object, &["spec", "template", "spec", "restartPolicy"]);
    if !allowed.contains(&policy) {
        let path = Path::new("spec").child("template").child("spec").child("restartPolicy");
        errors.not_supported(&path, policy, allowed);
    }
}

pub(super) fn no_deadline(object: &Object, of: &str, errors: &mut Errors) {
    let field = "activeDeadlineSeconds";
    if object.at(&["spec", "template", "spec", field]).is_some() {
        let path = Path::new("spec").child("template").child("spec").child(field);
        errors.forbidden(&path, format!("{field} in {of} is not Supported"));
    }
}

fn strategy(object: &Object, errors: &mut Errors) {
    let strategy = Path::new("spec").child("strategy");
    let path = strategy.child("rollingUpdate");
    let update = object.struct_at(&["spec", "strategy", "rollingUpdate"]);
    match (edit::get(object, &["spec", "strategy", "type"]), update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", Some(update)) => {
            let field = "maxUnavailable";
            let [unavailable, surge] = [field, "maxSurge"].map(|field| amount(update, field, &path, errors));
            if unavailable == 0 && surge == 0 {
                let given = shown_amount(update, field);
                errors.invalid(&path.child(field), given, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(update, field, &path, errors);
        }
        ("RollingUpdate", None) => {
            errors.required(&path, "this should be defaulted and never be nil");
        }
        _ => {
            let shown = object.struct_at(&["spec", "strategy"]).map(shown::internal).unwrap_or_default();
            errors.not_supported(&strategy, Json(shown), &["Recreate", "RollingUpdate"]);
        }
    }
}

/// The selector of what makes pods stays what it was.
pub(super) fn immutable_selector(new: &Object, old: Option<&Object>, part: Part, errors: &mut Errors) {
    if part == Part::Main && old.is_some_and(|old| changed(new, old)) {
        let given = new.struct_at(&["spec", "selector"]);
        let shown = given.map_or_else(|| "null".to_owned(), shown::json);
        errors.invalid(&Path::new("spec").child("selector"), Json(shown), "field is immutable");
    }
}

fn changed(new: &Object, old: &Object) -> bool {
    match (new.struct_at(&["spec", "selector"]), old.struct_at(&["spec", "selector"])) {
        (Some(new), Some(old)) => !edit::same(new, old),
        (new, old) => new.is_some() != old.is_some(),
    }
}

/// A number of pods, or a share of them, as a number.
pub(crate) fn amount(update: &Object, field: &str, path: &Path, errors: &mut Errors) -> i64 {
    match update.get(field) {
        Some(Value::Int(number)) => {
            if *number < 0 {
                errors.invalid(&path.child(field), *number, NOT_NEGATIVE);
            }
            *number
        }
        Some(Value::Str(share)) => percent(share).unwrap_or_else(|| {
            errors.invalid(&path.child(field), share.as_str(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
            share.parse().unwrap_or_default()
        }),
        _ => 0,
    }
}

fn percent(share: &str) -> Option<i64> {
    let digits = share.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// What a number of pods or a share of them is shown as.
pub(super) fn shown_amount(update: &Object, field: &str) -> Json {
    Json(match update.get(field) {
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Str(share)) => format!("{share:?}"),
        _ => "0".to_owned(),
    })
}

/// No share may be of more than all.
pub(crate) fn at_most_all(update: &Object, field: &str, path: &Path, errors: &mut Errors) {
    if update.str_at(&[field]).and_then(percent).is_some_and(|share| share > 100) {
        errors.invalid(&path.child(field), shown_amount(update, field), "must not be greater than 100%");
    }
}

/// Checks how a `DaemonSet` replaces its pods.
fn daemon_update(update: &Object, path: &Path, errors: &mut Errors) {
    let (unavailable, surge) = ("maxUnavailable", "maxSurge");
    let [gone, more] = [unavailable, surge].map(|field| amount(update, field, path, errors));
    for field in [unavailable, surge] {
        at_most_all(update, field, path, errors);
    }
    if gone != 0 && more != 0 {
        let why = "may not be set when maxUnavailable is non-zero";
        errors.invalid(&path.child(surge), shown_amount(update, surge), why);
    } else if gone == 0 && more == 0 {
        errors.required(&path.child(unavailable), "cannot be 0 when maxSurge is 0");
    }
}
