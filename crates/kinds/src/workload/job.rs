//! `Job`: how it finds its pods.

use schema::labels::Selector;
use schema::{Map, Object};

use super::{job_spec, job_status, job_update, template, validate};
use crate::content;
use crate::edit::{self, made, number, text};
use crate::field::{At, Errors, Json, Path};
use crate::pod::template_defaults;
use crate::pod::validate::{selector, shown};
use crate::rules::{GENERIC, Part, Rules, generic_prepare_create};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const LEGACY_UID: &str = "controller-uid";
const LEGACY_NAME: &str = "job-name";

/// The rules of `Job`.
pub(crate) const RULES: Rules = Rules {
    defaults: |object| {
        made(object, "spec", spec_defaults);
        labels(object);
    },
    gated: template::gated,
    prepare_create: |object| {
        generic_prepare_create(object);
        if !is_manual(object) {
            generate_selector(object);
        }
    },
    validate_create: |job, errors| generated(job, true, errors),
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            // A job from before there were labels with a domain has none.
            let had = validate::template(old)
                .is_some_and(|template| [UID, NAME].iter().all(|key| template.label(key).is_some()));
            generated(new, had, errors);
        }
        if part == Part::Status {
            job_status::check(new, old, errors);
        }
    },
    validate: check,
    validate_last: |new, old, part, errors| {
        if let (Part::Main, Some(old)) = (part, old) {
            // Upstream looks at it once more, and now at what of its metadata may not change.
            crate::meta::validate_update(new, old, errors);
            crate::meta::standard_finalizers(new, errors);
            spec(new, errors);
            job_update::check(new, old, errors);
        }
    },
    looks: crate::meta::Looks { main: (1, 0), part: (0, 1) },
    selectable: &[("status.successful", |job| super::int(job, &["status", "succeeded"]).to_string())],
    ..GENERIC
};

fn spec_defaults(spec: &mut Object) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        number(spec, "completions", 1);
    }
    number(spec, "parallelism", 1);
    number(
        spec,
        "backoffLimit",
        if spec.get("backoffLimitPerIndex").is_some() { i64::from(i32::MAX) } else { 6 },
    );
    edit::unsaid(spec, "completionMode", "NonIndexed");
    edit::flag(spec, "suspend", false);
    edit::flag(spec, "manualSelector", false);
    let replaces = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    edit::unsaid(spec, "podReplacementPolicy", replaces);
    policy_defaults(spec);
    made(spec, "template", template_defaults);
}

/// A condition that a rule names without a status is one that is so.
pub(super) fn policy_defaults(spec: &mut Object) {
    edit::within(spec, "podFailurePolicy", |policy| {
        edit::each(policy, "rules", |rule| {
            edit::each(rule, "onPodConditions", |pattern| text(pattern, "status", "True"));
        });
    });
}

/// A job without labels has those of its template, with those that are generated for it.
fn labels(job: &mut Object) {
    let own = |object: &Object| object.labels().is_some_and(|labels| !labels.is_empty());
    if own(job) || !validate::template(job).is_some_and(own) {
        return;
    }
    super::labels_of_template(job);
    if !is_manual(job) {
        let (name, uid) = (job.name().to_owned(), job.uid().to_owned());
        if let Some(labels) = job.metadata_mut().map_mut("labels") {
            add_generated(labels, &name, &uid);
        }
    }
}

fn is_manual(job: &Object) -> bool {
    job.bool_at(&["spec", "manualSelector"]) == Some(true)
}

fn add_generated(labels: &mut Map, name: &str, uid: &str) {
    for (key, value) in [(LEGACY_NAME, name), (NAME, name), (LEGACY_UID, uid), (UID, uid)] {
        missing(labels, key, value);
    }
}

fn missing(labels: &mut Map, key: &str, value: &str) {
    if !labels.contains_key(key) {
        labels.insert(key, value.to_owned());
    }
}

/// Gives the pods labels that no other job's have, and selects by them.
fn generate_selector(job: &mut Object) {
    let (name, uid) = (job.name().to_owned(), job.uid().to_owned());
    edit::within(job, "spec", |spec| {
        made(spec, "template", |template| {
            made(template, "metadata", |metadata| {
                if let Some(labels) = metadata.map_mut("labels") {
                    add_generated(labels, &name, &uid);
                }
            });
        });
        made(spec, "selector", |selector| {
            if let Some(labels) = selector.map_mut("matchLabels") {
                missing(labels, UID, &uid);
            }
        });
    });
}

