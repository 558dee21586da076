//! Paths inside volumes, which a container may have filled with links that lead elsewhere.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Cause;

/// The real path of `sub` inside `volume`; directories that are missing are made.
pub fn resolve(volume: &Path, sub: &str) -> Result<PathBuf, Cause> {
    let escapes = || Cause::Escapes(sub.to_owned());
    if Path::new(sub).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(escapes());
    }
    let root = fs::canonicalize(volume).map_err(Cause::io(volume))?;
    let mut path = root.clone();
    for part in Path::new(sub).components() {
        let Component::Normal(part) = part else { continue };
        let next = path.join(part);
        path = match fs::canonicalize(&next) {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A link that leads nowhere is not followed by making what it names.
                fs::create_dir(&next).map_err(Cause::io(&next))?;
                next
            }
            Err(error) => return Err(Cause::Io { path: next, source: error }),
        };
        if !path.starts_with(&root) {
            return Err(escapes());
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("a", volume.join("in")).unwrap();
        let root = fs::canonicalize(&volume).unwrap();
        assert_eq!(resolve(&volume, "in/b").unwrap(), root.join("a/b"));
        assert!(root.join("a/b").is_dir());
        for bad in ["out", "out/etc", "../x", "/etc", "a/../../x"] {
            assert!(matches!(resolve(&volume, bad), Err(Cause::Escapes(_))), "{bad}");
        }
    }
}
