//! Replaces all files of a volume at once, as readers see it.
//!
//! ```text
//! ..2026_01_02_03_04_05.678901234/   the files
//! ..data -> ..2026_…                 renamed into place: this is the moment
//! name -> ..data/name                one link for the first part of each path
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use base::failpoint;
use jiff::Timestamp;

/// A file's content, mode and, if it is not the kubelet's, owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

/// The files of a volume by their path in it.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `dir` hold exactly `files`. Nothing is touched when it does already.
pub fn write(dir: &Path, files: &Files, group: Option<i64>, now: Timestamp) -> io::Result<()> {
    let group = group.and_then(|group| u32::try_from(group).ok());
    fs::set_permissions(dir, fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }))?;
    if let Some(group) = group {
        chown(dir, None, Some(group))?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    let same = match &current {
        Some(current) => match is_same(&dir.join(current), files) {
            // Somebody removed what the link names, or removes it just now: it is written anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            other => other?,
        },
        None => false,
    };
    let name = match current.filter(|_| same) {
        Some(current) => current.into_os_string(),
        None => put_all(dir, files, group, now)?.into(),
    };
    // Also where the files are right already: whoever wrote them may have been killed before this.
    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(format!("{DATA}/{top}"), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let (entry, is_current) = entry.map(|entry| (entry.path(), entry.file_name() == *name))?;
        let file_name = entry.file_name().unwrap_or_default().to_string_lossy();
        if is_current || file_name == DATA || tops.contains(&*file_name) {
            continue;
        }
        if fs::symlink_metadata(&entry)?.is_dir() {
            fs::remove_dir_all(&entry)?
        } else {
            fs::remove_file(&entry)?
        }
    }
    Ok(())
}

/// Writes the files into a folder of their own, and makes it the one that counts; its name.
fn put_all(dir: &Path, files: &Files, group: Option<u32>, now: Timestamp) -> io::Result<String> {
    let name = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let fresh = dir.join(&name);
    fs::create_dir(&fresh)?;
    if let Some(group) = group {
        chown(&fresh, None, Some(group))?;
    }
    // Folders below it are of the same group for the same reason.
    let mode = if group.is_some() { 0o2755 } else { 0o755 };
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    for (path, file) in files {
        put(&fresh, path, file, group)?;
    }
    failpoint::hit("kubelet.volume.files_written");
    let temporary = dir.join(NEW_DATA);
    super::absent_is_fine(fs::remove_file(&temporary))?;
    symlink(&name, &temporary)?;
    failpoint::hit("kubelet.volume.link_made");
    fs::rename(&temporary, dir.join(DATA))?;
    failpoint::hit("kubelet.volume.link_moved");
    Ok(name)
}

fn put(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &file.content)?;
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    if file.owner.is_some() || group.is_some() {
        chown(&target, file.owner, group)?;
    }
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
}

fn is_same(current: &Path, files: &Files) -> io::Result<bool> {
    let mut found = 0;
    let mut waiting = vec![current.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(current).unwrap_or(&path).to_string_lossy().into_owned();
            let Some(file) = files.get(&name) else { return Ok(false) };
            // Of the mode only what does not depend on the group counts.
            if entry.metadata()?.mode() & 0o337 != file.mode & 0o337 || fs::read(&path)? != file.content {
                return Ok(false);
            }
            found += 1;
        }
    }
    Ok(found == files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> Files {
        let file = |content: &str, mode| File { content: content.into(), mode, owner: None };
        list.iter().map(|(path, content, mode)| ((*path).to_owned(), file(content, *mode))).collect()
    }

    #[test]
    fn files_are_replaced_together_and_left_alone_when_equal() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let at = |second| Timestamp::from_second(second).unwrap();
        write(root, &files(&[("a", "1", 0o644), ("d/b", "2", 0o400)]), None, at(1)).unwrap();
        assert_eq!(fs::read_to_string(root.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(root.join("d/b")).unwrap().mode() & 0o777, 0o400);
        let before = fs::read_link(root.join(DATA)).unwrap();
        write(root, &files(&[("a", "1", 0o644), ("d/b", "2", 0o400)]), None, at(2)).unwrap();
        assert_eq!(fs::read_link(root.join(DATA)).unwrap(), before);
        write(root, &files(&[("a", "3", 0o644)]), None, at(3)).unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "3");
        let mut left: Vec<_> =
            fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["..1970_01_01_00_00_03.000000000", "..data", "a"]);
    }

    #[test]
    fn folders_of_a_group_hand_it_on() {
        let dir = tempfile::tempdir().unwrap();
        let group = i64::from(nix::unistd::getegid().as_raw());
        let at = Timestamp::from_second(1).unwrap();
        write(dir.path(), &files(&[("d/e/b", "2", 0o400)]), Some(group), at).unwrap();
        let of = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
        for folder in [".", "..data/.", "d", "d/e"] {
            assert_eq!(of(folder) & 0o2000, 0o2000, "{folder}");
        }
        assert_eq!(of("d/e/b"), 0o440);
    }

    #[test]
    fn what_a_killed_writer_did_not_come_to_is_done_later() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let wanted = files(&[("a", "1", 0o644), ("d/b", "2", 0o400)]);
        let at = |second| Timestamp::from_second(second).unwrap();
        // Killed between moving the link and making those that lead to it, after another one had not come so far.
        put_all(root, &wanted, None, at(1)).unwrap();
        fs::create_dir(root.join("..1970_01_01_00_00_00.000000000")).unwrap();
        write(root, &wanted, None, at(2)).unwrap();
        assert_eq!(fs::read_to_string(root.join("d/b")).unwrap(), "2");
        let mut left: Vec<_> =
            fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["..1970_01_01_00_00_01.000000000", "..data", "a", "d"]);
    }

    #[test]
    fn what_somebody_removed_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = files(&[("a", "1", 0o644)]);
        let at = |second| Timestamp::from_second(second).unwrap();
        write(dir.path(), &wanted, None, at(1)).unwrap();
        fs::remove_dir_all(dir.path().join(fs::read_link(dir.path().join(DATA)).unwrap())).unwrap();
        write(dir.path(), &wanted, None, at(2)).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
    }
}
