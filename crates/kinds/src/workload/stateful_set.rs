//! `StatefulSet`, whose pods get a name each and volumes of claims made from templates
//! (`pkg/apis/apps/validation.ValidateStatefulSet`).

use schema::{Object, Value};

use super::{status, template, validate};
use crate::edit::{self, made, number, text, within};
use crate::field::{At, Errors, Json, Path};
use crate::meta::NameRule;
use crate::pod::template_defaults;
use crate::pod::validate::{claim_template, shown};
use crate::rules::{GENERIC, Part, Rules};

/// What may be changed of a set.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// The rules of `StatefulSet`.
pub(crate) const RULES: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "replicas", 1);
            number(spec, "revisionHistoryLimit", 10);
            text(spec, "podManagementPolicy", "OrderedReady");
            made(spec, "updateStrategy", |strategy| {
                if edit::get(strategy, &["type"]).is_empty() {
                    text(strategy, "type", "RollingUpdate");
                    edit::present(strategy, "rollingUpdate");
                }
                if edit::get(strategy, &["type"]) == "RollingUpdate" {
                    within(strategy, "rollingUpdate", |update| {
                        number(update, "partition", 0);
                        number(update, "maxUnavailable", 1);
                    });
                }
            });
            made(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
                text(policy, "whenDeleted", "Retain");
                text(policy, "whenScaled", "Retain");
            });
            made(spec, "template", template_defaults);
            edit::each(spec, "volumeClaimTemplates", claim);
        });
    },
    gated: template::gated,
    validate,
    validate_create: |object, errors| {
        let claims = Path::new("spec").child("volumeClaimTemplates");
        for (index, claim) in edit::structs(object, &["spec", "volumeClaimTemplates"]).enumerate() {
            claim_template::specification(claim, &At::from_path(&claims.index(index)), errors);
        }
        let path = Path::new("spec").child("serviceName");
        let name = edit::get(object, &["spec", "serviceName"]);
        if !name.is_empty() {
            errors.each(&path, name, NameRule::Label.check(name));
        }
    },
    validate_update: |new, old, part, errors| {
        if part == Part::Status {
            status::check(new, old, &status::STATEFUL_SET, errors);
        }
    },
    validate_last: |new, old, part, errors| {
        if let (Part::Main, Some(old)) = (part, old) {
            let labels = validate::template(new).and_then(Object::labels);
            crate::meta::labels(labels, &Path::new("spec").child("template").child("labels"), errors);
            keeps(new, old, errors);
        }
    },
    name: NameRule::Label,
    completes: |object| edit::within(object, "spec", |spec| edit::each(spec, "volumeClaimTemplates", named)),
    has_more_than_stored: true,
    ..GENERIC
};

/// A template of claims says that it is a claim, whatever its author said; what is stored has no place for that.
fn named(template: &mut Object) {
    template.set("apiVersion", "v1");
    template.set("kind", "PersistentVolumeClaim");
}

/// A template of claims has the defaults of one.
fn claim(template: &mut Object) {
    named(template);
    made(template, "spec", |spec| text(spec, "volumeMode", "Filesystem"));
    made(template, "status", |status| text(status, "phase", "Pending"));
}

fn validate(object: &Object, errors: &mut Errors) {
    let spec = Path::new("spec");
    let policy = edit::get(object, &["spec", "podManagementPolicy"]);
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.invalid(&spec.child("podManagementPolicy"), policy, why);
    }
    strategy(object, errors);
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let policy = edit::get(object, &["spec", "persistentVolumeClaimRetentionPolicy", field]);
        if !matches!(policy, "Retain" | "Delete") {
            errors.not_supported_in_order(&retention.child(field), policy, &["Retain", "Delete"]);
        }
    }
    validate::not_negative(object, "replicas", errors);
    validate::not_negative(object, "minReadySeconds", errors);
    if let Some(start) = object.int_at(&["spec", "ordinals", "start"]).filter(|start| *start < 0) {
        errors.invalid(&spec.child("ordinals.start"), start, validate::NOT_NEGATIVE);
    }
    let parsed = validate::strict_selector(object, "statefulset", errors);
    match (validate::template(object), parsed) {
        (Some(template), Ok(parsed)) => {
            if !parsed.is_everything() && !parsed.matches(|key| template.label(key)) {
                validate::mismatch(template, errors);
            }
            crate::pod::validate_template(
                &as_pods_have_it(object, template),
                &spec.child("template"),
                errors,
            );
        }
        (_, Err(given)) => errors.invalid(&spec.child("selector"), Json(given), ""),
        (None, _) => {}
    }
    validate::restarts(object, &["Always"], errors);
    validate::no_deadline(object, "StatefulSet", errors);
}

