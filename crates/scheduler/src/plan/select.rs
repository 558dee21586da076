use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::view::NodeView;

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

/// Whether a node fits a term; an empty term fits none.
pub(super) fn term(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|requirement| {
            holds(requirement, node.metadata.labels.get(&requirement.key).map(String::as_str))
        })
        && fields.iter().all(|requirement| {
            requirement.key == "metadata.name" && holds(requirement, Some(&node.metadata.name))
        })
}

/// Whether labels are selected; no selector selects nothing.
pub(super) fn labels(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = |value: &String| expression.values.iter().flatten().any(|known| known == value);
            match expression.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
