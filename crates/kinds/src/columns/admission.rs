//! Webhooks and admission policies, and the wide columns of role bindings.

use schema::Object;

use super::{AGE, NAME, Printed, age_cell, column, count, name, text, text_or, wide};
use crate::edit;
use crate::rules::{Cell, Column};

pub(super) fn printed(group: &str, kind: &str) -> Option<Printed> {
    Some(match (group, kind) {
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => (BINDING, binding),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => (const { &[NAME, column("Webhooks", "integer"), AGE] }, |hooks, now| {
            vec![name(hooks), count(hooks, &["webhooks"]), age_cell(hooks, now)]
        }),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            (const { &[NAME, column("Validations", "integer"), text("ParamKind"), AGE] }, |policy, now| {
                let validations = count(policy, &["spec", "validations"]);
                vec![name(policy), validations, param_kind(policy), age_cell(policy, now)]
            })
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            (const { &[NAME, column("Mutations", "integer"), text("ParamKind"), AGE] }, |policy, now| {
                let mutations = count(policy, &["spec", "mutations"]);
                vec![name(policy), mutations, param_kind(policy), age_cell(policy, now)]
            })
        }
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => (const { &[NAME, text("PolicyName"), text("ParamRef"), AGE] }, |binding, now| {
            let policy = text_or(binding, &["spec", "policyName"], "");
            vec![name(binding), policy, param_ref(binding), age_cell(binding, now)]
        }),
        _ => return None,
    })
}

const BINDING: &[Column] = &[NAME, text("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];

fn binding(binding: &Object, now: i64) -> Vec<Cell> {
    let subjects = |kind: &str| {
        let named: Vec<String> = edit::structs(binding, &["subjects"])
            .filter(|subject| edit::get(subject, &["kind"]) == kind)
            .map(|subject| match edit::get(subject, &["namespace"]) {
                "" => edit::get(subject, &["name"]).to_owned(),
                namespace => format!("{namespace}/{}", edit::get(subject, &["name"])),
            })
            .collect();
        Cell::Text(named.join(", "))
    };
    let role = |field: &str| edit::get(binding, &["roleRef", field]);
    vec![
        name(binding),
        Cell::Text(format!("{}/{}", role("kind"), role("name"))),
        age_cell(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn param_kind(policy: &Object) -> Cell {
    Cell::Text(match policy.struct_at(&["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", edit::get(kind, &["apiVersion"]), edit::get(kind, &["kind"])),
        None => "<unset>".to_owned(),
    })
}

fn param_ref(binding: &Object) -> Cell {
    let Some(param) = binding.struct_at(&["spec", "paramRef"]) else {
        return Cell::Text("<unset>".to_owned());
    };
    Cell::Text(match (edit::get(param, &["namespace"]), edit::get(param, &["name"])) {
        (_, "") => "<unset>".to_owned(),
        // Whether the parameter lives in a namespace cannot be told from here.
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    })
}
