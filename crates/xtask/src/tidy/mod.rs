//! What STYLE asks of the tree, measured.

mod layers;
mod links;
mod sizes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Runs every check and reports all that is wrong at once.
///
/// # Errors
/// When anything is.
pub fn run() -> Result<()> {
    let root = root()?;
    let mut problems = layers::check(&root)?;
    problems.extend(sizes::check(&root)?);
    problems.extend(links::check(&root)?);
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} things are untidy:\n  {}", problems.len(), problems.join("\n  "));
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_owned).context("the workspace's root")
}

/// Every file below `dir` with this extension, but for build output and what is fetched.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | ".git" | ".cache") {
                files(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}
