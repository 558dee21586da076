//! Events, in the core group and in their own.

use schema::{Object, Value};

use crate::content;
use crate::edit;
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{int, sub, text};
use crate::pod::validate::shown;
use crate::rules::{Cell, Column, GENERIC, Part, Rules};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

/// The rules of `Event` in the core group.
pub(crate) const CORE: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate: |event, errors| legacy(event, &CORE_FIELDS, errors),
    name: crate::meta::NameRule::PathSegment,
    looks: crate::meta::Looks::NONE,
    columns: &[
        column("Last Seen", "string", 0),
        column("Type", "string", 0),
        column("Reason", "string", 0),
        column("Object", "string", 0),
        column("Subobject", "string", 1),
        column("Source", "string", 1),
        column("Message", "string", 0),
        column("First Seen", "string", 1),
        column("Count", "string", 1),
        Column { name: "Name", ty: "string", format: "name", priority: 1 },
    ],
    cells: event_cells,
    selectable: &SELECTABLE,
    ..GENERIC
};

fn event_cells(event: &Object, now: i64) -> Vec<Cell> {
    let since = |fields: &[&[&str]]| {
        let time = fields.iter().find_map(|path| event.at(path).and_then(Value::as_time));
        Cell::Text(time.map_or("<unknown>".to_owned(), |time| crate::meta::duration(now - time.as_second())))
    };
    let text = |path: &[&str]| edit::get(event, path).to_owned();
    let mut object = text(&["involvedObject", "kind"]).to_lowercase();
    if !edit::get(event, &["involvedObject", "name"]).is_empty() {
        object = format!("{object}/{}", edit::get(event, &["involvedObject", "name"]));
    }
    let source = source(
        [edit::get(event, &["source", "component"]), edit::get(event, &["reportingComponent"])],
        [edit::get(event, &["source", "host"]), edit::get(event, &["reportingInstance"])],
    );
    vec![
        since(&[&["series", "lastObservedTime"], &["lastTimestamp"], &["eventTime"]]),
        Cell::Text(text(&["type"])),
        Cell::Text(text(&["reason"])),
        Cell::Text(object),
        Cell::Text(text(&["involvedObject", "fieldPath"])),
        Cell::Text(source),
        Cell::Text(text(&["message"]).trim().to_owned()),
        since(&[&["firstTimestamp"], &["eventTime"]]),
        count(event, "count"),
        Cell::Text(event.name().to_owned()),
    ]
}

/// Who tells of something and where; of each the first that is said.
fn source(component: [&str; 2], instance: [&str; 2]) -> String {
    let first =
        |texts: [&str; 2]| texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned();
    match (first(component), first(instance)) {
        (component, instance) if instance.is_empty() => component,
        (component, instance) => format!("{component}, {instance}"),
    }
}

/// How often it was seen: a series counts, and what does not count was seen once.
fn count(event: &Object, field: &str) -> Cell {
    let counted = match event.struct_at(&["series"]) {
        Some(_) => event.int_at(&["series", "count"]).unwrap_or_default(),
        None => event.int_at(&[field]).filter(|count| *count != 0).unwrap_or(1),
    };
    Cell::Int(counted)
}