/// Checks all but what is generated and what may not change.
fn check(job: &Object, errors: &mut Errors) {
    spec(job, errors);
    // The controller appends a pod's index to its host name.
    let of_spec = |field: &str| job.int_at(&["spec", field]).filter(|number| *number > 0);
    let mode = job.str_at(&["spec", "completionMode"]);
    if let (Some("Indexed"), Some(number)) = (mode, of_spec("completions")) {
        let longest = format!("{}-{}", job.name(), number - 1);
        if !content::label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.invalid(&Path::new("metadata").child("name"), job.name(), why);
        }
    }
}

fn spec(job: &Object, errors: &mut Errors) {
    let Some(spec) = job.struct_at(&["spec"]) else { return };
    let path = Path::new("spec");
    job_spec::check(spec, &path, errors);
    let given = spec.struct_at(&["selector"]);
    let at = path.child("selector");
    match given {
        None => errors.required(&at, ""),
        Some(_) => selector::check(given, &At::from_path(&at), errors),
    }
    if let (Some(template), Ok(parsed)) = (validate::template(job), Selector::from_label_selector(given))
        && (given.is_none() || !parsed.matches(|key| template.label(key)))
    {
        validate::mismatch(template, errors);
    }
}

/// Whether the labels and the selector are those that were generated (`validateGeneratedSelector`).
fn generated(job: &Object, with_domain: bool, errors: &mut Errors) {
    let given = job.struct_at(&["spec", "selector"]);
    // That there has to be a selector is said elsewhere.
    if is_manual(job) || given.is_none() {
        return;
    }
    let Some(template) = validate::template(job) else { return };
    let labels = Path::new("spec").child("template").child("metadata").child("labels");
    let all = [(LEGACY_UID, job.uid()), (LEGACY_NAME, job.name()), (UID, job.uid()), (NAME, job.name())];
    let expected = all.get(..if with_domain { 4 } else { 2 }).unwrap_or_default();
    for &(key, value) in expected {
        match template.label(key) {
            None => errors.required(&labels.key(key), format!("must be '{value}'")),
            Some(given) if given != value => {
                let all = validate::shown_labels(template);
                errors.invalid(&labels.key(key), Json(all), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let of = |key: &str| expected.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    if Selector::from_label_selector(given).is_ok_and(|selector| !selector.matches(of)) {
        let shown = given.map(shown::json).unwrap_or_default();
        errors.invalid(&Path::new("spec").child("selector"), Json(shown), "`selector` not auto-generated");
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;

    use super::RULES;
    use crate::field::Errors;

    fn made(labels: &str, more: &str) -> (Object, Vec<String>) {
        let json = format!(
            r#"{{"apiVersion":"batch/v1","kind":"Job","metadata":{{"name":"j","uid":"u-1"}},"spec":{{{more}"template":{{"metadata":{{"labels":{{{labels}}}}},"spec":{{"restartPolicy":"Never","containers":[{{"name":"a","image":"x"}}]}}}}}}}}"#
        );
        let kind = schema::catalogue::builtin().kind("batch", "v1", "Job").unwrap();
        let mut job = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
        (RULES.defaults)(&mut job);
        (RULES.prepare_create)(&mut job);
        let mut errors = Errors::new();
        (RULES.validate_create)(&job, &mut errors);
        (job, errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn pods_are_found_by_labels_of_their_own() {
        let (job, errors) = made(r#""app":"x""#, "");
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((job.label("app"), job.label("job-name")), (Some("x"), Some("j")));
        let template = job.struct_at(&["spec", "template"]).unwrap();
        assert_eq!(template.label("batch.kubernetes.io/job-name"), Some("j"));
        assert_eq!(template.label("controller-uid"), Some("u-1"));
        let selected = job.map_at(&["spec", "selector", "matchLabels"]).unwrap();
        assert_eq!(selected.strings().collect::<Vec<_>>(), [("batch.kubernetes.io/controller-uid", "u-1")]);
    }

    #[test]
    fn what_contradicts_them_is_refused() {
        let (_, errors) = made(r#""job-name":"other""#, "");
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(error.starts_with("spec.template.metadata.labels[job-name]: Invalid value: {"), "{error}");
        assert!(error.ends_with(": must be 'j'"), "{error}");
        let (job, errors) =
            made(r#""a":"b""#, r#""manualSelector":true,"selector":{"matchLabels":{"a":"b"}},"#);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(job.struct_at(&["spec", "template"]).unwrap().label("job-name"), None);
    }
}
