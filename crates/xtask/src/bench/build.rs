//! A clean debug build of everything, tests included.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::image::run;
use super::table::{Limit, Line, OURS};

/// Builds into a directory of its own, and says how long it took.
///
/// # Errors
/// When it does not build.
pub(super) fn clean(root: &Path) -> Result<Line> {
    let dir = tempfile::tempdir()?;
    let arguments = ["build", "--workspace", "--all-targets", "--quiet", "--target-dir"];
    let since = Instant::now();
    run(Command::new("cargo").args(arguments).arg(dir.path()).current_dir(root))?;
    let minutes = since.elapsed().as_secs_f64() / 60.0;
    let about = ("clean-build", "clean debug build of everything, tests included but not run");
    Ok(Line::new(about, &[("min", Limit::AtMost(15.0))], &[(OURS, vec![vec![("min", minutes)]])], Vec::new()))
}
