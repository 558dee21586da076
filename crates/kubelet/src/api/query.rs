//! `/logs/?query=…` (KEP-2258): what services of the node wrote to the journal, or to files below `/var/log`.
//!
//! Reading a question and judging it is pure; it is answered by `journalctl`, as upstream does, or from the files.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;
use tokio::time::Instant;

use super::files::{CHUNK, ROOT, Source, all, below};
use super::{Body, Refusal, full};

/// Upstream's limits.
const MOST_LINES: i64 = 100_000;
const MOST_SERVICES: usize = 4;
const LONGEST_NAME: usize = 256;
/// How long the journal has to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    services: Vec<String>,
    files: Vec<String>,
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Options {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    lines: Option<i64>,
    boot: Option<i64>,
    pattern: String,
}

/// An error as the API machinery writes that of a field.
fn invalid(field: &str, value: &str, why: &str) -> String {
    format!("{field}: Invalid value: {value:?}: {why}")
}

/// Errors as Go's aggregate is written.
fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

impl Question {
    /// Reads the parameters of a request; nothing if none of them asks for anything.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(query: &[(String, String)]) -> Result<Option<Self>, String> {
        let (mut question, mut errors) = (Self::default(), Vec::new());
        let all: Vec<&str> =
            query.iter().filter(|(key, _)| key == "query").map(|(_, value)| value.as_str()).collect();
        for text in &all {
            // A slash hints at a file; a file of the top folder is found by its name as well.
            match text.contains(['/', '\\']) {
                true => question.files.push((*text).to_owned()),
                false if !text.trim().is_empty() => question.services.push((*text).to_owned()),
                false => {}
            }
        }
        if !all.is_empty() && question.files.is_empty() && question.services.is_empty() {
            errors.push(invalid("query", &format!("[{}]", all.join(" ")), "query cannot be empty"));
        }
        let first = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            found.filter(|value| !value.is_empty())
        };
        let mut time = |name: &str| {
            let text = first(name)?;
            let parsed = text.parse::<Timestamp>();
            parsed.map_err(|_| errors.push(invalid(name, text, "invalid time format"))).ok()
        };
        let (since, until) = (time("sinceTime"), time("untilTime"));
        let mut number = |name: &str| {
            let text = first(name)?;
            let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
            text.parse::<i64>().map_err(|_| errors.push(invalid(name, text, &why))).ok()
        };
        let (boot, lines) = (number("boot"), number("tailLines"));
        let pattern = first("pattern").unwrap_or_default().to_owned();
        question.options = Options { since, until, lines, boot, pattern };
        match errors.is_empty() {
            false => Err(aggregate(&errors)),
            true => Ok(Some(question).filter(|question| *question != Self::default())),
        }
    }

    /// Judges it; `exists` says whether a file below the folder of logs is there.
    ///
    /// # Errors
    /// What cannot be answered.
    pub fn check(&self, exists: impl Fn(&str) -> bool) -> Result<(), String> {
        let mut errors = Vec::new();
        for service in &self.services {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
            if service.len() > LONGEST_NAME {
                errors.push(invalid("query", service, &format!("length must be less than {LONGEST_NAME}")));
            } else if !service.chars().all(safe) {
                errors.push(invalid("query", service, "input contains unsupported characters"));
            }
        }
        if self.services.len() > MOST_SERVICES {
            let count = self.services.len();
            errors.push(format!("query: Too many: {count}: must have at most {MOST_SERVICES} items"));
        }
        let list = |items: &[String]| format!("[{}]", items.join(" "));
        match (self.files.as_slice(), self.services.as_slice()) {
            ([], []) => errors.push("query: Required value: cannot be empty with options".to_owned()),
            ([_, ..], [_, ..]) => {
                let both = format!("{}, {}", list(&self.files), list(&self.services));
                errors.push(invalid("query", &both, "cannot specify a file and service"));
            }
            ([_, _, ..], []) => {
                errors.push(invalid("query", &list(&self.files), "cannot specify more than one file"));
            }
            ([_], []) if self.options != Options::default() => {
                errors.push(invalid("query", &list(&self.files), "cannot specify file with options"));
            }
            ([file], []) if !exists(file) => {
                let why = format!("statat {}: no such file or directory", file.trim_start_matches('/'));
                errors.push(invalid("query", &list(&self.files), &why));
            }
            _ => {}
        }
        self.options.check(&mut errors);
        if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
    }

    /// The one file that is asked for.
    pub fn file(&self) -> Option<String> {
        // Clients on Windows write it so.
        self.files.first().map(|file| format!("/{}", file.replace('\\', "/")))
    }
}

