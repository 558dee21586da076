//! Every object of the lists beside this gets the verdict that a kube-apiserver v1.36.2 gave it, where v1.37 gives
//! the same one.
//!
//! A case is the object to create, in one line; then, if it is about a change, `->`, the subresource if it is by
//! one, and the changed object. `!` are its errors in their order, `~` its warnings, and `=` are fields that it then
//! has, as `path value`. Lines with `#` say what the cases are about.

use schema::{Object, Value};

use crate::field::Errors;
use crate::gates::Gates;
use crate::rules::{Part, Rules};

const LISTS: [(&str, &str); 8] = [
    ("around", include_str!("around.txt")),
    ("classes", include_str!("classes.txt")),
    ("events", include_str!("events.txt")),
    ("nodes", include_str!("nodes.txt")),
    ("others", include_str!("others.txt")),
    ("pods", include_str!("pods.txt")),
    ("resources", include_str!("resources.txt")),
    ("workloads", include_str!("workloads.txt")),
];

struct Verdict {
    object: Object,
    errors: Vec<String>,
    warnings: Vec<String>,
}

fn read(json: &str) -> (Object, Rules) {
    let meta = schema::json::peek_type_meta(json.as_bytes()).unwrap();
    let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
    let kind = schema::catalogue::builtin().kind(group, version, &meta.kind).unwrap();
    let mut object = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    let rules = crate::rules(group, &meta.kind);
    (rules.defaults)(&mut object);
    (object, rules)
}

fn create(json: &str) -> Verdict {
    let (mut object, rules) = read(json);
    (rules.gated)(&mut object, None, Part::Main, Gates::default());
    (rules.prepare_create)(&mut object);
    let mut errors = Errors::new();
    (rules.validate_create)(&object, &mut errors);
    (rules.validate)(&object, &mut errors);
    (rules.validate_last)(&object, None, Part::Main, &mut errors);
    let warnings = (rules.warnings)(&object, None, Part::Main);
    Verdict { object, errors: texts(&errors), warnings }
}

/// What is wrong with a new object.
pub fn judge(json: &str) -> Vec<String> {
    create(json).errors
}

fn change(old: &Object, part: Part, json: &str) -> Verdict {
    let (mut object, rules) = read(json);
    (rules.gated)(&mut object, Some(old), part, Gates::default());
    (rules.prepare_update)(&mut object, old, part);
    let mut errors = Errors::new();
    (rules.validate_update)(&object, old, part, &mut errors);
    if part != Part::Status {
        (rules.validate)(&object, &mut errors);
    }
    (rules.validate_last)(&object, Some(old), part, &mut errors);
    let warnings = (rules.warnings)(&object, Some(old), part);
    Verdict { object, errors: texts(&errors), warnings }
}

fn texts(errors: &Errors) -> Vec<String> {
    errors.0.iter().map(|error| error.to_string().replace('\n', "\\n")).collect()
}

fn part(name: &str) -> Part {
    match name {
        "" => Part::Main,
        "status" => Part::Status,
        "ephemeralcontainers" => Part::Other("ephemeralcontainers"),
        "resize" => Part::Other("resize"),
        other => panic!("no part {other}"),
    }
}

/// The field that a path with dots names, lists by number; `null` when it is not there.
fn field(object: &Object, path: &str) -> String {
    let mut steps = path.split('.');
    let mut at = steps.next().and_then(|step| object.get(step));
    for step in steps {
        at = at.and_then(|value| match step.parse::<usize>() {
            Ok(index) => value.as_list().and_then(|list| list.get(index)),
            Err(_) => value.child(step),
        });
    }
    match at {
        None => "null".to_owned(),
        Some(Value::Str(text)) => format!("{text:?}"),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(other) => panic!("{path} is {other:?}"),
    }
}

fn marked<'t>(lines: &[&'t str], mark: &str) -> Vec<&'t str> {
    lines.iter().filter_map(|line| line.strip_prefix(mark)).collect()
}

/// What of a case is not as it was recorded; `None` for what is no case.
fn check(case: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = case.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let object = lines.first()?;
    let mut wrong = Vec::new();
    let mut expect = |what: &str, found: &[String], wanted: &[&str]| {
        if found != wanted {
            wrong.push(format!("{case}\n{what}: {found:#?}"));
        }
    };
    let mut verdict = create(object);
    for changed in marked(&lines, "-> ") {
        expect("wrong before the change", &verdict.errors, &[]);
        let (name, json) = changed.split_at(changed.find('{').unwrap());
        verdict = change(&verdict.object, part(name.trim()), json);
    }
    expect("errors", &verdict.errors, &marked(&lines, "! "));
    if verdict.errors.is_empty() {
        expect("warnings", &verdict.warnings, &marked(&lines, "~ "));
    }
    for wanted in marked(&lines, "= ") {
        let (path, value) = wanted.split_once(' ').unwrap();
        expect(path, &[field(&verdict.object, path)], &[value]);
    }
    Some(wrong)
}

#[test]
fn objects_are_judged_as_upstream_judges_them() {
    let mut wrong = Vec::new();
    for (name, list) in LISTS {
        let judged: Vec<_> = list.split("\n\n").filter_map(check).collect();
        assert!(judged.len() > 3, "{name}: {}", judged.len());
        wrong.extend(judged.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
