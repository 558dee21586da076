//! What a job's status must be (`pkg/apis/batch/validation.ValidateJobStatusUpdate`). Most is only asked of what changes:
//! whoever writes another field is not refused for one that is wrong already.

use std::collections::BTreeSet;

use schema::{Object, Value};

use super::job_policies::{count_indexes, indexes};
use super::validate::NOT_NEGATIVE;
use crate::edit;
use crate::field::{Errors, Json, Path};
use crate::pod::validate::shown;

/// A job, and where its status is.
struct Job<'o> {
    job: &'o Object,
    at: Path,
}

impl<'o> Job<'o> {
    fn of(job: &'o Object) -> Self {
        Self { job, at: Path::new("status") }
    }

    fn field(&self, name: &str) -> Option<&'o Value> {
        self.job.at(&["status", name])
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.job.int_at(&["status", name])
    }

    fn count(&self, name: &str) -> i64 {
        self.number(name).unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&'o str> {
        self.job.str_at(&["status", name])
    }

    fn says(&self, condition: &str, status: &str) -> bool {
        edit::structs(self.job, &["status", "conditions"])
            .any(|found| edit::get(found, &["type"]) == condition && edit::get(found, &["status"]) == status)
    }

    fn is(&self, condition: &str) -> bool {
        self.says(condition, "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn of_spec(&self, name: &str) -> Option<i64> {
        self.job.int_at(&["spec", name])
    }

    fn is_indexed(&self) -> bool {
        self.job.str_at(&["spec", "completionMode"]) == Some("Indexed")
    }

    fn uncounted(&self, list: &str) -> &'o [Value] {
        self.job.list_at(&["status", "uncountedTerminatedPods", list]).unwrap_or_default()
    }

    fn wrong(&self, field: &str, why: &str, errors: &mut Errors) {
        errors.invalid_whole(&self.at.child(field), why);
    }
}

/// Checks a changed status.
pub(super) fn check(new: &Object, old: &Object, errors: &mut Errors) {
    let (new, old) = (Job::of(new), Job::of(old));
    numbers(&new, errors);
    uncounted(&new, errors);
    ends(&new, &old, errors);
    indexes_of(&new, &old, errors);
    let finished = new.is_finished() != old.is_finished();
    let changed = |field: &str| new.field(field) != old.field(field);
    if let Some(number) = new.number("terminating").filter(|number| *number > 0)
        && new.is_finished()
        && (finished || changed("terminating"))
    {
        let why = "terminating>0 is invalid for finished job";
        errors.invalid(&new.at.child("terminating"), number, why);
    }
    if let Some(number) = new.number("ready").filter(|ready| *ready > new.count("active"))
        && (changed("ready") || new.count("active") != old.count("active"))
    {
        errors.invalid(&new.at.child("ready"), number, "cannot set more ready pods than active");
    }
    success(&new, errors);
    keeps(&new, &old, errors);
}

fn numbers(new: &Job<'_>, errors: &mut Errors) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        if let Some(number) = new.number(field).filter(|number| *number < 0) {
            errors.invalid(&new.at.child(field), number, NOT_NEGATIVE);
        }
    }
}

fn uncounted(new: &Job<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    let at = new.at.child("uncountedTerminatedPods");
    for list in ["succeeded", "failed"] {
        for (index, uid) in new.uncounted(list).iter().enumerate() {
            let (at, uid) = (at.child(list).index(index), uid.as_str().unwrap_or_default());
            if uid.is_empty() {
                errors.invalid(&at, uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&at, uid);
            }
        }
    }
}

fn time(value: &Value) -> Json {
    match value {
        Value::Time(time) => Json(format!("\"{time}\"")),
        other => Json(other.as_str().map_or_else(String::new, |text| format!("{text:?}"))),
    }
}

