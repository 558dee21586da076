//! Follows the folder of manifests: at once by inotify, and now and then in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::manifest::{ManifestError, parse};
use crate::Shared;
use crate::changes::Changes;
use crate::pods::Pods;
use crate::pods::spec::PodExt;

/// Editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(50);

/// The folder, and the pods that were seen in it last, by uid.
pub struct Folder {
    path: PathBuf,
    known: BTreeMap<String, Arc<Pod>>,
}

impl Folder {
    /// Runs what is in the folder now. It is known before anything is taken to be nobody's.
    pub fn open(shared: &Shared, pods: &Pods, path: PathBuf) -> Self {
        let mut folder = Self { path, known: BTreeMap::new() };
        folder.look(shared, pods, &BTreeSet::new());
        folder
    }

    /// Whoever removed a file, and wrote the same again, wants its pod to start anew.
    fn look(&mut self, shared: &Shared, pods: &Pods, removed: &BTreeSet<OsString>) {
        let found = match read(shared, &self.path) {
            Ok(found) => {
                let is_new = |file: &Path| file.file_name().is_some_and(|name| removed.contains(name));
                for (uid, _) in found.iter().filter(|(_, (file, _))| is_new(file)) {
                    if let Some(pod) = self.known.remove(uid) {
                        tracing::info!(pod = %pod.described(), "the manifest of a static pod was removed, and is back");
                        pods.remove_static(uid);
                    }
                }
                found.into_iter().map(|(uid, (_, pod))| (uid, pod)).collect()
            }
            // As upstream: whoever removes the only file, or the folder, wants nothing to run.
            Err(ManifestError::Read { source, .. })
                if source.kind() == ErrorKind::NotFound && !self.path.exists() =>
            {
                tracing::warn!(path = %self.path.display(), "there are no manifests of static pods");
                BTreeMap::new()
            }
            // What cannot be read is not empty: everything goes on as it was.
            Err(error) => return tracing::warn!(%error, "the folder of manifests cannot be read"),
        };
        replace(pods, &mut self.known, found);
    }
}

/// Runs what was found, and ends what is known and was not; both by uid.
pub(super) fn replace(
    pods: &Pods,
    known: &mut BTreeMap<String, Arc<Pod>>,
    found: BTreeMap<String, Arc<Pod>>,
) {
    for (uid, pod) in known.iter().filter(|(uid, _)| !found.contains_key(*uid)) {
        tracing::info!(pod = %pod.described(), "the manifest of a static pod is gone");
        pods.remove_static(uid);
    }
    for (_, pod) in found.iter().filter(|(uid, _)| !known.contains_key(*uid)) {
        pods.set_static(pod.clone());
    }
    *known = found;
}

/// Keeps the node's static pods what the folder says, until the group stops.
pub async fn follow(shared: Arc<Shared>, pods: Pods, mut folder: Folder) {
    let changes = Changes::of(&folder.path);
    let again = shared.config.configuration.fields.file_check_frequency;
    let mut removed = BTreeSet::new();
    loop {
        folder.look(&shared, &pods, &removed);
        removed = tokio::select! {
            removed = changes.next() => {
                tokio::time::sleep(SETTLE).await;
                removed
            }
            () = tokio::time::sleep(again) => BTreeSet::new(),
        };
    }
}

/// A pod, and the file that it is from.
type Found = (PathBuf, Arc<Pod>);

/// All pods of the folder by their uid. A file that is no pod is told of and left out.
fn read(shared: &Shared, folder: &Path) -> Result<BTreeMap<String, Found>, ManifestError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| ManifestError::Read { path, source }
    };
    let mut paths = Vec::new();
    if folder.is_file() {
        paths.push(folder.to_owned());
    } else {
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_file() && !hidden {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut found = BTreeMap::new();
    let now = shared.config.clock.now();
    for path in paths {
        let pod = std::fs::read(&path)
            .map_err(failed(&path))
            .and_then(|text| parse(&path, &text, &shared.config.node_name, now));
        match pod {
            Ok(pod) => drop(found.insert(pod.uid().to_owned(), (path, Arc::new(pod)))),
            Err(error) => tracing::error!(%error, "a file among the manifests is not run"),
        }
    }
    Ok(found)
}
