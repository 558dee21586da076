//! `/containerLogs`: the runtime's log files, whose lines are `TIME STREAM TAG TEXT`, back to what was written.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::{Body, Refusal, Server, full};
use crate::pods::log_directory;
use crate::pods::observed::State;

/// How often a log that is followed is looked at.
const FOLLOW: Duration = Duration::from_millis(100);
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub limit: Option<usize>,
    /// `stdout` or `stderr` alone. KEP-3288.
    pub stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for (key, value) in query {
            let flag = matches!(value.as_str(), "true" | "1" | "");
            let wrong = || Refusal::bad_request(format!("invalid value {value:?} of {key}"));
            match key.as_str() {
                "follow" => options.follow = flag,
                "previous" => options.previous = flag,
                "timestamps" => options.timestamps = flag,
                "tailLines" => options.tail = Some(value.parse().map_err(|_| wrong())?),
                "limitBytes" => options.limit = Some(value.parse().map_err(|_| wrong())?),
                "sinceSeconds" => {
                    let seconds = SignedDuration::from_secs(value.parse().map_err(|_| wrong())?);
                    options.since = Some(now.checked_sub(seconds).map_err(|_| wrong())?);
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| wrong())?),
                "stream" => {
                    options.stream = match value.as_str() {
                        "Stdout" => Some("stdout"),
                        "Stderr" => Some("stderr"),
                        "All" | "" => None,
                        _ => return Err(invalid()),
                    }
                }
                _ => {}
            }
        }
        // How many lines of one stream the end of a file has is not known before they are read.
        if options.stream.is_some() && options.tail.is_some() {
            return Err(invalid());
        }
        Ok(options)
    }
}

/// Upstream's words for parameters that it understands and does not accept.
fn invalid() -> Refusal {
    Refusal(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#.to_owned())
}

/// Answers a request for a container's log.
pub async fn handle(
    server: &Server,
    (namespace, name, container): (&str, &str, &str),
    query: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let options = Options::parse(query, server.shared.config.clock.now())?;
    let handle = server
        .pods
        .find(namespace, name)
        .ok_or_else(|| Refusal::not_found(format!("pod {name:?} not found")))?;
    let observed = handle.observed.lock().clone();
    let status = handle.memory.lock().status.clone().or_else(|| handle.pod().status.clone());
    let wanted = if options.previous {
        let id = last_ended(status.as_ref(), container).ok_or_else(|| {
            Refusal::bad_request(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            ))
        })?;
        let found =
            observed.containers.iter().find(|one| id.split_once("://").is_some_and(|(_, id)| one.id == id));
        let Some(found) = found else {
            // The runtime forgot it. Upstream has begun its answer by then, and says it there.
            return Ok(Response::new(full(format!("unable to retrieve container logs for {id}"))));
        };
        found
    } else {
        let mut instances = observed.instances(container);
        instances.find(|instance| instance.state != State::Created).ok_or_else(|| {
            let why = why_waiting(status.as_ref(), container);
            Refusal::bad_request(format!(
                "container {container:?} in pod {name:?} is waiting to start: {why}"
            ))
        })?
    };
    let pod = handle.pod();
    let path = log_directory(&server.shared, &pod).join(container).join(format!("{}.log", wanted.restarts));
    let id = wanted.id.clone();
    let mut reader = LogReader::open(path, options).map_err(Refusal::internal)?;
    let is_running = move || {
        let observed = handle.observed.lock().clone();
        observed.containers.iter().any(|c| c.id == id && c.state == State::Running) && !handle.is_removed()
    };
    reader.start().map_err(Refusal::internal)?;
    let chunks = stream::unfold((reader, is_running), |(mut reader, is_running)| async move {
        let chunk = reader.next(&is_running).await.transpose()?;
        Some((chunk.map(|bytes| Frame::data(Bytes::from(bytes))), (reader, is_running)))
    });
    Response::builder()
        .header("content-type", "text/plain")
        .body(StreamBody::new(chunks).boxed_unsync())
        .map_err(Refusal::internal)
}

fn status_of<'a>(status: Option<&'a PodStatus>, container: &str) -> Option<&'a ContainerStatus> {
    let lists = status.into_iter().flat_map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    lists.flatten().flatten().find(|status| status.name == container)
}

/// The id of the container that ended last, before the one that the status is about. One that waits to be started again
/// is not there yet, so that this is the newest.
fn last_ended<'a>(status: Option<&'a PodStatus>, container: &str) -> Option<&'a str> {
    let ended = status_of(status, container)?.last_state.as_ref()?.terminated.as_ref()?;
    ended.container_id.as_deref().filter(|id| !id.is_empty())
}

/// What a container that has no log yet waits for, in upstream's words.
fn why_waiting(status: Option<&PodStatus>, container: &str) -> String {
    let found = status_of(status, container);
    let waiting = found.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    match waiting {
        Some("ErrImagePull") => "image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "trying and failing to pull image".to_owned(),
        reason => reason.unwrap_or("ContainerCreating").to_owned(),
    }
}

/// One line of a log file.
pub struct Line<'a> {
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a [u8],
    /// The line of the container goes on in the next one.
    pub partial: bool,
    pub text: &'a [u8],
}

/// Takes a line (without its end) apart.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = parts.next()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    Some(Line { time, stream, partial: tags.split(|&byte| byte == b':').next() == Some(b"P"), text })
}

struct LogReader {
    path: PathBuf,
    file: std::fs::File,
    options: Options,
    /// What was read and is no whole line yet.
    pending: Vec<u8>,
    /// Whether a line of the container begins.
    fresh: bool,
    left: usize,
    /// The file that is written now, once this one was rotated: what was written before is read first.
    newer: Option<std::fs::File>,
}

impl LogReader {
    fn open(path: PathBuf, options: Options) -> io::Result<Self> {
        let file = std::fs::File::open(&path)?;
        let left = options.limit.unwrap_or(usize::MAX);
        Ok(Self { path, file, options, pending: Vec::new(), fresh: true, left, newer: None })
    }

    /// Goes to the first line that is wanted.
    fn start(&mut self) -> io::Result<()> {
        if let Some(lines) = self.options.tail {
            let offset = tail_offset(&mut self.file, lines)?;
            self.file.seek(SeekFrom::Start(offset))?;
        }
        Ok(())
    }

    /// The next text; `None` at the end, which for a running container that is followed does not come.
    async fn next(&mut self, is_running: &(impl Fn() -> bool + Sync)) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            // Asked before reading: what is written between the two is not missed.
            let goes_on = self.options.follow && is_running();
            let mut chunk = vec![0; CHUNK];
            let count = self.file.read(&mut chunk)?;
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
                self.file = newer;
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

    /// The file that is written now, if it is another one.
    fn rotated(&self) -> io::Result<Option<std::fs::File>> {
        use std::os::unix::fs::MetadataExt;
        let now = match std::fs::File::open(&self.path) {
            Ok(now) => now,
            // The runtime was not told yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_new = now.metadata()?.ino() != self.file.metadata()?.ino();
        Ok(Some(now).filter(|_| is_new))
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
                out.extend_from_slice(line.time.as_bytes());
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
    reader.file.read_to_end(&mut reader.pending)?;
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
        assert_eq!(read(options).await, "2026-01-01T00:00:02Z three\n");
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
}
