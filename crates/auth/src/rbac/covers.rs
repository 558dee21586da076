//! Whether somebody holds what they want to grant. Pure.

use std::collections::BTreeMap;

use super::rule::url_covers;
use crate::authorizer::Rule;
use crate::user::User;

/// What of `requested` the `owned` rules do not cover, taken apart into single permissions.
pub fn rules_cover(owned: &[Rule], requested: &[Rule]) -> Vec<Rule> {
    requested
        .iter()
        .flat_map(take_apart)
        .filter(|part| !owned.iter().any(|owner| covers(owner, part)))
        .collect()
}

/// Rules of one verb, and one resource with at most one name, or one path.
fn take_apart(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let part = Rule { verbs: vec![verb.clone()], ..Rule::default() };
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let part = Rule {
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..part.clone()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                parts.extend(
                    rule.resource_names
                        .iter()
                        .map(|name| Rule { resource_names: vec![name.clone()], ..part.clone() }),
                );
            }
        }
        parts.extend(
            rule.non_resource_urls
                .iter()
                .map(|url| Rule { non_resource_urls: vec![url.clone()], ..part.clone() }),
        );
    }
    parts
}

fn covers(owner: &Rule, part: &Rule) -> bool {
    let all = |owned: &[String], asked: &[String]| {
        owned.iter().any(|known| known == "*") || asked.iter().all(|value| owned.contains(value))
    };
    all(&owner.verbs, &part.verbs)
        && all(&owner.api_groups, &part.api_groups)
        && part.resources.iter().all(|resource| resource_covered(&owner.resources, resource))
        && (owner.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| owner.resource_names.contains(name))))
        && part
            .non_resource_urls
            .iter()
            .all(|url| owner.non_resource_urls.iter().any(|known| url_covers(known, url)))
}

fn resource_covered(owned: &[String], resource: &str) -> bool {
    owned.iter().any(|known| known == "*" || known == resource)
        || resource
            .split_once('/')
            .is_some_and(|(_, sub)| owned.iter().any(|known| known.strip_prefix("*/") == Some(sub)))
}

/// What is told to somebody who wants to grant what they do not hold.
pub fn escalation_message(user: &User, missing: &[Rule]) -> String {
    let mut lines: Vec<String> = compact(missing).iter().map(describe).collect();
    lines.sort_unstable();
    lines.dedup();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lines.join("\n")
    )
}

/// Joins the verbs of rules that are otherwise the same.
fn compact(rules: &[Rule]) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    let mut places: BTreeMap<Rule, usize> = BTreeMap::new();
    for rule in rules {
        let simple = rule.non_resource_urls.is_empty();
        let without_verbs = Rule { verbs: Vec::new(), ..rule.clone() };
        match places.get(&without_verbs).and_then(|&place| joined.get_mut(place)) {
            Some(known) if simple => known.verbs.extend(rule.verbs.iter().cloned()),
            _ => {
                places.insert(without_verbs, joined.len());
                joined.push(rule.clone());
            }
        }
    }
    joined
}

fn describe(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let filled = fields.iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("{name}:[{}]", values.join(" "))
    });
    format!("{{{}}}", filled.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    fn resource(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    #[test]
    fn only_what_is_held_can_be_granted() {
        let cases = [
            (
                resource(&["*"], &["*"], &["*"], &[]),
                resource(&["get", "list"], &["", "apps"], &["pods", "x/y"], &[]),
                0,
            ),
            (
                resource(&["get"], &[""], &["pods"], &[]),
                resource(&["get", "list"], &[""], &["pods", "secrets"], &[]),
                3,
            ),
            (resource(&["get"], &[""], &["pods"], &[]), resource(&["get"], &[""], &["pods"], &["a"]), 0),
            (resource(&["get"], &[""], &["pods"], &["a"]), resource(&["get"], &[""], &["pods"], &[]), 1),
            (
                resource(&["get"], &[""], &["pods"], &["a"]),
                resource(&["get"], &[""], &["pods"], &["a", "b"]),
                1,
            ),
            (
                resource(&["get"], &[""], &["*/scale"], &[]),
                resource(&["get"], &[""], &["pods/scale"], &[]),
                0,
            ),
            (resource(&["get"], &[""], &["pods"], &[]), resource(&["*"], &[""], &["pods"], &[]), 1),
        ];
        for (owned, asked, missing) in cases {
            assert_eq!(
                rules_cover(std::slice::from_ref(&owned), std::slice::from_ref(&asked)).len(),
                missing,
                "{owned:?} {asked:?}"
            );
        }
        let urls =
            |urls: &[&str]| Rule { verbs: list(&["get"]), non_resource_urls: list(urls), ..Rule::default() };
        assert!(rules_cover(&[urls(&["/healthz*"])], &[urls(&["/healthz/a", "/healthz"])]).is_empty());
        assert_eq!(rules_cover(&[urls(&["/healthz"])], &[urls(&["/healthz*"])]).len(), 1);
    }

    #[test]
    fn the_refusal_names_what_is_missing() {
        let missing = rules_cover(&[], &[resource(&["get", "list"], &["apps"], &["deployments"], &[])]);
        let user = User { name: "a".into(), groups: list(&["g", "h"]), ..User::default() };
        assert_eq!(
            escalation_message(&user, &missing),
            "user \"a\" (groups=[\"g\" \"h\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"apps\"], Resources:[\"deployments\"], Verbs:[\"get\" \"list\"]}"
        );
    }
}
