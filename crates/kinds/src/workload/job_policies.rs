//! When a job fails or succeeds before all of its pods have (`pkg/apis/batch/validation`).

use std::collections::BTreeSet;

use schema::{Object, Value};

use super::validate::NOT_NEGATIVE;
use crate::content;
use crate::edit;
use crate::field::{Errors, Json, Path};
use crate::pod::validate::shown;

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const MOST_CONDITIONS: usize = 20;
const LONGEST_INDEXES: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Names as Go quotes a list of them.
fn valid(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// Checks the pod failure policy, if there is one.
pub(super) fn failure(spec: &Object, path: &Path, errors: &mut Errors) {
    let Some(policy) = spec.struct_at(&["podFailurePolicy"]) else { return };
    let at = path.child("podFailurePolicy").child("rules");
    let rules: Vec<&Object> = edit::structs(policy, &["rules"]).collect();
    if rules.len() > MOST_RULES {
        errors.too_many(&at, rules.len(), MOST_RULES);
    }
    let lists = ["containers", "initContainers"].map(|list| ["template", "spec", list]);
    let names: BTreeSet<&str> = lists
        .iter()
        .flat_map(|path| edit::structs(spec, path))
        .map(|container| edit::get(container, &["name"]))
        .collect();
    for (index, rule) in rules.into_iter().enumerate() {
        failure_rule(spec, rule, &at.index(index), &names, errors);
    }
}

fn failure_rule(spec: &Object, rule: &Object, at: &Path, names: &BTreeSet<&str>, errors: &mut Errors) {
    let action_at = at.child("action");
    match edit::get(rule, &["action"]) {
        "" => errors.required(&action_at, valid(&ACTIONS)),
        action @ "FailIndex" if spec.get("backoffLimitPerIndex").is_none() => {
            errors.invalid(&action_at, action, "requires the backoffLimitPerIndex to be set");
        }
        action if !ACTIONS.contains(&action) => errors.not_supported_in_order(&action_at, action, &ACTIONS),
        _ => {}
    }
    let codes = rule.struct_at(&["onExitCodes"]);
    if let Some(codes) = codes {
        exit_codes(codes, &at.child("onExitCodes"), names, errors);
    }
    let conditions: Vec<&Object> = edit::structs(rule, &["onPodConditions"]).collect();
    if !conditions.is_empty() {
        pod_conditions(&conditions, &at.child("onPodConditions"), errors);
    }
    match (codes, conditions.is_empty()) {
        (Some(_), false) => {
            errors.invalid_whole(at, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (None, true) => {
            errors.invalid_whole(at, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn pod_conditions(patterns: &[&Object], at: &Path, errors: &mut Errors) {
    if patterns.len() > MOST_CONDITIONS {
        errors.too_many(at, patterns.len(), MOST_CONDITIONS);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let at = at.index(index);
        let kind = edit::get(pattern, &["type"]);
        errors.each(&at.child("type"), kind, content::qualified_name(kind));
        let status_at = at.child("status");
        match edit::get(pattern, &["status"]) {
            "" => errors.required(&status_at, valid(&STATUSES)),
            status if !STATUSES.contains(&status) => {
                errors.not_supported_in_order(&status_at, status, &STATUSES);
            }
            _ => {}
        }
    }
}

fn exit_codes(codes: &Object, at: &Path, names: &BTreeSet<&str>, errors: &mut Errors) {
    let operator_at = at.child("operator");
    let operator = edit::get(codes, &["operator"]);
    if operator.is_empty() {
        errors.required(&operator_at, valid(&OPERATORS));
    } else if !OPERATORS.contains(&operator) {
        errors.not_supported_in_order(&operator_at, operator, &OPERATORS);
    }
    if let Some(name) = codes.str_at(&["containerName"]).filter(|name| !names.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.child("containerName"), name, why);
    }
    let values_at = at.child("values");
    let list = codes.list_at(&["values"]).unwrap_or_default();
    let values: Vec<i64> = list.iter().filter_map(Value::as_int).collect();
    let all = || {
        let shown: Vec<String> = values.iter().map(i64::to_string).collect();
        Json(if list.is_empty() && codes.get("values").is_none() {
            "null".to_owned()
        } else {
            format!("[{}]", shown.join(","))
        })
    };
    if values.is_empty() {
        errors.invalid(&values_at, all(), "at least one value is required");
    } else if values.len() > MOST_CODES {
        errors.too_many(&values_at, values.len(), MOST_CODES);
    }
    let mut seen = BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        let at = values_at.index(index);
        if operator == "In" && *value == 0 {
            errors.invalid(&at, *value, "must not be 0 for the In operator");
        }
        if !seen.insert(*value) {
            errors.duplicate(&at, *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&values_at, all(), "must be ordered");
    }
}

/// Checks the success policy, if there is one.
pub(super) fn success(spec: &Object, path: &Path, errors: &mut Errors) {
    let Some(policy) = spec.struct_at(&["successPolicy"]) else { return };
    let at = path.child("successPolicy");
    if spec.str_at(&["completionMode"]) != Some("Indexed") {
        errors.invalid(&at, Json(shown::internal(policy)), "requires indexed completion mode");
        return;
    }
    let at = at.child("rules");
    let rules: Vec<&Object> = edit::structs(policy, &["rules"]).collect();
    if rules.is_empty() {
        errors.required(&at, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MOST_RULES {
        errors.too_many(&at, rules.len(), MOST_RULES);
    }
    // Without completions the job is refused anyhow; upstream does not get as far.
    let completions = spec.int_at(&["completions"]).unwrap_or_default();
    for (index, rule) in rules.into_iter().enumerate() {
        success_rule(rule, completions, &at.index(index), errors);
    }
}

fn success_rule(rule: &Object, completions: i64, at: &Path, errors: &mut Errors) {
    let (count, indexes) = (rule.int_at(&["succeededCount"]), rule.str_at(&["succeededIndexes"]));
    if count.is_none() && indexes.is_none() {
        errors.required(at, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let at = at.child("succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            errors.too_long(&at, LONGEST_INDEXES);
        }
        match count_indexes(indexes, completions) {
            Ok(number) => total = number,
            Err(why) => errors.invalid(&at, indexes, format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = count else { return };
    let at = at.child("succeededCount");
    if count < 0 {
        errors.invalid(&at, count, NOT_NEGATIVE);
    }
    if count > completions {
        let why =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&at, count, why);
    }
    if indexes.is_some() && count > total {
        let of = "the number of indexes in the specified succeededIndexes field";
        errors.invalid(&at, count, format!("must be less than or equal to {total} ({of})"));
    }
}

/// How many indexes `1,3-4` are.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    Ok(indexes(text, completions)?.iter().map(|(from, to)| to - from + 1).sum())
}

/// The intervals of `1,3-4`, the first and the last of each.
pub(super) fn indexes(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut intervals: Vec<(i64, i64)> = Vec::new();
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval_of(interval, completions)?;
        if let Some((_, last)) = intervals.last().filter(|(_, last)| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        intervals.push((from, to));
    }
    Ok(intervals)
}

fn interval_of(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| {
        let number =
            super::atoi(text).map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [one] => index(one).map(|one| (one, one)),
        [from, to] => {
            let (from, to) = (index(from)?, index(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::count_indexes;

    #[test]
    fn indexes_are_counted_in_order() {
        assert_eq!(count_indexes("0,2-4,6", 7), Ok(5));
        assert_eq!(count_indexes("", 7), Ok(0));
        for (text, told) in [
            ("7", "too large index: \"7\""),
            ("1-x", "cannot convert string to integer for index: \"x\""),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
        ] {
            assert_eq!(count_indexes(text, 7), Err(told.to_owned()));
        }
        assert!(count_indexes("1-2-3", 7).unwrap_err().contains("at most two parts"));
    }
}