impl Options {
    fn check(&self, errors: &mut Vec<String>) {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            errors.push(invalid("untilTime", &until.to_string(), "must be after `sinceTime`"));
        }
        if let Some(boot) = self.boot.filter(|boot| *boot > 0) {
            errors.push(format!("boot: Invalid value: {boot}: must be less than 1"));
        }
        if let Some(lines) = self.lines.filter(|lines| !(0..=MOST_LINES).contains(lines)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            errors.push(format!("tailLines: Invalid value: {lines}: {why}"));
        }
        if let Err(error) = regex::Regex::new(&self.pattern) {
            errors.push(invalid("pattern", &self.pattern, &error.to_string()));
        }
    }

    /// What `journalctl` is called with.
    fn arguments(&self, services: &[String]) -> Vec<String> {
        let mut arguments =
            vec!["--utc".to_owned(), "--no-pager".to_owned(), "--output=short-precise".to_owned()];
        let time = |at: Timestamp| at.strftime("%Y-%-m-%-d %H:%-M:%-S").to_string();
        arguments.extend(self.since.map(|at| format!("--since={}", time(at))));
        arguments.extend(self.until.map(|at| format!("--until={}", time(at))));
        if let Some(lines) = self.lines {
            arguments.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
        }
        arguments.extend(services.iter().map(|service| format!("--unit={service}")));
        if !self.pattern.is_empty() {
            arguments.push(format!("--grep={}", self.pattern));
        }
        if let Some(boot) = self.boot {
            arguments.extend(["--boot".to_owned(), boot.to_string()]);
        }
        arguments
    }
}

/// Answers a question about services.
pub async fn services(question: &Question) -> Result<Response<Body>, Refusal> {
    let (known, others) = split(&question.services, &units().await);
    let body = if !others.is_empty() && question.options != Options::default() {
        full(format!(
            "\noptions present and query resolved to log files for [{}]\ntry without specifying options\n",
            others.join(" ")
        ))
    } else if others.is_empty() {
        match journal(&question.options.arguments(&known)) {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(%error, "journalctl does not run");
                full("\nerror: journal output not available\n")
            }
        }
    } else {
        all(others.iter().map(|service| written(Path::new(ROOT), service)).collect())
    };
    Response::builder()
        .header("content-type", "text/plain;charset=UTF-8")
        .body(body)
        .map_err(Refusal::internal)
}

/// Services that the journal knows, and those that may have files.
fn split(services: &[String], units: &str) -> (Vec<String>, Vec<String>) {
    services.iter().cloned().partition(|service| units.contains(&format!("{service}.service")))
}

/// The units of which the journal has anything; none where there is no journal.
async fn units() -> String {
    let mut command = Command::new("journalctl");
    command.args(["--field", "_SYSTEMD_UNIT"]).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

/// What the journal says, in both of its outputs, as it comes.
fn journal(arguments: &[String]) -> io::Result<Body> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("journalctl");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(true);
    let child = command.spawn()?;
    // It holds the ends to write to; while it does, the output does not end.
    drop(command);
    let reader = Receiver::from_owned_fd(reader.into())?;
    let state = (reader, child, Instant::now() + PATIENCE);
    let chunks = stream::unfold(state, |(mut reader, child, until)| async move {
        let mut chunk = vec![0; CHUNK];
        match tokio::time::timeout_at(until, reader.read(&mut chunk)).await {
            Ok(Ok(count)) if count > 0 => {
                chunk.truncate(count);
                Some((Ok::<_, io::Error>(Frame::data(Bytes::from(chunk))), (reader, child, until)))
            }
            // Whoever takes too long is killed as it is let go.
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        }
    });
    Ok(StreamBody::new(chunks).boxed_unsync())
}

