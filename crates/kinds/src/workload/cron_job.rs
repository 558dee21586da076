//! `CronJob`: when jobs are made, and what they are.

use schema::Object;

use super::job::policy_defaults;
use super::{job_spec, schedule, template};
use crate::edit::{self, made, number, text};
use crate::field::{Errors, Json, Path};
use crate::pod::template_defaults;
use crate::pod::validate::shown;
use crate::rules::{GENERIC, Part, Rules};

/// What the controller appends to the name has this many bytes less than a label.
const LONGEST_NAME: usize = 52;
const LONGEST_PART_OF_ZONE: usize = 14;

/// The rules of `CronJob`.
pub(crate) const RULES: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            text(spec, "concurrencyPolicy", "Allow");
            edit::flag(spec, "suspend", false);
            number(spec, "successfulJobsHistoryLimit", 3);
            number(spec, "failedJobsHistoryLimit", 1);
            made(spec, "jobTemplate", |template| {
                made(template, "spec", |spec| {
                    policy_defaults(spec);
                    made(spec, "template", template_defaults);
                });
            });
        });
    },
    gated: template::cron_job_gated,
    validate_last: validate,
    // Upstream asks nothing of a changed status.
    looks: crate::meta::Looks { main: (0, 1), part: (0, 0) },
    ..GENERIC
};

fn validate(new: &Object, old: Option<&Object>, part: Part, errors: &mut Errors) {
    if part != Part::Main {
        return;
    }
    let Some(spec) = new.struct_at(&["spec"]) else { return };
    let path = Path::new("spec");
    let zone = spec.str_at(&["timeZone"]);
    let had = |field: &str| old.and_then(|old| old.str_at(&["spec", field]));
    let had_zone_in_schedule = had("schedule").is_some_and(|schedule| schedule.contains("TZ"));
    when(edit::get(spec, &["schedule"]), had_zone_in_schedule, zone, &path.child("schedule"), errors);
    not_negative(spec, "startingDeadlineSeconds", &path, errors);
    if let Some(zone) = zone.filter(|zone| old.is_none() || had("timeZone") != Some(zone)) {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    let policy_at = path.child("concurrencyPolicy");
    match edit::get(spec, &["concurrencyPolicy"]) {
        "Allow" | "Forbid" | "Replace" => {}
        "" => errors.required(&policy_at, ""),
        other => errors.not_supported_in_order(&policy_at, other, &["Allow", "Forbid", "Replace"]),
    }
    job(spec, &path.child("jobTemplate").child("spec"), errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, field, &path, errors);
    }
    // One that is there may have a name from before there was a limit.
    if old.is_none() && new.name().len() > LONGEST_NAME {
        let why = format!("must be no more than {LONGEST_NAME} characters");
        errors.invalid(&Path::new("metadata").child("name"), new.name(), why);
    }
}

fn not_negative(spec: &Object, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(number) = spec.int_at(&[field]).filter(|number| *number < 0) {
        errors.invalid(&path.child(field), number, super::validate::NOT_NEGATIVE);
    }
}

fn when(given: &str, had_zone: bool, zone: Option<&str>, at: &Path, errors: &mut Errors) {
    if given.is_empty() {
        errors.required(at, "");
        return;
    }
    if let Err(why) = schedule::check(given) {
        errors.invalid(at, given, why);
    }
    if !given.contains("TZ") {
        return;
    }
    if !had_zone {
        errors.invalid(at, given, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if zone.is_some() {
        errors.invalid(at, given, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn time_zone(zone: &str, at: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(at, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let fits = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=LONGEST_PART_OF_ZONE).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    if !zone.split('/').all(fits) {
        errors.invalid(at, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, zone, why);
    }
    if let Err(why) = schedule::location(zone) {
        errors.invalid(at, zone, why);
    }
}

fn job(spec: &Object, at: &Path, errors: &mut Errors) {
    let Some(job) = spec.struct_at(&["jobTemplate", "spec"]) else { return };
    job_spec::check(job, at, errors);
    if let Some(selector) = job.struct_at(&["selector"]) {
        let shown = Json(shown::json(selector));
        errors.invalid(&at.child("selector"), shown, "`selector` will be auto-generated");
    }
    if job.bool_at(&["manualSelector"]) == Some(true) {
        errors.not_supported_in_order(&at.child("manualSelector"), true, &["nil", "false"]);
    }
}
