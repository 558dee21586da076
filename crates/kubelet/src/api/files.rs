//! `/logs/`: the files below `/var/log`, and lists of its folders; questions are `query`'s.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::query::{self, Question};
use super::{Body, Refusal, decode, full};
use crate::Shared;
use crate::volumes::OwnLogs;

pub(super) const ROOT: &str = "/var/log";
/// How much is read at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// Answers a request for a path that begins with `/logs`, with these parameters.
pub async fn handle(
    shared: &Shared,
    path: &str,
    parameters: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let fields = &shared.config.configuration.fields;
    if !fields.enable_system_log_handler {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n".to_owned()));
    }
    let path = decode(path.trim_start_matches("/logs"));
    if !fields.enable_system_log_query {
        return answer(shared.volumes.own_logs(), Path::new(ROOT), &path);
    }
    let asked = Question::parse(parameters).map_err(|why| query::refuse(StatusCode::BAD_REQUEST, why))?;
    let Some(question) = asked else { return answer(shared.volumes.own_logs(), Path::new(ROOT), &path) };
    if !path.trim_matches('/').is_empty() {
        return Err(query::refuse(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode".to_owned()));
    }
    let exists =
        |file: &str| below(Path::new(ROOT), &file.replace('\\', "/")).is_some_and(|path| path.exists());
    question.check(exists).map_err(|why| query::refuse(StatusCode::NOT_ACCEPTABLE, why))?;
    match question.file() {
        Some(file) => answer(None, Path::new(ROOT), &file),
        None => query::services(&question).await,
    }
}

/// Where a path leads below a root; never out of it by its own words.
pub(super) fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let mut found = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(found)
}

/// What pods find in folders of the node is found there here, too.
fn answer(own: Option<&OwnLogs>, root: &Path, path: &str) -> Result<Response<Body>, Refusal> {
    let missing = || Refusal::not_found("404 page not found\n");
    let found = below(root, path).ok_or_else(missing)?;
    let found = own.map_or(found.clone(), |own| own.place(&found));
    let metadata = std::fs::metadata(&found).map_err(|_| missing())?;
    if metadata.is_dir() {
        let list = listing(&found).map_err(Refusal::internal)?;
        let response = Response::builder().header("content-type", "text/html; charset=utf-8");
        return response.body(full(list)).map_err(Refusal::internal);
    }
    // A pipe or a device would never end.
    if !metadata.is_file() {
        return Err(missing());
    }
    let file = File::open(&found).map_err(Refusal::internal)?;
    Response::builder()
        .header("content-type", "text/plain; charset=utf-8")
        .body(all(vec![Box::new(file)]))
        .map_err(Refusal::internal)
}

/// Something to read.
pub(super) type Source = Box<dyn Read + Send>;

/// All of these, one after the other, in pieces: nobody holds a large file in memory.
pub(super) fn all(sources: Vec<Source>) -> Body {
    let chunks = stream::unfold(VecDeque::from(sources), |mut sources| async move {
        loop {
            let source = sources.front_mut()?;
            let mut chunk = vec![0; CHUNK];
            match source.read(&mut chunk) {
                Ok(0) => drop(sources.pop_front()),
                Ok(count) => {
                    chunk.truncate(count);
                    return Some((Ok(Frame::data(Bytes::from(chunk))), sources));
                }
                Err(error) => return Some((Err(error), VecDeque::new())),
            }
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// As Go's file server writes it.
fn listing(folder: &Path) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escape = |name: &str| {
        name.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;")
    };
    let lines: Vec<String> =
        names.iter().map(|name| format!("<a href=\"{0}\">{0}</a>\n", escape(name))).collect();
    Ok(format!(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{}</pre>\n",
        lines.concat()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(root: &Path, path: &str) -> Result<String, u16> {
        let response = answer(None, root, path).map_err(|Refusal(code, _)| code.as_u16())?;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn files_and_folders_below_the_root_are_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("pods")).unwrap();
        std::fs::write(root.join("syslog"), "x".repeat(CHUNK + 1)).unwrap();
        std::fs::write(root.join("<a>"), "").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        assert_eq!(read(&root, "/syslog").await.map(|text| text.len()), Ok(CHUNK + 1));
        let list = read(&root, "/").await.unwrap();
        assert!(list.contains("<a href=\"pods/\">pods/</a>\n") && list.contains("&lt;a&gt;"), "{list}");
        assert_eq!(read(&root, "/../secret").await, Err(404));
        assert_eq!(read(&root, "/none").await, Err(404));
    }
}
