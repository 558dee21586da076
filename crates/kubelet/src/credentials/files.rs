//! The node's own credentials, in files as Docker writes them, where upstream's kubelet looks for them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value};

/// A format: its file, the key of a pull secret that has it, and where it is beneath a home.
const FORMATS: [(&str, &str, &str); 2] =
    [("config.json", ".dockerconfigjson", ".docker"), (".dockercfg", ".dockercfg", "")];

/// What the first file has that can be read, as a pull secret would have it: in the kubelet's folder, where it was
/// started, and beneath the home of its user and the root, where the machine is its own. The newer format goes first.
pub fn read(root_dir: &Path, home: Option<&Path>) -> Option<Secret> {
    FORMATS.into_iter().find_map(|(file, key, beneath)| {
        let homes = home.into_iter().flat_map(|home| [home.join(beneath), Path::new("/").join(beneath)]);
        let started = home.map(|_| PathBuf::new());
        let folders = [root_dir.to_owned()].into_iter().chain(started).chain(homes);
        let found = folders.map(|folder| folder.join(file)).find_map(|path| content(&path))?;
        let data = BTreeMap::from([(key.to_owned(), ByteString(found))]);
        Some(Secret { data: Some(data), ..Secret::default() })
    })
}

fn content(path: &Path) -> Option<Vec<u8>> {
    let read =
        std::fs::read(path).map_err(|error| (error.kind() != ErrorKind::NotFound).then(|| error.to_string()));
    let object = read.and_then(|text| match serde_json::from_slice::<Map<String, Value>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Some(error.to_string())),
    });
    object
        .inspect_err(|error| {
            if let Some(error) = error {
                tracing::warn!(file = %path.display(), error, "the node's credentials cannot be read");
            }
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::images::credentials;

    const NEW: &str = r#"{"auths": {"registry.example.com": {"auth": "dTpw"}}}"#;
    const OLD: &str = r#"{"registry.example.com": {"username": "old", "password": "p"}}"#;

    fn user(root: &Path, home: Option<&Path>) -> Option<String> {
        let secret = read(root, home)?;
        let found = credentials("registry.example.com/team/app:1", std::slice::from_ref(&secret));
        found.first().map(|(auth, _)| auth.username.clone())
    }

    #[test]
    fn the_first_file_that_can_be_read_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (root, home) = (dir.path().join("kubelet"), dir.path().join("home"));
        std::fs::create_dir_all(home.join(".docker")).unwrap();
        std::fs::create_dir_all(&root).unwrap();
        assert_eq!(user(&root, None), None);
        std::fs::write(root.join(".dockercfg"), OLD).unwrap();
        assert_eq!(user(&root, Some(&home)).as_deref(), Some("old"));
        std::fs::write(home.join(".docker/config.json"), NEW).unwrap();
        assert_eq!(user(&root, Some(&home)).as_deref(), Some("u"), "the newer format");
        assert_eq!(user(&root, None).as_deref(), Some("old"), "a home that is somebody else's");
        std::fs::write(root.join("config.json"), "{").unwrap();
        assert_eq!(user(&root, Some(&home)).as_deref(), Some("u"), "one that is none");
    }
}
