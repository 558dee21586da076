//! Reads a log on, from one file to the next.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::Options;
use crate::collect::logs::{follows, is_compressed};

/// How often a log that is followed is looked at.
const FOLLOW: Duration = Duration::from_millis(100);
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// One line of a log file.
struct Line<'a> {
    time: &'a str,
    /// `stdout` or `stderr`.
    stream: &'a [u8],
    /// The line of the container goes on in the next one.
    partial: bool,
    text: &'a [u8],
}

/// Takes a line (without its end) apart.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = parts.next()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    Some(Line { time, stream, partial: tags.split(|&byte| byte == b':').next() == Some(b"P"), text })
}

/// What is read: a file, and if it is a compressed one, what it held.
struct Source {
    file: std::fs::File,
    unpacked: Option<flate2::read::GzDecoder<std::fs::File>>,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let unpacked = match is_compressed(path) {
            true => Some(flate2::read::GzDecoder::new(file.try_clone()?)),
            false => None,
        };
        Ok(Self { file, unpacked })
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match &mut self.unpacked {
            Some(unpacked) => unpacked.read(chunk),
            None => self.file.read(chunk),
        }
    }
}

pub struct LogReader {
    path: PathBuf,
    source: Source,
    options: Options,
    /// What was read and is no whole line yet.
    pending: Vec<u8>,
    /// Whether a line of the container begins.
    fresh: bool,
    left: usize,
    /// The file that comes after this one, once this one was rotated: what was written before is read first.
    newer: Option<Source>,
}

impl LogReader {
    /// A container's log, from its beginning.
    pub fn open(path: PathBuf, options: Options) -> io::Result<Self> {
        let source = Source { file: std::fs::File::open(&path)?, unpacked: None };
        let left = options.limit.unwrap_or(usize::MAX);
        Ok(Self { path, source, options, pending: Vec::new(), fresh: true, left, newer: None })
    }

    /// Goes to the first line that is wanted.
    pub fn start(&mut self) -> io::Result<()> {
        if let Some(lines) = self.options.tail {
            let offset = tail_offset(&mut self.source.file, lines)?;
            self.source.file.seek(SeekFrom::Start(offset))?;
        }
        Ok(())
    }

    /// The next text; `None` at the end, which for a running container that is followed does not come.
    pub async fn next(&mut self, is_running: &(impl Fn() -> bool + Sync)) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            // Asked before reading: what is written between the two is not missed.
            let goes_on = self.options.follow && is_running();
            let mut chunk = vec![0; CHUNK];
            let count = self.source.read(&mut chunk)?;
            if count > 0 {
                self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default());
                let text = self.lines();
                if !text.is_empty() {
                    return Ok(Some(text));
                }
                continue;
            }
            // What was written between the last read and the rotation is in the old file.
            if let Some(newer) = self.newer.take() {
                self.source = newer;
                continue;
            }
            self.newer = self.rotated()?;
            if self.newer.is_some() {
                continue;
            }
            if !goes_on {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW).await;
        }
    }

    /// The file that was written after this one, if nothing is written to this one any more: of several the oldest that
    /// is still there.
    fn rotated(&self) -> io::Result<Option<Source>> {
        let this = self.source.file.metadata()?;
        if std::fs::metadata(&self.path).is_ok_and(|written| written.ino() == this.ino()) {
            return Ok(None);
        }
        let Some(next) = follows(&self.path, this.modified()?)? else { return Ok(None) };
        let next = match Source::open(&next) {
            Ok(next) => next,
            // It was rotated, compressed or removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let other = next.file.metadata()?;
        // An empty one is there before its writer knows of it.
        Ok(Some(next).filter(|_| other.ino() != this.ino() && other.len() > 0))
    }

    /// The text of the whole lines that were read.
    fn lines(&mut self) -> Vec<u8> {
        let Some(end) = self.pending.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let rest = self.pending.split_off(end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        let mut out = Vec::with_capacity(whole.len());
        for line in whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Some(line) = parse(line) else { continue };
            if self.options.stream.is_some_and(|wanted| wanted.as_bytes() != line.stream) {
                continue;
            }
            let is_old = |since: Timestamp| line.time.parse::<Timestamp>().is_ok_and(|time| time < since);
            if self.options.since.is_some_and(is_old) {
                continue;
            }
            if self.options.timestamps && self.fresh {
                out.extend_from_slice(stamp(line.time).as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
            self.fresh = !line.partial;
        }
        out.truncate(self.left);
        self.left -= out.len();
        out
    }
}

/// A time as it is shown: with nine digits of a second's parts, and `Z` for no offset. Runtimes write fewer digits, and
/// conmon the node's offset, which stays.
fn stamp(time: &str) -> Cow<'_, str> {
    const SECONDS: usize = "2026-01-01T00:00:00".len();
    let Some((seconds, rest)) = time.split_at_checked(SECONDS) else { return time.into() };
    let (digits, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
        None => ("", rest),
    };
    match (digits.len(), offset) {
        (9, "Z") => time.into(),
        (_, "+00:00" | "Z") => format!("{seconds}.{digits:0<9}Z").into(),
        _ => format!("{seconds}.{digits:0<9}{offset}").into(),
    }
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut std::fs::File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut position, mut found) = (end, 0);
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        file.seek(SeekFrom::Start(position))?;
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(&mut chunk)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            let offset = position + index as u64;
            // The end of the last line does not begin another one.
            if *byte == b'\n' && offset + 1 != end {
                found += 1;
                if found == lines {
                    return Ok(offset + 1);
                }
            }
        }
    }
    Ok(0)
}

