//! What is in the image so far: enough of it to know what is a folder and where links lead.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::fault::Fault;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Missing,
    /// A folder.
    Folder,
    /// A file or what counts as one.
    File,
    /// A link, with where it leads.
    Link(PathBuf),
}

/// The layers of the base, unpacked, and what was put over them.
#[derive(Debug)]
pub struct Tree {
    /// The topmost first.
    layers: Vec<PathBuf>,
    made: BTreeMap<PathBuf, Kind>,
}

impl Tree {
    /// Of a base's layers, the topmost first.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self { layers, made: BTreeMap::new() }
    }

    /// Remembers what a new layer brings.
    pub fn put(&mut self, path: PathBuf, kind: Kind) {
        self.made.insert(path, kind);
    }

    /// What is at a path without links in its folders, relative to the root.
    pub fn kind(&self, path: &Path) -> Result<Kind, Fault> {
        if path.as_os_str().is_empty() {
            return Ok(Kind::Folder);
        }
        if let Some(kind) = self.made.get(path) {
            return Ok(kind.clone());
        }
        for layer in &self.layers {
            let place = layer.join(path);
            match fs::symlink_metadata(&place) {
                // Removed by this layer, as an overlay says it.
                Ok(found) if found.file_type().is_char_device() && found.rdev() == 0 => {
                    return Ok(Kind::Missing);
                }
                Ok(found) if found.is_dir() => return Ok(Kind::Folder),
                Ok(found) if found.is_symlink() => {
                    return fs::read_link(&place).map(Kind::Link).map_err(Fault::read(&place));
                }
                Ok(_) => return Ok(Kind::File),
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {}
                Err(error) => return Err(Fault::read(&place)(error)),
            }
        }
        Ok(Kind::Missing)
    }

    /// Follows every link of a path, relative to the root; what is missing stays as it is.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, Fault> {
        let mut left: Vec<PathBuf> = parts(path);
        let mut out = PathBuf::new();
        // As many links as the kernel would follow.
        let mut links = 40;
        while let Some(part) = left.pop() {
            if part.as_os_str() == ".." {
                out.pop();
                continue;
            }
            let next = out.join(&part);
            match self.kind(&next)? {
                Kind::Link(_) if links == 0 => {
                    let path = path.display().to_string();
                    return Err(Fault::Source { path, reason: "too many links in the image" });
                }
                Kind::Link(target) => {
                    links -= 1;
                    if target.is_absolute() {
                        out = PathBuf::new();
                    }
                    left.extend(parts(&target));
                }
                _ => out = next,
            }
        }
        Ok(out)
    }
}

/// The last first; without the root and `.`.
fn parts(path: &Path) -> Vec<PathBuf> {
    let wanted = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    wanted.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_within_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high) = (dir.path().join("low"), dir.path().join("high"));
        fs::create_dir_all(low.join("usr/bin")).unwrap();
        fs::create_dir_all(&high).unwrap();
        symlink("usr/bin", low.join("bin")).unwrap();
        symlink("/run", low.join("var")).unwrap();
        symlink("loop", high.join("loop")).unwrap();
        fs::write(high.join("file"), "").unwrap();
        let mut tree = Tree::new(vec![high, low]);
        assert_eq!(tree.resolve(Path::new("/bin/sh")).unwrap(), Path::new("usr/bin/sh"));
        assert_eq!(tree.resolve(Path::new("/var/x")).unwrap(), Path::new("run/x"));
        assert_eq!(tree.resolve(Path::new("/bin/../../..")).unwrap(), Path::new(""));
        assert!(tree.resolve(Path::new("/loop")).is_err());
        assert_eq!(tree.kind(Path::new("usr")).unwrap(), Kind::Folder);
        assert_eq!(tree.kind(Path::new("file/x")).unwrap(), Kind::Missing);
        tree.put("usr".into(), Kind::File);
        assert_eq!(tree.kind(Path::new("usr")).unwrap(), Kind::File);
    }
}
