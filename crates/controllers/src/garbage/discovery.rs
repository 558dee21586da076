//! Which kinds there are, by aggregated discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::graph::Kind;

/// What discovery told.
#[derive(Debug, Default, PartialEq)]
pub struct Discovered {
    /// Every kind that can be read, by group and kind: where owners are looked up.
    pub kinds: BTreeMap<(String, String), Arc<Kind>>,
    /// The kinds to follow.
    pub followed: BTreeSet<Arc<Kind>>,
    /// Groups whose server does not answer: what was known of them stays true.
    pub stale: BTreeSet<String>,
}

impl Discovered {
    /// Adds an `APIGroupDiscoveryList`: of each resource the first version that can be followed.
    pub fn add(&mut self, list: &Value) {
        for group in array(list, "items") {
            let name = group.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let mut seen = BTreeSet::new();
            for version in array(group, "versions") {
                if text(version, "freshness") == "Stale" {
                    self.stale.insert(name.to_owned());
                }
                for resource in array(version, "resources") {
                    self.resource(name, text(version, "version"), resource, &mut seen);
                }
            }
        }
    }

    fn resource(&mut self, group: &str, version: &str, resource: &Value, seen: &mut BTreeSet<String>) {
        let kind = Arc::new(Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: resource
                .pointer("/responseKind/kind")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            plural: text(resource, "resource").to_owned(),
            namespaced: text(resource, "scope") == "Namespaced",
        });
        let can = |verb: &str| array(resource, "verbs").any(|known| known == verb);
        if can("get") {
            self.kinds.entry((kind.group.clone(), kind.kind.clone())).or_insert_with(|| kind.clone());
        }
        // Events own nothing and are owned by nobody; they end by their age.
        let follows = kind.plural != "events" && ["list", "watch", "delete"].into_iter().all(can);
        if follows && seen.insert(kind.plural.clone()) {
            self.followed.insert(kind);
        }
    }
}

fn array<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_of_each_kind_that_can_be_deleted_is_followed() {
        let resource = |plural: &str, kind: &str, verbs: &[&str]| {
            serde_json::json!({"resource": plural, "scope": "Namespaced", "verbs": verbs,
                "responseKind": {"group": "", "version": "", "kind": kind}})
        };
        let all = ["delete", "get", "list", "watch"];
        let mut found = Discovered::default();
        found.add(&serde_json::json!({"items": [
            {"metadata": {"name": "a.b"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [
                    resource("cats", "Cat", &all), resource("events", "Event", &all), resource("dogs", "Dog", &["get"]),
                ]},
                {"version": "v1", "freshness": "Current", "resources": [resource("cats", "Cat", &all)]},
            ]},
            {"metadata": {"name": "gone"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
        ]}));
        let followed: Vec<_> = found.followed.iter().map(|kind| kind.path("n", "x")).collect();
        assert_eq!(followed, ["/apis/a.b/v2/namespaces/n/cats/x"]);
        assert_eq!(
            found.kinds.keys().map(|(_, kind)| kind.as_str()).collect::<Vec<_>>(),
            ["Cat", "Dog", "Event"]
        );
        assert_eq!(found.stale, BTreeSet::from(["gone".to_owned()]));
    }
}
