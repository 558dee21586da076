//! Files that are there whole or not at all.

use std::fs;
use std::path::Path;

use crate::error::{Doing, Result};

/// Writes a file anew by way of `new`, a name beside it: what a killed process leaves half written there is written
/// over by the next.
pub(crate) fn replace(path: &Path, new: &Path, text: &str) -> Result<()> {
    fs::write(new, text).doing(|| format!("writing {}", new.display()))?;
    fs::rename(new, path).doing(|| format!("writing {}", path.display()))
}