/// The end of a log: at most so many lines and bytes.
pub fn tail(path: &Path, lines: usize, bytes: u64) -> io::Result<String> {
    let options = Options { tail: Some(lines), ..Options::default() };
    let mut reader = LogReader::open(path.to_owned(), options)?;
    reader.start()?;
    reader.source.file.read_to_end(&mut reader.pending)?;
    let text = reader.lines();
    let skip = text.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(String::from_utf8_lossy(text.get(skip..).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n\
                       2026-01-01T00:00:01Z stderr F o\n2026-01-01T00:00:02Z stdout F three\n";

    async fn read(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut reader = LogReader::open(path, options).unwrap();
        reader.start().unwrap();
        let mut out = Vec::new();
        while let Some(chunk) = reader.next(&|| false).await.unwrap() {
            out.extend(chunk);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn logs_are_what_was_written() {
        assert_eq!(read(Options::default()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { stream: Some("stderr"), ..Options::default() }).await, "two\n");
        assert_eq!(read(Options { tail: Some(1), ..Options::default() }).await, "three\n");
        assert_eq!(read(Options { tail: Some(0), ..Options::default() }).await, "");
        assert_eq!(read(Options { limit: Some(5), ..Options::default() }).await, "one\nt");
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        let options = Options { since, timestamps: true, ..Options::default() };
        assert_eq!(read(options).await, "2026-01-01T00:00:02.000000000Z three\n");
    }

    #[test]
    fn times_are_shown_as_upstream_shows_them() {
        for (written, shown) in [
            ("2026-01-01T00:00:02.123456789Z", "2026-01-01T00:00:02.123456789Z"),
            ("2026-01-01T00:00:02.12Z", "2026-01-01T00:00:02.120000000Z"),
            ("2026-01-01T00:00:02.123456789+00:00", "2026-01-01T00:00:02.123456789Z"),
            ("2026-01-01T00:00:02+02:00", "2026-01-01T00:00:02.000000000+02:00"),
            ("2026", "2026"),
        ] {
            assert_eq!(stamp(written), shown);
        }
    }

    #[tokio::test]
    async fn a_log_that_is_followed_goes_on_in_its_next_file() {
        use std::io::Write;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:00Z stdout F one\n").unwrap();
        let mut writer = std::fs::File::options().append(true).open(&path).unwrap();
        let mut reader =
            LogReader::open(path.clone(), Options { follow: true, ..Options::default() }).unwrap();
        reader.start().unwrap();
        assert_eq!(reader.next(&|| true).await.unwrap().unwrap(), b"one\n");
        // It saw the end of the file; then all this happens at once.
        writer.write_all(b"2026-01-01T00:00:02Z stdout F three\n").unwrap();
        std::fs::rename(&path, dir.path().join("0.log.20260101-000003")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:04Z stdout F four\n").unwrap();
        reader.newer = reader.rotated().unwrap();
        assert_eq!(reader.next(&|| false).await.unwrap().unwrap(), b"three\n");
        assert_eq!(reader.next(&|| false).await.unwrap().unwrap(), b"four\n");
        assert_eq!(reader.next(&|| false).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_log_that_was_rotated_several_times_meanwhile_is_read_whole() {
        use std::io::Write;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let now = std::time::SystemTime::UNIX_EPOCH;
        // Each file was written last a second after the one before.
        let write = |path: &Path, second: u32, packed: bool| {
            let line = format!("2026-01-01T00:00:0{second}Z stdout F {second}\n");
            let mut file = std::fs::File::create(path).unwrap();
            if packed {
                let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
                packer.write_all(line.as_bytes()).unwrap();
                packer.finish().unwrap();
            } else {
                file.write_all(line.as_bytes()).unwrap();
            }
            file.set_modified(now + Duration::from_secs(second.into())).unwrap();
        };
        write(&path, 1, false);
        let mut reader =
            LogReader::open(path.clone(), Options { follow: true, ..Options::default() }).unwrap();
        reader.start().unwrap();
        assert_eq!(reader.next(&|| true).await.unwrap().unwrap(), b"1\n");
        std::fs::remove_file(&path).unwrap();
        write(&dir.path().join("0.log.20260101-000002.gz"), 2, true);
        write(&dir.path().join("0.log.20260101-000002.000000005"), 3, false);
        // It is there, and its writer does not know it yet.
        std::fs::File::create(&path).unwrap();
        for expected in [b"2\n", b"3\n"] {
            assert_eq!(reader.next(&|| false).await.unwrap().unwrap(), expected);
        }
        assert!(reader.rotated().unwrap().is_none());
        write(&path, 4, false);
        assert_eq!(reader.next(&|| false).await.unwrap().unwrap(), b"4\n");
        assert_eq!(reader.next(&|| false).await.unwrap(), None);
    }
}