type Selectable = (&'static str, fn(&Object) -> String);

/// What events are selected by, read off how they are stored.
const SELECTABLE: [Selectable; 11] = [
    ("involvedObject.kind", |event| of_object(event, "kind")),
    ("involvedObject.namespace", |event| of_object(event, "namespace")),
    ("involvedObject.name", |event| of_object(event, "name")),
    ("involvedObject.uid", |event| of_object(event, "uid")),
    ("involvedObject.apiVersion", |event| of_object(event, "apiVersion")),
    ("involvedObject.resourceVersion", |event| of_object(event, "resourceVersion")),
    ("involvedObject.fieldPath", |event| of_object(event, "fieldPath")),
    ("reason", |event| edit::get(event, &["reason"]).to_owned()),
    ("reportingComponent", |event| edit::get(event, &["reportingComponent"]).to_owned()),
    ("source", |event| match edit::get(event, &["source", "component"]) {
        "" => edit::get(event, &["reportingComponent"]).to_owned(),
        source => source.to_owned(),
    }),
    ("type", |event| edit::get(event, &["type"]).to_owned()),
];

/// The same under the names of the newer group, in the same order: both lie in one cache. It has no name for the source.
const SELECTABLE_OWN: [Selectable; 11] = [
    ("regarding.kind", SELECTABLE[0].1),
    ("regarding.namespace", SELECTABLE[1].1),
    ("regarding.name", SELECTABLE[2].1),
    ("regarding.uid", SELECTABLE[3].1),
    ("regarding.apiVersion", SELECTABLE[4].1),
    ("regarding.resourceVersion", SELECTABLE[5].1),
    ("regarding.fieldPath", SELECTABLE[6].1),
    ("reason", SELECTABLE[7].1),
    ("reportingController", SELECTABLE[8].1),
    ("", SELECTABLE[9].1),
    ("type", SELECTABLE[10].1),
];

fn of_object(event: &Object, field: &str) -> String {
    edit::get(event, &["involvedObject", field]).to_owned()
}

/// What the two groups call the same.
struct Names {
    object: &'static str,
    controller: &'static str,
    message: &'static str,
}

const CORE_FIELDS: Names =
    Names { object: "involvedObject", controller: "reportingComponent", message: "message" };
const OWN_FIELDS: Names = Names { object: "regarding", controller: "reportingController", message: "note" };

/// The rules of `Event` in `events.k8s.io`, which are stricter.
pub(crate) const OWN: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate_create: |event, errors| {
        legacy(event, &OWN_FIELDS, errors);
        strict(event, errors);
    },
    validate_update: |new, old, part, errors| {
        legacy(new, &OWN_FIELDS, errors);
        unchanged(new, old, part, errors);
    },
    columns: CORE.columns,
    cells: |event, now| {
        let text = |path: &[&str]| edit::get(event, path).to_owned();
        let since = |fields: &[&[&str]]| {
            let time = fields.iter().find_map(|path| event.at(path).and_then(Value::as_time));
            let ago = time.map(|time| crate::meta::duration(now - time.as_second()));
            Cell::Text(ago.unwrap_or_else(|| "<unknown>".to_owned()))
        };
        let mut object = text(&["regarding", "kind"]).to_lowercase();
        if !text(&["regarding", "name"]).is_empty() {
            object = format!("{object}/{}", text(&["regarding", "name"]));
        }
        let source = source(
            [
                edit::get(event, &["deprecatedSource", "component"]),
                edit::get(event, &["reportingController"]),
            ],
            [edit::get(event, &["deprecatedSource", "host"]), edit::get(event, &["reportingInstance"])],
        );
        vec![
            since(&[&["series", "lastObservedTime"], &["deprecatedLastTimestamp"], &["eventTime"]]),
            Cell::Text(text(&["type"])),
            Cell::Text(text(&["reason"])),
            Cell::Text(object),
            Cell::Text(text(&["regarding", "fieldPath"])),
            Cell::Text(source),
            Cell::Text(text(&["note"]).trim().to_owned()),
            since(&[&["deprecatedFirstTimestamp"], &["eventTime"]]),
            count(event, "deprecatedCount"),
            Cell::Text(event.name().to_owned()),
        ]
    },
    selectable: &SELECTABLE_OWN,
    ..GENERIC
};

/// What holds for events of any age (`legacyValidateEvent`).
fn legacy(event: &Object, names: &Names, errors: &mut Errors) {
    let of = event.str_at(&[names.object, "namespace"]).unwrap_or_default();
    let at = At::new("involvedObject.namespace");
    let mine = event.namespace();
    if event.get("eventTime").is_none() {
        let fits = if of.is_empty() { matches!(mine, "" | "default") } else { mine == of };
        if !fits {
            errors.invalid(&at, of, "does not match event.namespace");
        }
        return;
    }
    if of.is_empty() && !matches!(mine, "default" | "kube-system") {
        errors.invalid(&at, of, "does not match event.namespace");
    }
    let controller = text(event, names.controller);
    let controller_at = At::new(names.controller);
    if controller.is_empty() {
        errors.required(&controller_at, "");
    }
    errors.each(&controller_at, controller, content::qualified_name(controller));
    for (field, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        let value = text(event, field);
        if value.is_empty() {
            errors.required(&At::new(field), "");
        }
        if value.len() > most {
            errors.invalid(&At::new(field), "", format!("can have at most {most} characters"));
        }
    }
    if text(event, names.message).len() > 1024 {
        errors.invalid(&At::new("message"), "", "can have at most 1024 characters");
    }
}

fn series(event: &Object, errors: &mut Errors) {
    let Some(series) = sub(event, "series") else { return };
    if int(series, "count").unwrap_or_default() < 2 {
        errors.invalid(&At::new("series.count"), "", "should be at least 2");
    }
    if series.get("lastObservedTime").is_none() {
        errors.required(&At::new("series.lastObservedTime"), "");
    }
}

fn strict(event: &Object, errors: &mut Errors) {
    series(event, errors);
    if event.get("eventTime").is_none() {
        errors.required(&At::new("eventTime"), "");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&At::new("type"), "", format!("has invalid value: {kind}"));
    }
    for (field, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if event.get(field).is_some() {
            errors.invalid(&At::new(shown), "", "needs to be unset");
        }
    }
}

/// Nothing of an event changes but its series.
fn unchanged(new: &Object, old: &Object, _: Part, errors: &mut Errors) {
    if new.get("series") != old.get("series") {
        series(new, errors);
    }
    for (field, shown) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if new.get(field) == old.get(field) {
            continue;
        }
        let value = match new.get(field) {
            Some(Value::Str(text)) => format!("{text:?}"),
            Some(Value::Int(number)) => number.to_string(),
            Some(Value::Struct(inner)) => shown::internal(inner),
            Some(Value::Time(time)) => format!("\"{time}\""),
            None if matches!(field, "reason" | "note" | "type" | "action")
                || field.starts_with("reporting") =>
            {
                "\"\"".to_owned()
            }
            None if field == "deprecatedCount" => "0".to_owned(),
            None if field == "regarding" => {
                new.item_type(field).map(|ty| shown::internal(&Object::new(ty))).unwrap_or_default()
            }
            _ => "null".to_owned(),
        };
        errors.invalid(&At::new(shown), Json(value), "field is immutable");
    }
}
