//! Hands a volume over to the pod's group (`fsGroup`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::Cause;

/// What the group may do with files, and with directories.
const FILE: u32 = 0o660;
const DIRECTORY: u32 = 0o2770;

/// Gives all of a volume to a group. With `lazily`, a volume whose root is right is taken to be right.
pub fn hand_over(root: &Path, group: i64, lazily: bool) -> Result<(), Cause> {
    let Ok(group) = u32::try_from(group) else { return Ok(()) };
    let metadata = fs::metadata(root).map_err(Cause::io(root))?;
    let right = metadata.gid() == group && metadata.mode() & DIRECTORY == DIRECTORY;
    if lazily && right || !metadata.is_dir() {
        return Ok(());
    }
    // Children first: a root that is right means that all below it is.
    let mut folders = vec![root.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(&folder).map_err(Cause::io(&folder))? {
            let entry = entry.map_err(Cause::io(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(Cause::io(&folder))?);
            match kind.is_dir() {
                true => folders.push(path),
                false => give(&path, group, kind.is_symlink(), FILE)?,
            }
        }
    }
    folders.iter().rev().try_for_each(|folder| give(folder, group, false, DIRECTORY))
}

fn give(path: &Path, group: u32, is_link: bool, mode: u32) -> Result<(), Cause> {
    lchown(path, None, Some(group)).map_err(Cause::io(path))?;
    if is_link {
        return Ok(());
    }
    let now = fs::metadata(path).map_err(Cause::io(path))?.mode() & 0o7777;
    fs::set_permissions(path, fs::Permissions::from_mode(now | mode)).map_err(Cause::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_volume_is_the_groups_and_links_are_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("v"), dir.path().join("outside"));
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "").unwrap();
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        hand_over(&root, 2000, false).unwrap();
        let of = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.gid(), metadata.mode() & 0o7777)
        };
        assert_eq!(of(&root.join("d")).0, 2000);
        assert_eq!(of(&root.join("d")).1 & DIRECTORY, DIRECTORY);
        assert_eq!((of(&root.join("d/f")).0, of(&root.join("d/f")).1 & FILE), (2000, FILE));
        assert_eq!(of(&outside), (0, 0o600));
        fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o400)).unwrap();
        hand_over(&root, 2000, true).unwrap();
        assert_eq!(of(&root.join("d/f")).1, 0o400, "a root that is right is enough");
    }
}
