//! `/var/log/containers`: a link to the log of each container, by a name that says whose it is. Who collects logs of a
//! node follows these, and reads the pod's name, its namespace and the container's from them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pods::log_directory;
use crate::pods::spec::PodExt;
use crate::{Config, Shared};

/// File systems take no longer names.
const LONGEST: usize = 255;
const SUFFIX: &str = ".log";

/// What the link of a container is called, as upstream.
fn name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    shortened(format!("{pod}_{namespace}_{container}-{id}")) + SUFFIX
}

/// How the names of all links of a pod begin.
pub fn beginning(pod: &Pod) -> String {
    shortened(format!("{}_{}_", pod.name(), pod.namespace()))
}

fn shortened(mut name: String) -> String {
    name.truncate(LONGEST - SUFFIX.len());
    name
}

/// Makes the link of a container that has started. One without a log has none.
pub fn make(shared: &Shared, pod: &Pod, container: &str, id: &str, restarts: u32) {
    let log = log_directory(shared, pod).join(container).join(format!("{restarts}.log"));
    let link = shared.config.container_links.join(name(pod.name(), pod.namespace(), container, id));
    if !log.exists() {
        return;
    }
    // Somebody may have removed the folder.
    let made = fs::create_dir_all(&shared.config.container_links);
    if let Err(error) = made.and_then(|()| std::os::unix::fs::symlink(to(&shared.config, &log), &link)) {
        tracing::warn!(link = %link.display(), %error, "no link leads to a container's log");
    }
}

/// What leads from a link to a log: the same for the node's pods, which may know both folders by other names.
fn to(config: &Config, log: &Path) -> PathBuf {
    match log.strip_prefix(&config.log_dir) {
        Ok(part) if config.owns_logs => Path::new("../pods").join(part),
        _ => log.to_owned(),
    }
}

/// Removes the link of a container.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(shared: &Shared, pod: &Pod, container: &str, id: &str) -> io::Result<()> {
    let link = shared.config.container_links.join(name(pod.name(), pod.namespace(), container, id));
    gone(fs::remove_file(link))?;
    Ok(())
}

/// What is not there any more is no error: no pod stays for the sake of a link that somebody else has removed.
fn gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the links to a pod's logs, whose names begin so.
///
/// # Errors
/// When the folder cannot be read, or a link not removed.
pub fn remove_all(folder: &Path, uid: &str, beginning: &str) -> io::Result<()> {
    let of_pod = format!("_{uid}");
    let is_of_pod = |log: &Path| {
        let folder = log.parent().and_then(Path::parent).and_then(Path::file_name);
        folder.is_some_and(|name| name.to_string_lossy().ends_with(&of_pod))
    };
    let Some(entries) = gone(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(beginning.as_bytes()) {
            continue;
        }
        let path = entry.path();
        // What is no link is somebody else's.
        let Ok(log) = fs::read_link(&path) else { continue };
        if is_of_pod(&log) {
            gone(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// Removes links that lead nowhere: what was there has gone while no kubelet ran.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let leads_nowhere = fs::read_link(&path).is_ok() && !path.exists();
        if leads_nowhere && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(link = %path.display(), %error, "a link that leads nowhere stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_log_it_is() {
        assert_eq!(name("p", "n", "c", "0a"), "p_n_c-0a.log");
        let long = name(&"p".repeat(240), "n", "container", "0a");
        assert_eq!((long.len(), long.ends_with("p_n_containe.log")), (255, true), "{long}");
    }

    #[test]
    fn links_go_with_their_pod_or_with_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (links, logs) = (dir.path().join("containers"), dir.path().join("pods"));
        fs::create_dir_all(&links).unwrap();
        for pod in ["n_p_uid-1", "n_q_uid-2", "n_r_uid-3"] {
            let log = logs.join(pod).join("c/0.log");
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            fs::write(&log, "").unwrap();
            std::os::unix::fs::symlink(&log, links.join(format!("{pod}.log"))).unwrap();
        }
        fs::write(links.join("file.log"), "").unwrap();
        let left = || {
            let names =
                fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        remove_all(&links, "uid-1", "n_x").unwrap();
        assert_eq!(left().len(), 4);
        remove_all(&links, "uid-1", "").unwrap();
        assert_eq!(left(), ["file.log", "n_q_uid-2.log", "n_r_uid-3.log"]);
        fs::remove_dir_all(logs.join("n_q_uid-2")).unwrap();
        sweep(&links);
        assert_eq!(left(), ["file.log", "n_r_uid-3.log"]);
        fs::remove_dir_all(&links).unwrap();
        remove_all(&links, "uid-3", "").unwrap();
    }
}
