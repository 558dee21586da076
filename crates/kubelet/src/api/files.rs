//! `/logs/`: the files below `/var/log`, and lists of its folders.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::{Body, Refusal, decode, full};
use crate::Shared;

const ROOT: &str = "/var/log";
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Answers a request for a path that begins with `/logs`.
pub fn handle(shared: &Shared, path: &str) -> Result<Response<Body>, Refusal> {
    if !shared.config.configuration.fields.enable_system_log_handler {
        return Err(Refusal(http::StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.".to_owned()));
    }
    answer(Path::new(ROOT), &decode(path.trim_start_matches("/logs")))
}

/// Where a path leads below a root; never out of it by its own words.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
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

fn answer(root: &Path, path: &str) -> Result<Response<Body>, Refusal> {
    let missing = || Refusal::not_found("404 page not found\n");
    let found = below(root, path).ok_or_else(missing)?;
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
    let chunks = stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(count) => {
                chunk.truncate(count);
                Some((Ok(Frame::data(Bytes::from(chunk))), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    Response::builder()
        .header("content-type", "text/plain; charset=utf-8")
        .body(StreamBody::new(chunks).boxed_unsync())
        .map_err(Refusal::internal)
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
        let response = answer(root, path).map_err(|Refusal(code, _)| code.as_u16())?;
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
