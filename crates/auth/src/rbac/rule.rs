//! What a rule allows. Pure.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::authorizer::{Attributes, Rule};

const ALL: &str = "*";

impl From<&PolicyRule> for Rule {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            verbs: rule.verbs.clone(),
            api_groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            resource_names: rule.resource_names.clone().unwrap_or_default(),
            non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
        }
    }
}

impl From<Rule> for PolicyRule {
    fn from(rule: Rule) -> Self {
        let filled = |list: Vec<String>| (!list.is_empty()).then_some(list);
        Self {
            verbs: rule.verbs,
            api_groups: filled(rule.api_groups),
            resources: filled(rule.resources),
            resource_names: filled(rule.resource_names),
            non_resource_urls: filled(rule.non_resource_urls),
        }
    }
}

/// Whether the list has the value, or stands for every value.
fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|known| known == ALL || known == value)
}

impl Rule {
    /// Whether the rule allows what is asked for.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.non_resource_urls.iter().any(|url| url_covers(url, asked.path));
        }
        has(&self.api_groups, asked.api_group)
            && self.resources.iter().any(|known| resource_matches(known, asked.resource, asked.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name))
    }
}

fn resource_matches(known: &str, resource: &str, subresource: &str) -> bool {
    if known == ALL {
        return true;
    }
    if subresource.is_empty() {
        return known == resource;
    }
    match known.split_once('/') {
        Some((parent, sub)) => sub == subresource && (parent == ALL || parent == resource),
        // A resource's name may hold the slash itself in a review that somebody wrote by hand.
        None => false,
    }
}

/// Whether a path of a rule stands for `path`. A `*` counts at the end only.
pub(super) fn url_covers(known: &str, path: &str) -> bool {
    known == ALL || known == path || (known.ends_with('*') && path.starts_with(known.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str], urls: &[&str]) -> Rule {
        let list = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: list(urls),
        }
    }

    #[test]
    fn rules_allow_what_upstream_allows() {
        let user = User::default();
        let ask = |verb, api_group, resource, subresource, name| Attributes {
            user: &user,
            verb,
            api_group,
            api_version: "v1",
            resource,
            subresource,
            name,
            namespace: "a",
            path: "",
            is_resource: true,
        };
        let pods = rule(&["get"], &[""], &["pods"], &[], &[]);
        let cases = [
            (&pods, ask("get", "", "pods", "", "x"), true),
            (&pods, ask("get", "", "pods", "log", "x"), false),
            (&pods, ask("list", "", "pods", "", ""), false),
            (&pods, ask("get", "apps", "pods", "", "x"), false),
            (&rule(&["*"], &["*"], &["*"], &[], &[]), ask("watch", "apps", "deployments", "scale", ""), true),
            (&rule(&["get"], &[""], &["pods/log"], &[], &[]), ask("get", "", "pods", "log", "x"), true),
            (&rule(&["get"], &[""], &["pods/log"], &[], &[]), ask("get", "", "pods", "", "x"), false),
            (&rule(&["get"], &[""], &["*/scale"], &[], &[]), ask("get", "", "pods", "scale", "x"), true),
            (&rule(&["get"], &[""], &["*/scale"], &[], &[]), ask("get", "", "pods", "log", "x"), false),
            (&rule(&["get"], &[""], &["pods/*"], &[], &[]), ask("get", "", "pods", "log", "x"), false),
            (&rule(&["get"], &[""], &["pods"], &["x"], &[]), ask("get", "", "pods", "", "x"), true),
            (&rule(&["get"], &[""], &["pods"], &["x"], &[]), ask("get", "", "pods", "", "y"), false),
            (&rule(&["list"], &[""], &["pods"], &["x"], &[]), ask("list", "", "pods", "", ""), false),
            (&rule(&["*"], &[], &[], &[], &["*"]), ask("get", "", "pods", "", "x"), false),
        ];
        for (i, (rule, asked, expected)) in cases.iter().enumerate() {
            assert_eq!(rule.allows(asked), *expected, "case {i}: {asked:?}");
        }
    }

    #[test]
    fn paths_match_to_the_letter_or_to_a_star_at_the_end() {
        for (known, path, expected) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", false),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("/api*", "/apis/apps", true),
            ("/*/x", "/a/x", false),
            ("*", "/anything", true),
        ] {
            assert_eq!(url_covers(known, path), expected, "{known} {path}");
        }
    }
}
