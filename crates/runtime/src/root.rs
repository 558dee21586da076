//! Whether the folder below which records are kept is the one that the pods of this machine were made from.
//!
//! It may be on a disk of its own. A runtime that is started without that disk would find an empty folder, take all
//! pods for somebody's left-overs and clear them away; so both folders hold the same mark.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::state;

const MARK: &str = "root-id";

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is another one.
    #[error(
        "{} is not the folder that the pods in {} were made from: mount its disk again, or remove {} to go on without those pods",
        root.display(), run.display(), run.join(MARK).display()
    )]
    Another {
        /// Where records are kept.
        root: PathBuf,
        /// Where the pods are.
        run: PathBuf,
    },
    /// The mark cannot be read or written.
    #[error("the mark {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Looks whether the folders belong together; marks those that nobody has used yet.
///
/// # Errors
/// [`RootError`].
pub fn claim(config: &Config) -> Result<(), RootError> {
    let (root, run) = (config.root.join(MARK), config.run_dir.join(MARK));
    match (read(&root)?, read(&run)?) {
        (Some(root), Some(run)) if root == run => Ok(()),
        (_, Some(_)) => Err(RootError::Another { root: config.root.clone(), run: config.run_dir.clone() }),
        // The machine was started anew, or the pods were.
        (Some(id), None) => write(&run, &id),
        (None, None) => {
            let id = config.random.uuid();
            write(&root, &id)?;
            write(&run, &id)
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, RootError> {
    match fs::read_to_string(path) {
        // One that was cut off says nothing.
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RootError::Io { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, id: &str) -> Result<(), RootError> {
    state::replace(path, id.as_bytes()).map_err(|source| RootError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_again_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("root"), dir.path().join("run"));
        fs::create_dir(&config.root).unwrap();
        fs::create_dir(&config.run_dir).unwrap();
        claim(&config).unwrap();
        claim(&config).unwrap();
        // The machine was started anew.
        fs::remove_file(config.run_dir.join(MARK)).unwrap();
        claim(&config).unwrap();
        fs::remove_file(config.root.join(MARK)).unwrap();
        assert!(matches!(claim(&config), Err(RootError::Another { .. })));
        fs::write(config.root.join(MARK), "another").unwrap();
        assert!(matches!(claim(&config), Err(RootError::Another { .. })));
        fs::remove_file(config.run_dir.join(MARK)).unwrap();
        claim(&config).unwrap();
    }
}
