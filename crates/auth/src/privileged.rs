//! Those whom no rule needs to allow: the cluster's masters, and everybody on a few paths.

use crate::authorizer::{Attributes, Authorizer, Decision, Rule};
use crate::user::{MASTERS, User};

/// Allows members of `system:masters` everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        if asked.user.is_in(MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    fn rules_for(&self, user: &User, _: &str) -> Vec<Rule> {
        if !user.is_in(MASTERS) {
            return Vec::new();
        }
        let all = || vec!["*".to_owned()];
        vec![
            Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
        ]
    }
}

/// Allows everybody some paths; a `*` at a path's end stands for all that begin so.
#[derive(Debug, Clone)]
pub struct AlwaysAllowPaths(Vec<String>);

impl AlwaysAllowPaths {
    /// These paths.
    pub fn new(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(paths.into_iter().map(Into::into).collect())
    }
}

impl Default for AlwaysAllowPaths {
    /// Health.
    fn default() -> Self {
        Self::new(["/healthz", "/livez", "/readyz"])
    }
}

impl Authorizer for AlwaysAllowPaths {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let matches = |known: &String| match known.strip_suffix('*') {
            Some(prefix) => asked.path.starts_with(prefix),
            None => asked.path == known,
        };
        if !asked.is_resource && self.0.iter().any(matches) {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(String::new())
    }

    fn rules_for(&self, _: &User, _: &str) -> Vec<Rule> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_may_do_everything_and_others_see_health() {
        let (master, other) = (User::known("m", &[MASTERS]), User::anonymous());
        fn path<'a>(user: &'a User, path: &'a str) -> Attributes<'a> {
            Attributes {
                user,
                verb: "get",
                api_group: "",
                api_version: "",
                resource: "",
                subresource: "",
                name: "",
                namespace: "",
                path,
                is_resource: false,
            }
        }
        let allowed = |decision| matches!(decision, Decision::Allow(_));
        assert!(allowed(Masters.authorize(&path(&master, "/metrics"))));
        assert!(!allowed(Masters.authorize(&path(&other, "/metrics"))));
        let paths = AlwaysAllowPaths::default();
        assert!(allowed(paths.authorize(&path(&other, "/livez"))));
        assert!(!allowed(paths.authorize(&path(&other, "/livez/etcd"))));
        let resource = Attributes { is_resource: true, ..path(&other, "/livez") };
        assert!(!allowed(paths.authorize(&resource)));
    }
}
