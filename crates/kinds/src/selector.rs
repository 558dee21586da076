//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether labels are selected (`metav1.LabelSelectorAsSelector`). No selector selects nothing; an empty one
/// everything; an operator that does not exist nothing.
pub fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return false };
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    exact
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

#[cfg(test)]
mod tests {
    use super::*;

    fn select(json: serde_json::Value, labels: &[(&str, &str)]) -> bool {
        let selector: LabelSelector = serde_json::from_value(json).unwrap();
        let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        matches(Some(&selector), &labels)
    }

    #[test]
    fn selectors() {
        let app = serde_json::json!({"matchLabels": {"app": "a"}});
        assert!(select(app.clone(), &[("app", "a"), ("x", "y")]));
        assert!(!select(app, &[("app", "b")]));
        let not_in =
            serde_json::json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]});
        assert!(select(not_in.clone(), &[]) && !select(not_in, &[("app", "a")]));
        assert!(select(serde_json::json!({}), &[]));
        assert!(!matches(None, &BTreeMap::new()));
    }
}
