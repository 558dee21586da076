use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Which crate may depend on which: the table of the design. Nothing else may.
const ALLOWED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("schema", &["base"]),
    ("cel", &["base", "schema"]),
    ("kinds", &["schema", "base", "cel"]),
    ("store", &["base"]),
    ("auth", &["base", "schema", "kinds"]),
    ("apiserver", &["store", "auth", "kinds", "client", "streaming", "schema", "base"]),
    ("client", &["base", "schema"]),
    ("scheduler", &["client", "kinds", "base", "schema", "cel"]),
    ("controllers", &["client", "kinds", "base", "schema"]),
    ("cri", &["base"]),
    ("streaming", &["base"]),
    ("runtime", &["base", "cri", "net", "streaming"]),
    ("launcher", &["libcgroups"]),
    ("libcgroups", &[]),
    ("net", &["base", "client"]),
    ("kubelet", &["client", "kinds", "auth", "cri", "streaming", "base", "schema"]),
];

/// These may depend on everything.
const FREE: &[&str] = &["knarr", "testkit", "xtask"];

/// Dependencies between the workspace's crates that the table does not have. Tests may lean on anything.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .context("cargo metadata has no packages")?;
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let name = |value: &serde_json::Value| {
        value.get("name").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let members: Vec<String> = packages.iter().map(name).collect();
    let mut problems = Vec::new();
    for package in packages {
        let own = name(package);
        if FREE.contains(&own.as_str()) {
            continue;
        }
        let Some(list) = allowed.get(own.as_str()) else {
            problems.push(format!("crate {own} is not in the table of the design"));
            continue;
        };
        let dependencies = package.get("dependencies").and_then(serde_json::Value::as_array);
        for dependency in dependencies.into_iter().flatten() {
            let normal = dependency.get("kind").is_some_and(serde_json::Value::is_null);
            let on = name(dependency);
            let local = dependency.get("path").is_some() && members.contains(&on);
            if normal && local && !list.contains(&on.as_str()) {
                problems.push(format!("crate {own} may not depend on {on}"));
            }
        }
    }
    Ok(problems)
}
