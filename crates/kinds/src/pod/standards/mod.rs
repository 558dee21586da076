//! The Pod Security Standards: what a pod may ask of its node (KEP-2579, `k8s.io/pod-security-admission`).

mod baseline;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use schema::{Map, Object};

pub use self::policy::{Level, LevelVersion, Policy};
use super::validate::read::{containers, flag, sub, text};

/// What is looked at: a pod, or the template of one.
#[derive(Clone, Copy)]
pub struct Subject<'o> {
    /// The specification.
    pub spec: &'o Object,
    /// The annotations.
    pub annotations: Option<&'o Map>,
}

/// What a check found: the reason, and who is meant.
type Finding = Option<(&'static str, String)>;

/// Checks a pod; `None` when the level allows it, else all that it forbids in one line.
pub fn violations(subject: Subject<'_>, wanted: LevelVersion) -> Option<String> {
    let minor = wanted.minor();
    let mut findings: Vec<Finding> = Vec::new();
    match wanted.level {
        Level::Privileged => return None,
        Level::Baseline => findings.extend(baseline::checks(subject, minor, false)),
        Level::Restricted => {
            findings.extend(baseline::checks(subject, minor, true));
            findings.extend(restricted::checks(subject, minor));
        }
    }
    let texts: Vec<String> = findings
        .into_iter()
        .flatten()
        .map(
            |(reason, detail)| {
                if detail.is_empty() { reason.to_owned() } else { format!("{reason} ({detail})") }
            },
        )
        .collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}

impl<'o> Subject<'o> {
    /// The names of the containers that `is_bad`.
    fn containers(&self, mut is_bad: impl FnMut(&'o Object) -> bool) -> Vec<&'o str> {
        containers(self.spec).filter(|(.., c)| is_bad(c)).map(|(.., c)| text(c, "name")).collect()
    }

    fn context(&self) -> Option<&'o Object> {
        sub(self.spec, "securityContext")
    }

    fn is_windows(&self) -> bool {
        self.spec.str_at(&["os", "name"]) == Some("windows")
    }

    /// Whether root in the pod is nobody on its node.
    fn has_own_users(&self) -> bool {
        flag(self.spec, "hostUsers") == Some(false)
    }
}

fn context(container: &Object) -> Option<&Object> {
    sub(container, "securityContext")
}

/// `"a", "b"`
fn quoted<'t>(items: impl IntoIterator<Item = &'t str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`
fn named(containers: &[&str]) -> String {
    let what = plural("container", "containers", containers.len());
    format!("{what} {}", quoted(containers.iter().copied()))
}

/// The pod, some containers, or both: `pod and container "a"`.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    match (pod, containers.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_owned()),
        (false, false) => Some(named(containers)),
        (true, false) => Some(format!("pod and {}", named(containers))),
    }
}
