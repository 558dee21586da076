//! `ReplicationController`, the replica set of Kubernetes' first days: its selector is a plain map.

use schema::Object;

use super::{int, status, validate};
use crate::edit;
use crate::field::{Errors, Path};
use crate::pod::template_defaults;
use crate::rules::{GENERIC, Part, Rules};

/// The rules of `ReplicationController`.
pub(crate) const RULES: Rules = Rules {
    defaults,
    gated: super::template::gated,
    validate: check,
    validate_update: |new, old, part, errors| {
        if part == Part::Status {
            status::check(new, old, &status::REPLICA_SET, errors);
        }
    },
    selectable: &[("status.replicas", |object| int(object, &["status", "replicas"]).to_string())],
    ..GENERIC
};

/// What it does not say of labels, its template says.
fn defaults(object: &mut Object) {
    edit::made(object, "spec", |spec| {
        edit::number(spec, "replicas", 1);
        edit::within(spec, "template", template_defaults);
        let labels = spec.at(&["template", "metadata", "labels"]).cloned();
        if let (Some(labels), None) = (labels, spec.map_at(&["selector"]).filter(|map| !map.is_empty())) {
            spec.set("selector", labels);
        }
    });
    super::labels_of_template(object);
}

fn check(object: &Object, errors: &mut Errors) {
    let spec = Path::new("spec");
    validate::not_negative(object, "minReadySeconds", errors);
    let selector = object.map_at(&["spec", "selector"]).filter(|selector| !selector.is_empty());
    if selector.is_none() {
        errors.required(&spec.child("selector"), "");
    }
    validate::not_negative(object, "replicas", errors);
    let Some(template) = validate::template(object) else {
        errors.required(&spec.child("template"), "");
        return;
    };
    let mut wanted = selector.into_iter().flat_map(schema::Map::iter);
    if wanted.any(|(key, value)| template.label(key) != value.as_str().or(Some(""))) {
        validate::mismatch(template, errors);
    }
    validate::whole_template(object, errors);
    validate::restarts(object, &["Always"], errors);
    validate::no_deadline(object, "ReplicationController", errors);
}

#[cfg(test)]
mod tests {
    use crate::judged::judge;

    const POD: &str = r#""spec":{"containers":[{"name":"a","image":"x"}]}"#;

    fn controller(spec: &str) -> Vec<String> {
        judge(&format!(
            r#"{{"apiVersion":"v1","kind":"ReplicationController","metadata":{{"name":"a"}},"spec":{{{spec}}}}}"#
        ))
    }

    #[test]
    fn its_template_is_judged_as_those_of_others() {
        let labels = r#""metadata":{"labels":{"app":"x"}}"#;
        assert_eq!(controller(&format!(r#""template":{{{labels},{POD}}}"#)), Vec::<String>::new());
        let wrong =
            controller(&format!(r#""selector":{{"app":"y"}},"replicas":-1,"template":{{{labels},{POD}}}"#));
        assert_eq!(
            wrong,
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(controller(""), ["spec.selector: Required value", "spec.template: Required value"]);
        let deadline = POD.replace(r#""containers""#, r#""activeDeadlineSeconds":5,"containers""#);
        assert_eq!(
            controller(&format!(r#""template":{{{labels},{deadline}}}"#)),
            [
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported"
            ]
        );
    }
}
