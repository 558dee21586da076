//! `DaemonSet`, which counts the changes of its template in an annotation.

use schema::{Object, Value};

use super::{status, template, validate};
use crate::edit::{self, made, number, text};
use crate::pod::template_defaults;
use crate::rules::{GENERIC, Part, Rules, generic_prepare_create, generic_prepare_update};

/// What was `spec.templateGeneration` before `apps/v1`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The rules of `DaemonSet`.
pub(crate) const RULES: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "revisionHistoryLimit", 10);
            made(spec, "updateStrategy", |strategy| {
                text(strategy, "type", "RollingUpdate");
                if edit::get(strategy, &["type"]) == "RollingUpdate" {
                    made(strategy, "rollingUpdate", |update| {
                        number(update, "maxUnavailable", 1);
                        number(update, "maxSurge", 0);
                    });
                }
            });
            made(spec, "template", template_defaults);
        });
        // Whoever leaves it out says that it is zero, and is told otherwise.
        if object.annotation(TEMPLATE_GENERATION).is_none() {
            set_template_generation(object, 0);
        }
    },
    gated: template::gated,
    prepare_create: |object| {
        generic_prepare_create(object);
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    },
    prepare_update: |new, old, part| {
        generic_prepare_update(new, old, part);
        let template = |object: &'_ Object| object.struct_at(&["spec", "template"]).cloned();
        let same = match (template(new), template(old)) {
            (Some(new), Some(old)) => edit::same(&new, &old),
            (new, old) => new.is_some() == old.is_some(),
        };
        set_template_generation(new, template_generation(old) + i64::from(!same));
    },
    validate: validate::daemon_set,
    validate_update: |new, old, part, errors| {
        // Of daemon sets upstream says this first.
        validate::immutable_selector(new, Some(old), part, errors);
        if part == Part::Status {
            status::check(new, old, &status::DAEMON_SET, errors);
        }
    },
    ..GENERIC
};

fn template_generation(object: &Object) -> i64 {
    object.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set_template_generation(object: &mut Object, generation: i64) {
    if let Some(annotations) = object.metadata_mut().map_mut("annotations") {
        annotations.insert(TEMPLATE_GENERATION, Value::Str(generation.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;

    use super::{RULES, template_generation};
    use crate::rules::Part;

    fn set(image: &str) -> Object {
        let json = format!(
            r#"{{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{{"name":"d"}},"spec":{{"selector":{{"matchLabels":{{"a":"b"}}}},"template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{{"containers":[{{"name":"a","image":"{image}"}}]}}}}}}}}"#
        );
        let kind = schema::catalogue::builtin().kind("apps", "v1", "DaemonSet").unwrap();
        let mut set = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
        (RULES.defaults)(&mut set);
        set
    }

    #[test]
    fn changes_of_the_template_are_counted() {
        let mut first = set("x");
        assert_eq!(
            first.annotation(super::TEMPLATE_GENERATION),
            Some("0"),
            "as its creator is taken to have said"
        );
        (RULES.prepare_create)(&mut first);
        assert_eq!(template_generation(&first), 1);
        // Nobody needs to send the annotation back.
        let mut same = set("x");
        (RULES.prepare_update)(&mut same, &first, Part::Main);
        assert_eq!(template_generation(&same), 1);
        let mut other = set("y");
        (RULES.prepare_update)(&mut other, &first, Part::Main);
        assert_eq!((template_generation(&other), other.generation()), (2, 2));
        (RULES.prepare_update)(&mut other, &first, Part::Status);
        assert_eq!(template_generation(&other), 1);
    }
}
