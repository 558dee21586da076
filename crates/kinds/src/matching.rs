//! Which nodes a pod asks for and bears, as the scheduler, the kubelet and the controllers judge it alike.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};

/// Whether a term selects a node, by its name and labels (`nodeaffinity.nodeSelectorTerm.match`). An empty term selects
/// none.
pub fn selects(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| one.key == "metadata.name" && holds(one, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let listed = |value: &str| requirement.values.iter().flatten().any(|known| known == value);
    let bound = || requirement.values.iter().flatten().next().and_then(|text| text.parse::<i64>().ok());
    let number = || value.and_then(|text| text.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => matches!((number(), bound()), (Some(have), Some(bound)) if have > bound),
        "Lt" => matches!((number(), bound()), (Some(have), Some(bound)) if have < bound),
        _ => false,
    }
}

/// Whether a toleration bears a taint (`corev1helpers.ToleratesTaint`). One without a key bears every key.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let same_value =
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => same_value(),
            "Exists" => true,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        NodeSelectorRequirement { key: key.into(), operator: operator.into(), values: Some(values) }
    }

    #[test]
    fn terms_select_by_labels_and_name() {
        let labels = [("disk", "ssd"), ("cores", "8")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels = BTreeMap::from(labels);
        for (key, operator, values, selected) in [
            ("disk", "In", &["ssd", "nvme"][..], true),
            ("disk", "NotIn", &["ssd"], false),
            ("gpu", "NotIn", &["old"], true),
            ("disk", "Exists", &[], true),
            ("gpu", "DoesNotExist", &[], true),
            ("cores", "Gt", &["4"], true),
            ("cores", "Lt", &["8"], false),
            ("disk", "Gt", &["4"], false),
            ("disk", "Like", &["ssd"], false),
        ] {
            let expressions = Some(vec![requirement(key, operator, values)]);
            let term = NodeSelectorTerm { match_expressions: expressions, ..NodeSelectorTerm::default() };
            assert_eq!(selects(&term, "n", &labels), selected, "{key} {operator} {values:?}");
        }
        let named = |field: &str, name: &str| NodeSelectorTerm {
            match_fields: Some(vec![requirement(field, "In", &[name])]),
            ..NodeSelectorTerm::default()
        };
        assert!(selects(&named("metadata.name", "n"), "n", &labels));
        assert!(!selects(&named("metadata.name", "m"), "n", &labels));
        assert!(!selects(&named("metadata.uid", "n"), "n", &labels));
        assert!(!selects(&NodeSelectorTerm::default(), "n", &labels));
    }

    #[test]
    fn tolerations_bear_by_key_effect_and_value() {
        let taint = Taint {
            key: "a".into(),
            value: Some("x".into()),
            effect: "NoExecute".into(),
            ..Taint::default()
        };
        for (key, operator, value, effect, borne) in [
            ("a", "", "x", "", true),
            ("a", "Equal", "x", "NoExecute", true),
            ("a", "Equal", "y", "", false),
            ("a", "Exists", "", "NoSchedule", false),
            ("a", "Exists", "", "", true),
            ("", "Exists", "", "", true),
            ("b", "Exists", "", "", false),
            ("a", "Near", "x", "", false),
        ] {
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let toleration = Toleration {
                key: text(key),
                operator: text(operator),
                value: text(value),
                effect: text(effect),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), borne, "{toleration:?}");
        }
    }
}