/// The file of a service: by its name, with `.log` behind it, or in a folder of its name.
fn written(root: &Path, service: &str) -> Source {
    let told = |text: String| -> Source { Box::new(io::Cursor::new(text)) };
    for name in [service.to_owned(), format!("{service}.log"), format!("{service}/{service}.log")] {
        let Some(path) = below(root, &name).filter(|path| path.is_file()) else { continue };
        return match std::fs::File::open(&path) {
            Ok(file) => Box::new(file),
            Err(error) => told(format!("\nerror getting log for {service}: {error}\n")),
        };
    }
    told(format!("\nlog not found for {service}\n"))
}

/// What a question that cannot be answered comes to.
pub fn refuse(code: StatusCode, why: String) -> Refusal {
    Refusal(code, format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Question>, String> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Question::parse(&pairs)
    }

    #[test]
    fn questions_are_read_and_judged_in_upstreams_words() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("query= "), Err(r#"query: Invalid value: "[ ]": query cannot be empty"#.to_owned()));
        assert_eq!(
            parse("query=a&sinceTime=now&boot=x"),
            Err(r#"[sinceTime: Invalid value: "now": invalid time format, boot: Invalid value: "x": strconv.Atoi: parsing "x": invalid syntax]"#.to_owned())
        );
        for (text, wanted) in [
            ("query=kubelet&query=containerd", Ok(())),
            ("query=/a.log", Ok(())),
            ("boot=0", Err("query: Required value: cannot be empty with options")),
            (
                "query=/a&query=b",
                Err(r#"query: Invalid value: "[/a], [b]": cannot specify a file and service"#),
            ),
            (
                "query=/a&query=/b",
                Err(r#"query: Invalid value: "[/a /b]": cannot specify more than one file"#),
            ),
            ("query=/a&boot=0", Err(r#"query: Invalid value: "[/a]": cannot specify file with options"#)),
            (
                "query=/none",
                Err(r#"query: Invalid value: "[/none]": statat none: no such file or directory"#),
            ),
            ("query=a;b", Err(r#"query: Invalid value: "a;b": input contains unsupported characters"#)),
            ("query=a&boot=1", Err("boot: Invalid value: 1: must be less than 1")),
            (
                "query=a&tailLines=100001",
                Err("tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive"),
            ),
            ("query=a&query=b&query=c&query=d&query=e", Err("query: Too many: 5: must have at most 4 items")),
            (
                "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
                Err(r#"untilTime: Invalid value: "2026-01-01T00:00:00Z": must be after `sinceTime`"#),
            ),
        ] {
            let question = parse(text).unwrap().unwrap();
            let judged = question.check(|file| file != "/none");
            assert_eq!(judged, wanted.map_err(str::to_owned), "{text}");
        }
        assert!(parse("query=a&pattern=(").unwrap().unwrap().check(|_| true).is_err());
        assert_eq!(parse("query=\\a\\b").unwrap().unwrap().file().as_deref(), Some("//a/b"));
    }

    #[test]
    fn the_journal_is_asked_as_upstream_asks_it() {
        let question =
            parse("query=kubelet&sinceTime=2026-01-02T03:04:05Z&tailLines=7&pattern=x&boot=-1").unwrap();
        let question = question.unwrap();
        assert_eq!(
            question.options.arguments(&question.services).join(" "),
            "--utc --no-pager --output=short-precise --since=2026-1-2 03:4:5 --pager-end --lines=7 \
             --unit=kubelet --grep=x --boot -1"
        );
    }

    #[test]
    fn a_service_without_a_journal_may_have_a_file() {
        let units = "kubelet.service\ninit.scope\n";
        let services = ["kubelet".to_owned(), "syslog".to_owned()];
        assert_eq!(split(&services, units), (vec!["kubelet".to_owned()], vec!["syslog".to_owned()]));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/a.log"), "in its folder").unwrap();
        std::fs::write(dir.path().join("b.log"), "by its name").unwrap();
        let text = |service: &str| io::read_to_string(written(dir.path(), service)).unwrap();
        assert_eq!(text("a"), "in its folder");
        assert_eq!(text("b"), "by its name");
        assert_eq!(text("../b"), "\nlog not found for ../b\n");
    }
}
