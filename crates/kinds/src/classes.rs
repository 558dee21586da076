//! Classes that pods name: of priority, and of how they are run.

use std::collections::BTreeSet;

use schema::Object;

use crate::content;
use crate::edit;
use crate::field::{At, Errors, Json};
use crate::meta::{self, NameRule, age};
use crate::pod::validate::read::{has, int, is_true, items, maybe, sub, text};
use crate::pod::validate::{resources, scheduling, selector, shown};
use crate::rules::{Cell, Column, GENERIC, Rules};

const fn column(name: &'static str, priority: i32) -> Column {
    Column { name, ty: "string", format: "", priority }
}

/// The highest value that a user may give: a billion.
const HIGHEST: i64 = 1_000_000_000;

/// The classes that the system itself has.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2 * HIGHEST + 1000), ("system-cluster-critical", 2 * HIGHEST)];

/// The rules of `PriorityClass`.
pub(crate) const PRIORITY: Rules = Rules {
    defaults: |class| edit::unsaid(class, "preemptionPolicy", "PreemptLowerPriority"),
    prepare_create: |class| class.set_generation(1),
    prepare_update: |_, _, _| {},
    validate_create: validate_priority,
    validate_update: |new, old, _, errors| {
        if int(new, "value") != int(old, "value") {
            errors.forbidden(&At::new("value"), "may not be changed in an update.");
        }
        if new.get("preemptionPolicy") != old.get("preemptionPolicy") {
            let policy = text(new, "preemptionPolicy");
            errors.invalid(&At::new("preemptionPolicy"), policy, "field is immutable");
        }
    },
    ..GENERIC
};

fn validate_priority(class: &Object, errors: &mut Errors) {
    let (name, value) = (class.name(), int(class, "value").unwrap_or_default());
    if name.starts_with("system-") {
        let known = SYSTEM.iter().find(|(known, _)| *known == name);
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, wanted)) if *wanted != value => {
                Some(format!("value of {name} PriorityClass must be {wanted}"))
            }
            Some(_) if is_true(class, "globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.forbidden(&At::new("metadata.name"), why);
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.forbidden(&At::new("value"), why);
    }
    let at = At::new("preemptionPolicy");
    match maybe(class, "preemptionPolicy") {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.required(&at, ""),
        Some(other) => errors.not_supported_in_order(&at, other, &["PreemptLowerPriority", "Never"]),
    }
}

/// The rules of `RuntimeClass`.
pub(crate) const RUNTIME: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate_create: validate_runtime,
    validate_update: |new, old, _, errors| {
        meta::validate(new, NameRule::Subdomain, false, errors);
        validate_runtime(new, errors);
        if new.get("handler") != old.get("handler") {
            errors.invalid(&At::new("handler"), Json("null".to_owned()), "field is immutable");
        }
    },
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        column("Handler", 0),
        column("Age", 0),
    ],
    cells: |class, now| {
        vec![
            Cell::Text(class.name().to_owned()),
            Cell::Text(text(class, "handler").to_owned()),
            Cell::Text(age(class, now)),
        ]
    },
    ..GENERIC
};

fn validate_runtime(class: &Object, errors: &mut Errors) {
    match text(class, "handler") {
        "" => errors.required(&At::new("handler"), ""),
        handler => {
            let why = content::label(handler).into_iter();
            let why = why.map(|why| why.replace("no more than 63 characters", "no more than 63 bytes"));
            errors.each(&At::new("handler"), handler, why);
        }
    }
    if let Some(overhead) = sub(class, "overhead") {
        resources::overhead_of(overhead, "podFixed", &At::new("overhead"), errors);
    }
    let Some(placement) = sub(class, "scheduling") else { return };
    let at = At::new("scheduling");
    if has(placement, "nodeSelector") {
        selector::labels(placement, "nodeSelector", &at.child("nodeSelector"), errors);
    }
    let at = at.child("tolerations");
    scheduling::tolerations(placement, &at, errors);
    let mut seen = BTreeSet::new();
    for (index, toleration) in items(placement, "tolerations").enumerate() {
        let key = ["key", "operator", "value", "effect"].map(|field| text(toleration, field));
        if !seen.insert(key) {
            errors.duplicate(&at.index(index), Json(shown::internal(toleration)));
        }
    }
}
