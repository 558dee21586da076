//! The files of one log: `0.log`, which is written, and old ones such as `0.log.20260102-150405` and
//! `0.log.20260102-150405.gz`.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

/// How much is compressed before it is looked whether anybody still wants it.
const PIECE: u64 = 1 << 20;

/// The name that a log gets now. What is written faster than a second's name allows for has a longer one.
pub fn rotated(path: &Path, now: Timestamp) -> PathBuf {
    let second = with(path, &now.strftime(".%Y%m%d-%H%M%S").to_string());
    if second.exists() || with(&second, ".gz").exists() {
        return with(&second, &format!(".{:09}", now.subsec_nanosecond()));
    }
    second
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a file is a compressed one.
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// All of a log's files but the one that is written: the old ones, the oldest first, and what is half made.
///
/// # Errors
/// When the folder cannot be read.
fn list(path: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Default::default()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    let (half, mut old): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| path.extension().is_some_and(|e| e == "tmp"));
    let stem = |path: &PathBuf| match is_compressed(path) {
        true => path.with_extension("").into_os_string(),
        false => path.clone().into_os_string(),
    };
    old.sort_by_key(stem);
    // Whoever was killed between compressing one and removing it left both.
    let compressed: Vec<OsString> = old.iter().filter(|path| is_compressed(path)).map(stem).collect();
    let (twice, old) = old.into_iter().partition(|path| compressed.contains(&path.clone().into_os_string()));
    Ok((old, [half, twice].concat()))
}

/// Removes all old logs but the newest `keep`.
///
/// # Errors
/// When one cannot be removed.
pub fn retain(path: &Path, keep: usize) -> io::Result<()> {
    let (old, _) = list(path)?;
    old.iter().take(old.len().saturating_sub(keep)).try_for_each(|path| {
        if is_compressed(path) {
            remove(&path.with_extension(""))?;
        }
        remove(path)
    })
}

/// Removes a log, and all that was of it.
///
/// # Errors
/// When one of the files cannot be removed.
pub fn forget(path: &Path) -> io::Result<()> {
    match list(path) {
        Ok((old, half)) => old.iter().chain(&half).try_for_each(|path| remove(path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    remove(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Compresses all old logs but the newest, which somebody may still read, and removes what an earlier run left half
/// done. Meanwhile others may remove what there is, and add to it.
///
/// # Errors
/// When one cannot be read, written or removed.
pub fn compress_old(path: &Path) -> io::Result<()> {
    let (mut old, half) = list(path)?;
    half.iter().try_for_each(|path| remove(path))?;
    old.pop();
    old.iter().filter(|path| !is_compressed(path)).try_for_each(|path| compress(path))
}

fn compress(path: &Path) -> io::Result<()> {
    let mut from = match File::open(path) {
        Ok(from) => from,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let before = from.metadata()?;
    let temporary = with(path, ".tmp");
    let done = squeeze(&mut from, &temporary, &before);
    let done = match done {
        Ok(true) => {
            let compressed = with(path, ".gz");
            fs::rename(&temporary, &compressed)?;
            fs::remove_file(path).or_else(|error| match error.kind() {
                // It became surplus meanwhile.
                io::ErrorKind::NotFound => remove(&compressed),
                _ => Err(error),
            })
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    // Where it was renamed there is none.
    remove(&temporary).and(done)
}

/// Writes a compressed copy, as old as what it is of. False when that was removed meanwhile.
fn squeeze(from: &mut File, to: &Path, of: &fs::Metadata) -> io::Result<bool> {
    let out = File::options().write(true).create(true).truncate(true).mode(of.mode() & 0o777).open(to)?;
    let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    while io::copy(&mut from.take(PIECE), &mut out)? > 0 {
        if from.metadata()?.nlink() == 0 {
            return Ok(false);
        }
    }
    out.flush()?;
    let out = out.finish()?;
    out.set_times(FileTimes::new().set_modified(of.modified()?))?;
    out.sync_all()?;
    Ok(true)
}

/// The oldest file of a log that was written after one that was written last at `end`; the one that is written now when
/// there is no older one. `None` while the log has no file that is written, as between the two steps of its rotation.
///
/// # Errors
/// When the folder cannot be read.
pub fn follows(path: &Path, end: SystemTime) -> io::Result<Option<PathBuf>> {
    let mut later = Vec::new();
    for old in list(path)?.0 {
        match fs::metadata(&old).and_then(|file| file.modified()) {
            Ok(written) if written > end => later.push((written, old)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match later.into_iter().min() {
        Some((_, old)) => Ok(Some(old)),
        None => Ok(path.exists().then(|| path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn old_logs_are_compressed_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for (suffix, text) in [
            ("", "now"),
            (".20260101-000000", "a"),
            (".20260102-000000", "b"),
            (".20260102-000000.5", "c"),
            (".20260103-000000", "d"),
            (".20260103-000000.gz", "D"),
            (".20260104-000000", "e"),
            (".20260104-000000.tmp", ""),
        ] {
            fs::write(dir.path().join(format!("0.log{suffix}")), text).unwrap();
        }
        retain(&log, 4).unwrap();
        compress_old(&log).unwrap();
        let left =
            ["", ".20260102-000000.5.gz", ".20260102-000000.gz", ".20260103-000000.gz", ".20260104-000000"];
        assert_eq!(names(dir.path()), left.map(|suffix| format!("0.log{suffix}")));
        let mut text = String::new();
        let file = File::open(dir.path().join("0.log.20260102-000000.5.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "c");
        // The longer name is the later one, compressed or not.
        retain(&log, 3).unwrap();
        assert!(!names(dir.path()).contains(&"0.log.20260102-000000.gz".to_owned()));
        retain(&log, 0).unwrap();
        assert_eq!(names(dir.path()), ["0.log"]);
    }

    #[test]
    fn rotations_within_a_second_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let now = Timestamp::new(0, 7).unwrap();
        let first = rotated(&log, now);
        assert_eq!(first.file_name().unwrap(), "0.log.19700101-000000");
        fs::write(with(&first, ".gz"), "").unwrap();
        assert_eq!(rotated(&log, now).file_name().unwrap(), "0.log.19700101-000000.000000007");
    }

    #[test]
    fn what_is_removed_while_it_is_compressed_stays_removed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log.20260101-000000");
        fs::write(&log, "text").unwrap();
        let (mut from, of) = (File::open(&log).unwrap(), fs::metadata(&log).unwrap());
        fs::remove_file(&log).unwrap();
        assert!(!squeeze(&mut from, &with(&log, ".tmp"), &of).unwrap());
    }
}
