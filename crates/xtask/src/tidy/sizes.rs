use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// No file is longer.
const LONGEST_FILE: usize = 1000;
/// So many files may be longer than 400 lines; the number only goes down.
const LONG_FILES: usize = 14;
/// So many functions may be longer than a screen of 70 lines; the number only goes down.
const LONG_FUNCTIONS: usize = 25;

/// Files and functions that have outgrown their room.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    super::files(&root.join("crates"), "rs", &mut paths)?;
    let (mut problems, mut long_files, mut long_functions) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            problems.push(format!("{shown} has {lines} lines; {LONGEST_FILE} is the most"));
        } else if lines > 400 {
            long_files.push(format!("{shown} ({lines})"));
        }
        long_functions
            .extend(functions(&text).into_iter().map(|(name, lines)| format!("{shown}: {name} ({lines})")));
    }
    if long_files.len() > LONG_FILES {
        problems.push(format!(
            "{} files are longer than 400 lines, {LONG_FILES} may be: {}",
            long_files.len(),
            long_files.join(", ")
        ));
    }
    if long_functions.len() > LONG_FUNCTIONS {
        let list = long_functions.join(", ");
        problems.push(format!(
            "{} functions are longer than 70 lines, {LONG_FUNCTIONS} may be: {list}",
            long_functions.len()
        ));
    }
    Ok(problems)
}

/// Functions of more than 70 lines, by the indentation of their braces (the tree is formatted).
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, String, usize)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let trimmed = line.trim_start();
        let is_function =
            ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(super) fn "]
                .iter()
                .any(|head| trimmed.starts_with(head));
        if is_function {
            let name = trimmed
                .split("fn ")
                .nth(1)
                .and_then(|rest| rest.split(['(', '<']).next())
                .unwrap_or_default();
            open.push((indent, name.to_owned(), number));
        } else if trimmed == "}" {
            if let Some((_, name, start)) = open.pop_if(|(at, ..)| *at == indent) {
                let lines = number - start + 1;
                if lines > 70 {
                    found.push((name, lines));
                }
            }
        }
    }
    found
}
