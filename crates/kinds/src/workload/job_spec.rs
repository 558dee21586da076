//! What must be right of a job's specification, its own or that of a `CronJob` (`pkg/apis/batch/validation`).

use schema::Object;

use super::job_policies;
use super::validate::NOT_NEGATIVE;
use crate::content;
use crate::edit;
use crate::field::{Errors, Path};
use crate::pod::validate_template;

const MOST_AT_ONCE: i64 = 100_000;
const MOST_FAILED: i64 = 100_000;
/// Beyond so many completions, less may be at once and may fail.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const LONGEST_MANAGER: usize = 63;

/// Checks all but the selector.
pub(super) fn check(spec: &Object, path: &Path, errors: &mut Errors) {
    numbers(spec, path, errors);
    if let Some(manager) = spec.str_at(&["managedBy"]) {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    let mode = spec.str_at(&["completionMode"]);
    if let Some(mode) = mode.filter(|mode| !matches!(*mode, "NonIndexed" | "Indexed")) {
        errors.not_supported_in_order(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if mode == Some("Indexed") {
        indexed(spec, path, errors);
    }
    if mode.is_none_or(|mode| mode == "NonIndexed") {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.int_at(&[field]) {
                errors.invalid(&path.child(field), number, "requires indexed completion mode");
            }
        }
    }
    job_policies::failure(spec, path, errors);
    job_policies::success(spec, path, errors);
    replacement(spec, &path.child("podReplacementPolicy"), errors);
    let Some(template) = spec.struct_at(&["template"]) else { return };
    let at = path.child("template");
    validate_template(template, &at, errors);
    restart(spec, template, &at.child("spec").child("restartPolicy"), errors);
}

fn numbers(spec: &Object, path: &Path, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        if let Some(number) = spec.int_at(&[field]).filter(|number| *number < 0) {
            errors.invalid(&path.child(field), number, NOT_NEGATIVE);
        }
    }
    if spec.get("maxFailedIndexes").is_some() && spec.get("backoffLimitPerIndex").is_none() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
}

fn managed_by(manager: &str, at: &Path, errors: &mut Errors) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.required(at, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.each(at, domain, content::subdomain(domain));
            let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !path.chars().all(fits) {
                let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errors.invalid(at, path, why);
            }
        }
        _ => errors.invalid(at, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if manager.len() > LONGEST_MANAGER {
        errors.too_long(at, LONGEST_MANAGER);
    }
}

fn indexed(spec: &Object, path: &Path, errors: &mut Errors) {
    let number = |field: &str| spec.int_at(&[field]);
    let (completions, parallelism) = (number("completions"), number("parallelism"));
    let failed = number("maxFailedIndexes");
    let (parallelism_at, failed_at) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if let Some(number) = parallelism.filter(|number| *number > MOST_AT_ONCE) {
        let why = format!("must be less than or equal to {MOST_AT_ONCE} when completion mode is Indexed");
        errors.invalid(&parallelism_at, number, why);
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        errors.invalid(&failed_at, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > MOST_FAILED) {
        errors.invalid(&failed_at, failed, format!("must be less than or equal to {MOST_FAILED}"));
    }
    if completions.is_none_or(|number| number <= MANY_COMPLETIONS) || number("backoffLimitPerIndex").is_none()
    {
        return;
    }
    if failed.is_none() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.required(&failed_at, why);
    }
    for (at, number) in [(&parallelism_at, parallelism), (&failed_at, failed)] {
        if let Some(number) = number.filter(|number| *number > MOST_OF_MANY) {
            let why = format!(
                "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            errors.invalid(at, number, why);
        }
    }
}

fn replacement(spec: &Object, at: &Path, errors: &mut Errors) {
    let Some(policy) = spec.str_at(&["podReplacementPolicy"]) else { return };
    let known: &[&str] = match spec.get("podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if !known.contains(&policy) {
        errors.not_supported_in_order(at, policy, known);
    }
}

fn restart(spec: &Object, template: &Object, at: &Path, errors: &mut Errors) {
    match edit::get(template, &["spec", "restartPolicy"]) {
        "" | "Always" => errors.required(at, "valid values: \"OnFailure\", \"Never\""),
        policy @ ("OnFailure" | "Never") => {
            if policy != "Never" && spec.get("podFailurePolicy").is_some() {
                let why = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.invalid(at, policy, why);
            }
        }
        other => errors.not_supported_in_order(at, other, &["OnFailure", "Never"]),
    }
}
