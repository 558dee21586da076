//! Roles and their bindings, and the configuration of webhooks and custom resources.

use schema::{Object, Value};

use crate::edit::{self, each, made, number, present, text, within};
use crate::field::{Errors, Path};
use crate::meta::NameRule;
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_create};

const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };
const CREATED: Column = Column { name: "Created At", ty: "date", format: "", priority: 0 };

const RBAC: &str = "rbac.authorization.k8s.io";

/// The rules of `Role` and `ClusterRole`.
pub(crate) const ROLES: Rules = Rules {
    prepare_create: |_| {},
    validate: |role, errors| {
        for (index, rule) in edit::structs(role, &["rules"]).enumerate() {
            validate_rule(rule, &Path::new("rules").index(index), role.kind() == "Role", errors);
        }
    },
    columns: &[NAME, CREATED],
    cells: |role, _| {
        let made = role.creation_timestamp().map(|time| time.to_string()).unwrap_or_default();
        vec![Cell::Text(role.name().to_owned()), Cell::Text(made)]
    },
    name: NameRule::PathSegment,
    ..GENERIC
};

fn validate_rule(rule: &Object, path: &Path, namespaced: bool, errors: &mut Errors) {
    let empty = |field: &str| rule.list_at(&[field]).is_none_or(<[Value]>::is_empty);
    if empty("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !empty("nonResourceURLs") {
        if namespaced {
            let shown = crate::field::Json("[]".to_owned());
            errors.invalid(
                &path.child("nonResourceURLs"),
                shown,
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let shown = crate::field::Json("[]".to_owned());
            errors.invalid(
                &path.child("nonResourceURLs"),
                shown,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if empty("apiGroups") {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if empty("resources") {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

/// The rules of `RoleBinding` and `ClusterRoleBinding`.
pub(crate) const BINDINGS: Rules = Rules {
    defaults: |binding| {
        made(binding, "roleRef", |role| text(role, "apiGroup", RBAC));
        each(binding, "subjects", |subject| {
            if matches!(edit::get(subject, &["kind"]), "User" | "Group") {
                text(subject, "apiGroup", RBAC);
            }
        });
    },
    prepare_create: |_| {},
    validate: validate_binding,
    validate_update: |new, old, part, errors| {
        if part == Part::Main && new.get("roleRef") != old.get("roleRef") {
            let shown = new.struct_at(&["roleRef"]).map(schema::json::encode).unwrap_or_default();
            let shown = String::from_utf8_lossy(&shown).into_owned();
            errors.invalid(&Path::new("roleRef"), crate::field::Json(shown), "cannot change roleRef");
        }
    },
    name: NameRule::PathSegment,
    ..GENERIC
};

fn validate_binding(binding: &Object, errors: &mut Errors) {
    let role = Path::new("roleRef");
    let group = edit::get(binding, &["roleRef", "apiGroup"]);
    if group != RBAC {
        errors.not_supported(&role.child("apiGroup"), group, &[RBAC]);
    }
    let kinds: &[&str] =
        if binding.kind() == "RoleBinding" { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = edit::get(binding, &["roleRef", "kind"]);
    if !kinds.contains(&kind) {
        errors.not_supported(&role.child("kind"), kind, kinds);
    }
    if edit::get(binding, &["roleRef", "name"]).is_empty() {
        errors.required(&role.child("name"), "");
    }
    for (index, subject) in edit::structs(binding, &["subjects"]).enumerate() {
        let path = Path::new("subjects").index(index);
        if edit::get(subject, &["name"]).is_empty() {
            errors.required(&path.child("name"), "");
        }
        match edit::get(subject, &["kind"]) {
            "ServiceAccount" => {
                // In a namespace's own binding it is an account of that one.
                if binding.kind() != "RoleBinding" && edit::get(subject, &["namespace"]).is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => {}
            other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

/// The rules of both webhook configurations.
pub(crate) const WEBHOOKS: Rules = Rules {
    defaults: |object| {
        each(object, "webhooks", |hook| {
            text(hook, "failurePolicy", "Fail");
            text(hook, "matchPolicy", "Equivalent");
            number(hook, "timeoutSeconds", 10);
            present(hook, "namespaceSelector");
            present(hook, "objectSelector");
            each(hook, "rules", |rule| text(rule, "scope", "*"));
            within(hook, "clientConfig", |client| {
                within(client, "service", |service| number(service, "port", 443))
            });
        });
    },
    prepare_create: |object| object.set_generation(1),
    prepare_update: |new, old, _| {
        new.set_generation(old.generation() + i64::from(new.get("webhooks") != old.get("webhooks")));
    },
    ..GENERIC
};

/// The rules of `CustomResourceDefinition`.
pub(crate) const DEFINITIONS: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            made(spec, "names", |names| {
                let kind = edit::get(names, &["kind"]).to_owned();
                text(names, "singular", &kind.to_lowercase());
                text(names, "listKind", &format!("{kind}List"));
            });
            made(spec, "conversion", |conversion| text(conversion, "strategy", "None"));
        });
    },
    prepare_create: |object| {
        generic_prepare_create(object);
        let stored: Vec<Value> = edit::structs(object, &["spec", "versions"])
            .filter(|version| version.bool_at(&["storage"]) == Some(true))
            .map(|version| Value::Str(edit::get(version, &["name"]).to_owned()))
            .collect();
        made(object, "status", |status| {
            status.set("storedVersions", Value::List(stored));
        });
    },
    validate: validate_definition,
    columns: &[NAME, CREATED],
    cells: |object, _| {
        let made = object.creation_timestamp().map(|time| time.to_string()).unwrap_or_default();
        vec![Cell::Text(object.name().to_owned()), Cell::Text(made)]
    },
    ..GENERIC
};

fn validate_definition(object: &Object, errors: &mut Errors) {
    let path = Path::new("spec");
    let (group, plural) =
        (edit::get(object, &["spec", "group"]), edit::get(object, &["spec", "names", "plural"]));
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    }
    let wanted = format!("{plural}.{group}");
    if object.name() != wanted {
        errors.invalid(
            &Path::new("metadata").child("name"),
            object.name(),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    for field in ["plural", "kind"] {
        if edit::get(object, &["spec", "names", field]).is_empty() {
            errors.required(&path.child("names").child(field), "");
        }
    }
    let scope = edit::get(object, &["spec", "scope"]);
    match scope {
        "Cluster" | "Namespaced" => {}
        "" => errors.required(&path.child("scope"), ""),
        other => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]),
    }
    let versions: Vec<&Object> = edit::structs(object, &["spec", "versions"]).collect();
    let stored = versions.iter().filter(|version| version.bool_at(&["storage"]) == Some(true)).count();
    if stored != 1 {
        let shown = crate::field::Json(
            String::from_utf8_lossy(
                &object.struct_at(&["spec"]).map(schema::json::encode).unwrap_or_default(),
            )
            .into_owned(),
        );
        errors.invalid(
            &path.child("versions"),
            shown,
            "must have exactly one version marked as storage version",
        );
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.child("versions").index(index);
        let Some(props) = version.struct_at(&["schema", "openAPIV3Schema"]) else {
            errors.required(&path.child("schema").child("openAPIV3Schema"), "schemas are required");
            continue;
        };
        let kind = edit::get(object, &["spec", "names", "kind"]);
        let name = edit::get(version, &["name"]);
        if let Err(problems) = schema::crd::structural(&schema::json::encode(props), group, name, kind) {
            for problem in problems {
                errors.forbidden(&path.child("schema").child("openAPIV3Schema"), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(group: &str, kind: &str, fields: &serde_json::Value) -> Object {
        let kind = schema::catalogue::builtin().kind(group, "v1", kind).unwrap();
        let mut object = schema::json::decode(&kind.ty, fields.to_string().as_bytes()).unwrap().object;
        object.set_gvk(kind);
        object
    }

    #[test]
    fn an_account_without_a_namespace_is_one_of_the_binding() {
        let errors = |kind: &str| {
            let binding = serde_json::json!({"metadata": {"name": "b"},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "a"}]});
            let mut errors = Errors::new();
            validate_binding(&object(RBAC, kind, &binding), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(errors("RoleBinding"), Vec::<String>::new());
        assert_eq!(errors("ClusterRoleBinding"), ["subjects[0].namespace: Required value"]);
    }

    #[test]
    fn a_new_definition_says_which_version_is_stored() {
        let definition = serde_json::json!({"metadata": {"name": "things.example.com"}, "spec": {"versions": [
            {"name": "v1", "served": true, "storage": false}, {"name": "v2", "served": true, "storage": true}]}});
        let mut definition = object("apiextensions.k8s.io", "CustomResourceDefinition", &definition);
        (DEFINITIONS.prepare_create)(&mut definition);
        let stored = definition.list_at(&["status", "storedVersions"]).unwrap_or_default();
        assert_eq!(stored, [Value::Str("v2".to_owned())]);
    }
}
