use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Links of the documentation that lead nowhere.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    super::files(root, "md", &mut paths)?;
    let mut problems = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let dir = path.parent().unwrap_or(root);
        for target in targets(&text) {
            let file = target.split('#').next().unwrap_or_default();
            let local = !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:");
            if local && !dir.join(file).exists() {
                let shown = path.strip_prefix(root).unwrap_or(&path).display();
                problems.push(format!("{shown} links to {target}, which is not there"));
            }
        }
    }
    Ok(problems)
}

/// What stands in the parentheses of `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}
