//! `LimitRange`: what pods and claims of a namespace get by default, and at least and at most.

use std::collections::{BTreeMap, BTreeSet};

use schema::quantity::{Format, Quantity};
use schema::{Object, Value};

use crate::content;
use crate::edit;
use crate::field::{At, Errors};
use crate::pod::validate::read::{amounts, entries, has, items, sub, text};
use crate::pod::validate::resources;
use crate::rules::{GENERIC, Rules};

/// The rules of `LimitRange`.
pub(crate) const RULES: Rules =
    Rules { defaults, prepare_create: name, prepare_update: |_, _, _| {}, validate, ..GENERIC };

/// One without a name has one that nobody else has.
fn name(range: &mut Object) {
    if range.name().is_empty() {
        let uid = range.uid().to_owned();
        range.set_name(&uid);
    }
}

/// Containers get at most what they may have, and ask for what they get.
fn defaults(range: &mut Object) {
    edit::within(range, "spec", |spec| {
        edit::each(spec, "limits", |limit| {
            if text(limit, "type") == "Container" {
                for (from, to) in
                    [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
                {
                    complete(limit, from, to);
                }
            }
        });
    });
}

/// Adds to one list of amounts those of another that it does not have.
fn complete(limit: &mut Object, from: &str, to: &str) {
    let missing: Vec<(String, String)> = entries(limit, from)
        .filter(|(name, _)| !entries(limit, to).any(|(had, _)| had == *name))
        .map(|(name, amount)| (name.to_owned(), amount.to_owned()))
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Some(amounts) = limit.map_mut(to) {
        for (name, amount) in missing {
            amounts.insert(name, Value::from(amount));
        }
    }
}

fn validate(range: &Object, errors: &mut Errors) {
    let Some(spec) = sub(range, "spec") else { return };
    let all = At::new("spec.limits");
    let mut seen = BTreeSet::new();
    for (index, limit) in items(spec, "limits").enumerate() {
        let at = all.index(index);
        let (of, at_type) = (text(limit, "type"), at.child("type"));
        kind(of, &at_type, errors);
        if !seen.insert(of) {
            errors.duplicate(&at_type, of);
        }
        names(limit, of, &at, errors);
        if of == "PersistentVolumeClaim" && !["min", "max"].iter().any(|field| storage(limit, field)) {
            errors.required(
                &at.child("limits"),
                "either minimum or maximum storage value is required, but neither was provided",
            );
        }
        let amounts = Bounds::of(limit, of);
        for name in amounts.names() {
            amounts.check(name, &at, errors);
        }
    }
}

fn kind(of: &str, at: &At<'_>, errors: &mut Errors) {
    let problems = content::qualified_name(of);
    if problems.is_empty() {
        if !of.contains('/') && !matches!(of, "Pod" | "Container" | "PersistentVolumeClaim") {
            errors.invalid(at, of, "must be a standard limit type or fully qualified");
        }
    } else {
        errors.each(at, of, problems);
    }
}

fn storage(limit: &Object, field: &str) -> bool {
    entries(limit, field).any(|(name, _)| name == "storage")
}

/// The names of resources; a pod as a whole has no defaults.
fn names(limit: &Object, of: &str, at: &At<'_>, errors: &mut Errors) {
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at = at.child(field);
        if of == "Pod" && field.starts_with("default") {
            if has(limit, field) {
                errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in entries(limit, field) {
            let at = at.key(name);
            if matches!(of, "Pod" | "Container") {
                resources::container_name(name, &at, errors);
            } else {
                resources::standard_or_qualified(name, &at, errors);
            }
        }
    }
}

type Amounts<'o> = BTreeMap<&'o str, Quantity>;

/// What one limit says about each resource.
struct Bounds<'o> {
    min: Amounts<'o>,
    max: Amounts<'o>,
    limit: Amounts<'o>,
    request: Amounts<'o>,
    ratio: Amounts<'o>,
}

impl<'o> Bounds<'o> {
    fn of(limit: &'o Object, of: &str) -> Self {
        let read = |field: &str| amounts(limit, field).collect::<Amounts<'o>>();
        let unless_pod = |field: &str| if of == "Pod" { Amounts::new() } else { read(field) };
        Self {
            min: read("min"),
            max: read("max"),
            limit: unless_pod("default"),
            request: unless_pod("defaultRequest"),
            ratio: read("maxLimitRequestRatio"),
        }
    }

    fn names(&self) -> BTreeSet<&'o str> {
        let lists = [&self.min, &self.max, &self.limit, &self.request, &self.ratio];
        lists.into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    fn check(&self, name: &str, at: &At<'_>, errors: &mut Errors) {
        let of = |amounts: &'_ Amounts<'o>| amounts.get(name).cloned();
        let (min, max) = (("min", of(&self.min)), ("max", of(&self.max)));
        let (limit, request) = (of(&self.limit), of(&self.request));
        let as_limit = ("default limit", limit.clone());
        let as_default = ("default", limit.clone());
        let as_request = ("default request", request.clone());
        // Which must not be greater than which, and the field and the value that are blamed.
        for (field, blamed, low, high) in [
            ("min", &min, &min, &max),
            ("defaultRequest", &as_request, &min, &as_request),
            ("defaultRequest", &as_request, &as_request, &max),
            ("defaultRequest", &as_request, &as_request, &as_limit),
            ("default", &min, &min, &as_default),
            ("default", &max, &as_default, &max),
        ] {
            let ((low_name, Some(low)), (high_name, Some(high)), (_, Some(blamed))) = (low, high, blamed)
            else {
                continue;
            };
            if low > high {
                let why = format!("{low_name} value {low} is greater than {high_name} value {high}");
                errors.invalid(&at.child(field).key(name), &blamed.to_string(), why);
            }
        }
        if let Some(ratio) = self.ratio.get(name) {
            let bounds = self.min.get(name).zip(self.max.get(name));
            check_ratio(ratio, bounds, &at.child("maxLimitRequestRatio").key(name), errors);
        }
        if let (Some(limit), Some(request), false) = (limit, request, resources::may_overcommit(name)) {
            if limit != request {
                let why =
                    format!("default value {limit} must equal to defaultRequest value {request} in {name}");
                errors.invalid(&at.child("defaultRequest").key(name), &request.to_string(), why);
            }
        }
    }
}

fn check_ratio(ratio: &Quantity, bounds: Option<(&Quantity, &Quantity)>, at: &At<'_>, errors: &mut Errors) {
    let shown = ratio.to_string();
    if *ratio < Quantity::from_int(1, Format::DecimalSi) {
        errors.invalid(at, &shown, format!("ratio {ratio} is less than 1"));
    }
    if let Some((min, max)) = bounds {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            errors.invalid(at, &shown, format!("ratio {ratio} is greater than max/min = {most:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn containers_get_what_they_may_have() {
        let kind = schema::catalogue::builtin().kind("", "v1", "LimitRange").unwrap();
        let range = |limit: &str| {
            let json = format!("{{\"spec\":{{\"limits\":[{limit}]}}}}");
            schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
        };
        for (given, wanted) in [
            (
                r#"{"type":"Container","max":{"memory":"1Gi"},"min":{"cpu":"10m"}}"#,
                r#"{"type":"Container","max":{"memory":"1Gi"},"min":{"cpu":"10m"},"default":{"memory":"1Gi"},
                    "defaultRequest":{"memory":"1Gi","cpu":"10m"}}"#,
            ),
            (
                r#"{"type":"Container","default":{"cpu":"2"},"defaultRequest":{"cpu":"1"},"max":{"cpu":"3"}}"#,
                r#"{"type":"Container","default":{"cpu":"2"},"defaultRequest":{"cpu":"1"},"max":{"cpu":"3"}}"#,
            ),
            (r#"{"type":"Pod","max":{"cpu":"3"}}"#, r#"{"type":"Pod","max":{"cpu":"3"}}"#),
        ] {
            let mut made = range(given);
            super::defaults(&mut made);
            assert_eq!(made, range(wanted), "{given}");
        }
    }
}