fn strategy(object: &Object, errors: &mut Errors) {
    let path = Path::new("spec").child("updateStrategy");
    let update = object.struct_at(&["spec", "updateStrategy", "rollingUpdate"]);
    match (edit::get(object, &["spec", "updateStrategy", "type"]), update) {
        ("OnDelete", Some(update)) => {
            let shown = Json(shown::internal(update));
            errors.invalid(
                &path.child("rollingUpdate"),
                shown,
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        ("RollingUpdate", Some(update)) => {
            let path = path.child("rollingUpdate");
            if let Some(partition) = update.int_at(&["partition"]).filter(|partition| *partition < 0) {
                errors.invalid(&path.child("partition"), partition, validate::NOT_NEGATIVE);
            }
            let field = "maxUnavailable";
            if update.get(field).is_some() {
                if validate::amount(update, field, &path, errors) == 0 {
                    let given = validate::shown_amount(update, field);
                    errors.invalid(&path.child(field), given, "cannot be 0");
                }
                validate::at_most_all(update, field, &path, errors);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let shown = object.struct_at(&["spec", "updateStrategy"]).map(shown::internal);
            errors.invalid(&path, Json(shown.unwrap_or_default()), "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// The template with what the controller replaces in each pod: its name, and the volumes of its claims.
fn as_pods_have_it(object: &Object, template: &Object) -> Object {
    let mut template = template.clone();
    let mut claims: Vec<&str> = Vec::new();
    for claim in edit::structs(object, &["spec", "volumeClaimTemplates"]) {
        let name = edit::get(claim, &["metadata", "name"]);
        if !claims.contains(&name) {
            claims.push(name);
        }
    }
    within(&mut template, "spec", |spec| {
        spec.remove("hostname");
        spec.remove("subdomain");
        let Some(ty) = spec.item_type("volumes").filter(|_| !claims.is_empty()) else { return };
        let Some(volumes) = spec.list_mut("volumes") else { return };
        volumes.retain(|volume| match volume {
            Value::Struct(volume) => !claims.contains(&edit::get(volume, &["name"])),
            _ => true,
        });
        volumes.splice(0..0, claims.iter().map(|name| Value::from(claim_volume(ty.clone(), name))));
    });
    template
}

fn claim_volume(ty: schema::StructRef, name: &str) -> Object {
    let mut volume = Object::new(ty);
    text(&mut volume, "name", name);
    made(&mut volume, "persistentVolumeClaim", |claim| text(claim, "claimName", name));
    volume
}

/// All but a few fields stay as they are.
fn keeps(new: &Object, old: &Object, errors: &mut Errors) {
    let kept = |object: &Object| {
        let mut spec = object.struct_at(&["spec"]).cloned()?;
        for field in MUTABLE {
            spec.remove(field);
        }
        // One that was stored before templates said that they are claims is no other for that.
        edit::each(&mut spec, "volumeClaimTemplates", claim);
        Some(spec)
    };
    let same = match (kept(new), kept(old)) {
        (Some(new), Some(old)) => edit::same(&new, &old),
        (new, old) => new.is_some() == old.is_some(),
    };
    if !same {
        errors.forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: Value) -> Object {
        let mut whole = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "serviceName": "s",
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
        let fields = whole.get_mut("spec").and_then(Value::as_object_mut).unwrap();
        fields.extend(spec.as_object().cloned().unwrap());
        let kind = schema::catalogue::builtin().kind("apps", "v1", "StatefulSet").unwrap();
        let mut set = schema::json::decode(&kind.ty, whole.to_string().as_bytes()).unwrap().object;
        (RULES.defaults)(&mut set);
        set
    }

    fn errors(set: &Object) -> String {
        let mut errors = Errors::new();
        (RULES.validate)(set, &mut errors);
        (RULES.validate_create)(set, &mut errors);
        told(&errors)
    }

    fn told(errors: &Errors) -> String {
        errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_claims_are_mounted_comes_from_their_templates() {
        assert_eq!(errors(&set(json!({}))), "");
        let nothing = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["x"]}}]);
        let wrong = errors(&set(json!({"volumeClaimTemplates": nothing})));
        assert!(
            wrong.contains("spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value"),
            "{wrong}"
        );
        assert!(
            wrong.contains("spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"),
            "{wrong}"
        );
        let none = errors(&set(json!({"volumeClaimTemplates": []})));
        assert!(none.contains("volumeMounts[0].name: Not found: \"data\""), "{none}");
    }

    #[test]
    fn a_template_of_claims_is_a_claim() {
        let set = set(json!({}));
        let claim = edit::structs(&set, &["spec", "volumeClaimTemplates"]).next().unwrap();
        assert_eq!(edit::get(claim, &["spec", "volumeMode"]), "Filesystem");
        assert_eq!(edit::get(claim, &["status", "phase"]), "Pending");
    }

    #[test]
    fn a_strategy_that_is_named_gets_no_numbers() {
        let partition = |set: &Object| set.int_at(&["spec", "updateStrategy", "rollingUpdate", "partition"]);
        assert_eq!(partition(&set(json!({}))), Some(0));
        assert_eq!(partition(&set(json!({"updateStrategy": {"type": "RollingUpdate"}}))), None);
        let wrong =
            errors(&set(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}})));
        assert!(wrong.contains("only allowed for updateStrategy 'RollingUpdate'"), "{wrong}");
        let wrong = errors(&set(json!({"podManagementPolicy": "Any", "serviceName": "A"})));
        assert!(wrong.contains("must be 'OrderedReady' or 'Parallel'"), "{wrong}");
        assert!(wrong.contains("spec.serviceName: Invalid value: \"A\""), "{wrong}");
    }

    #[test]
    fn only_some_fields_change() {
        let changes = |spec: Value| {
            let mut errors = Errors::new();
            (RULES.validate_last)(&set(spec), Some(&set(json!({}))), Part::Main, &mut errors);
            told(&errors)
        };
        assert_eq!(changes(json!({"replicas": 3, "minReadySeconds": 4, "ordinals": {"start": 2}})), "");
        assert!(changes(json!({"serviceName": "other"})).contains("are forbidden"));
        assert!(changes(json!({"volumeClaimTemplates": []})).contains("are forbidden"));
    }
}