/// What goes together with the end of a job.
fn ends(new: &Job<'_>, old: &Job<'_>, errors: &mut Errors) {
    let turned = |condition: &str| new.is(condition) != old.is(condition);
    let changed = |field: &str| new.field(field) != old.field(field);
    let (completes, fails) = (turned("Complete"), turned("Failed"));
    let finishes = new.is_finished() != old.is_finished();
    if (completes || fails) && new.is("Complete") && new.is("Failed") {
        new.wrong("conditions", "cannot set Complete=True and Failed=true conditions", errors);
    }
    if (completes || turned("FailureTarget")) && new.is("Complete") && new.is("FailureTarget") {
        new.wrong("conditions", "cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    let (started, completed) = (new.field("startTime"), new.field("completionTime"));
    let completed_at = new.at.child("completionTime");
    if completes || changed("completionTime") {
        match completed {
            Some(given) if !new.is("Complete") => {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.invalid(&completed_at, time(given), why);
            }
            None if new.is("Complete") => {
                errors.required(&completed_at, "completionTime is required for Complete jobs");
            }
            _ => {}
        }
    }
    if let (Some(Value::Time(from)), Some(given @ Value::Time(to))) = (started, completed)
        && (changed("startTime") || changed("completionTime"))
        && to < from
    {
        errors.invalid(&completed_at, time(given), "must be equal to or after `startTime`");
    }
    if (fails || changed("failedIndexes")) && new.is("Failed") && !new.is("FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        new.wrong("conditions", why, errors);
    }
    if (completes || turned("SuccessCriteriaMet")) && new.is("Complete") && !new.is("SuccessCriteriaMet") {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        new.wrong("conditions", why, errors);
    }
    if !new.is_finished() {
        return;
    }
    if new.count("active") > 0 && (finishes || new.count("active") != old.count("active")) {
        let why = "active>0 is invalid for finished job";
        errors.invalid(&new.at.child("active"), new.count("active"), why);
    }
    let nothing_to_do =
        new.job.bool_at(&["spec", "suspend"]) == Some(true) && new.of_spec("completions") == Some(0);
    if started.is_none() && (finishes || changed("startTime")) && !nothing_to_do {
        errors.required(&new.at.child("startTime"), "startTime is required for finished job");
    }
    let some = ["succeeded", "failed"].iter().any(|list| !new.uncounted(list).is_empty());
    if some && (finishes || changed("uncountedTerminatedPods")) {
        let given = new.job.struct_at(&["status", "uncountedTerminatedPods"]);
        let given = Json(given.map(shown::internal).unwrap_or_default());
        let at = new.at.child("uncountedTerminatedPods");
        errors.invalid(&at, given, "must be empty for finished job");
    }
}

fn indexes_of(new: &Job<'_>, old: &Job<'_>, errors: &mut Errors) {
    let text = |job: &Job<'_>, field: &str| job.text(field).map(str::to_owned);
    let completed = new.text("completedIndexes").unwrap_or_default();
    let completed_changed = completed != old.text("completedIndexes").unwrap_or_default();
    let failed = new.text("failedIndexes");
    let failed_changed = text(new, "failedIndexes") != text(old, "failedIndexes");
    let (completed_at, failed_at) = (new.at.child("completedIndexes"), new.at.child("failedIndexes"));
    let completions = new.of_spec("completions");
    let has_limit = new.of_spec("backoffLimitPerIndex").is_some();
    if let (true, Some(completions)) = (completed_changed, completions)
        && let Err(why) = count_indexes(completed, completions)
    {
        errors.invalid(&completed_at, completed, format!("error parsing completedIndexes: {why}"));
    }
    if let (true, true, Some(completions), Some(failed)) = (failed_changed, has_limit, completions, failed)
        && let Err(why) = count_indexes(failed, completions)
    {
        errors.invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}"));
    }
    if completed_changed && !completed.is_empty() && !new.is_indexed() {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&completed_at, completed, why);
    }
    if let (true, false, Some(failed)) = (failed_changed, has_limit, failed) {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&failed_at, failed, why);
    }
    if let (true, Some(completions), Some(failed)) =
        (failed_changed || completed_changed, completions, failed)
        && let Some(both) = overlap(completed, failed, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {both}");
        errors.invalid(&failed_at, failed, why);
    }
}

/// The first index that is in both lists, if both can be read.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let (completed, failed) = (indexes(completed, completions).ok()?, indexes(failed, completions).ok()?);
    let both = |(from, to): &(i64, i64)| {
        completed.iter().find(|(start, end)| start <= to && from <= end).map(|(start, _)| *start.max(from))
    };
    failed.iter().find_map(both)
}

fn success(new: &Job<'_>, errors: &mut Errors) {
    let met = new.is("SuccessCriteriaMet");
    if met && new.is("Failed") {
        new.wrong("conditions", "cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if met && new.is("FailureTarget") {
        let why = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        new.wrong("conditions", why, errors);
    }
    if new.job.at(&["spec", "successPolicy"]).is_some() && !met && new.is("Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        new.wrong("conditions", why, errors);
    }
}

/// What was said stays said.
fn keeps(new: &Job<'_>, old: &Job<'_>, errors: &mut Errors) {
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if old.is(condition) && !new.is(condition) {
            let why = format!("cannot disable the terminal {condition}=True condition");
            new.wrong("conditions", &why, errors);
        }
    }
    // An indexed job whose pods all run at once may be scaled down.
    let scales = new.is_indexed() && new.of_spec("completions") == new.of_spec("parallelism");
    for (field, counts) in [("failed", true), ("succeeded", !scales)] {
        if counts && new.count(field) < old.count(field) {
            let why = format!("cannot decrease the {field} counter");
            errors.invalid(&new.at.child(field), new.count(field), why);
        }
    }
    if let (Some(given), Some(had)) = (new.field("completionTime"), old.field("completionTime"))
        && given != had
    {
        errors.invalid(&new.at.child("completionTime"), time(given), "field is immutable");
    }
    let resumes = old.is("Suspended") && new.says("Suspended", "False");
    let suspended = new.job.bool_at(&["spec", "suspend"]) == Some(true);
    let (given, had) = (new.field("startTime"), old.field("startTime"));
    if had.is_some() && given != had && !resumes && !suspended {
        let shown = given.map_or_else(|| Json("null".to_owned()), time);
        let why = "field is immutable for unsuspended job once set";
        errors.invalid(&new.at.child("startTime"), shown, why);
    }
    let (met, had_met) = (new.is("SuccessCriteriaMet"), old.is("SuccessCriteriaMet"));
    if had_met && !met {
        new.wrong("conditions", "cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if old.is("Complete") && !had_met && met {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        new.wrong("conditions", why, errors);
    }
}
