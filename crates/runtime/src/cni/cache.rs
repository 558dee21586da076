//! What was asked of plugins for which sandbox, and what they answered, in files as libcni writes them: a later
//! runtime disconnects with the configuration that connected, whatever the folder says by then.
//!
//! An attachment is written down before its first plugin runs, and removed after its last one has undone it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::list::{ListError, NetworkList};
use crate::state::replace;

const KIND: &str = "cniCacheV1";

/// A sandbox's interface in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    kind: String,
    /// The sandbox.
    #[serde(rename = "containerId")]
    pub container: String,
    config: String,
    /// The interface.
    #[serde(rename = "ifName")]
    pub interface: String,
    /// The network.
    #[serde(rename = "networkName")]
    pub network: String,
    /// Where its namespace is pinned.
    #[serde(default)]
    pub netns: String,
    /// What `CNI_ARGS` was.
    #[serde(rename = "cniArgs", default)]
    pub args: Vec<(String, String)>,
    /// What plugins get that ask for it.
    #[serde(rename = "capabilityArgs", default)]
    pub capabilities: Map<String, Value>,
    /// What the last plugin answered; none while the first ADD has not succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Attachment {
    /// One that was not asked for yet.
    pub fn new(
        list: &NetworkList,
        container: &str,
        netns: String,
        interface: &str,
        args: Vec<(String, String)>,
        capabilities: Map<String, Value>,
    ) -> Self {
        Self {
            kind: KIND.into(),
            container: container.into(),
            config: BASE64_STANDARD.encode(list.to_value().to_string()),
            interface: interface.into(),
            network: list.name.clone(),
            netns,
            args,
            capabilities,
            result: None,
        }
    }

    /// The network, as it was when the sandbox was connected.
    pub fn list(&self) -> Result<NetworkList, ListError> {
        let bytes = BASE64_STANDARD.decode(&self.config).map_err(|e| ListError::new(e.to_string()))?;
        NetworkList::parse(&bytes)
    }

    fn name(&self) -> String {
        format!("{}-{}-{}", self.network, self.container, self.interface)
    }
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct CacheError {
    what: String,
    source: io::Error,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> CacheError {
    let what = what.into();
    move |source| CacheError { what, source }
}

/// The folder of all attachments.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// Whoever works on an attachment holds this. Plugins have it as their standard input: when the runtime is killed,
/// its plugins go on and hold it still, and a later runtime waits for them.
#[derive(Debug)]
pub struct Turn(Flock<File>);

impl Turn {
    /// What plugins read from.
    pub fn stdin(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Cache {
    /// Makes the folder.
    pub fn open(dir: PathBuf) -> Result<Self, CacheError> {
        for folder in ["results", "turns"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(failed(format!("making {}", path.display())))?;
        }
        Ok(Self { dir })
    }

    /// Writes an attachment down.
    pub fn save(&self, attachment: &Attachment) -> Result<(), CacheError> {
        let path = self.dir.join("results").join(attachment.name());
        let json = serde_json::to_vec(attachment).map_err(io::Error::other);
        json.and_then(|json| replace(&path, &json)).map_err(failed(format!("writing {}", path.display())))
    }

    /// Forgets an attachment. One that is not known is forgotten already.
    pub fn forget(&self, attachment: &Attachment) -> Result<(), CacheError> {
        for folder in ["turns", "results"] {
            let path = self.dir.join(folder).join(attachment.name());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(format!("removing {}", path.display()))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every attachment that is known.
    pub fn all(&self) -> Result<Vec<Attachment>, CacheError> {
        let dir = self.dir.join("results");
        let reading = || failed(format!("reading {}", dir.display()));
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            // Cut off while it was written.
            if path.extension().is_some_and(|extension| extension == "new") {
                continue;
            }
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Forgotten since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(format!("reading {}", path.display()))(error)),
            };
            let attachment: Attachment = serde_json::from_slice(&bytes).map_err(|e| {
                failed(format!("{} cannot be understood: move it away to go on", path.display()))(e.into())
            })?;
            found.push(attachment);
        }
        Ok(found)
    }

    /// A sandbox's attachments.
    pub fn of(&self, container: &str) -> Result<Vec<Attachment>, CacheError> {
        Ok(self.all()?.into_iter().filter(|attachment| attachment.container == container).collect())
    }

    /// Waits until nobody works on an attachment, plugins of an earlier runtime included.
    pub async fn turn(&self, attachment: &Attachment, patience: Duration) -> Result<Turn, CacheError> {
        let path = self.dir.join("turns").join(attachment.name());
        let opening = failed(format!("opening {}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(opening)?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Turn(lock)),
                Err((again, nix::Error::EAGAIN)) if tokio::time::Instant::now() < until => file = again,
                Err((_, errno)) => {
                    let what = format!("waiting for a plugin that works on sandbox {}", attachment.container);
                    return Err(failed(what)(errno.into()));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attachments_are_found_again_with_the_configuration_of_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let list = NetworkList::parse_single(br#"{"cniVersion":"1.0.0","name":"n","type":"x"}"#).unwrap();
        let mut attachment = Attachment::new(&list, "c1", "/run/n".into(), "eth0", Vec::new(), Map::new());
        cache.save(&attachment).unwrap();
        attachment.result = Some(serde_json::json!({"ips": []}));
        cache.save(&attachment).unwrap();
        std::fs::write(dir.path().join("results/n-c2-eth0.new"), "{").unwrap();
        let again = Cache::open(dir.path().to_owned()).unwrap();
        assert_eq!(again.of("c1").unwrap(), [attachment.clone()]);
        assert_eq!(again.of("c1").unwrap()[0].list().unwrap(), list);
        assert_eq!(again.of("c").unwrap(), []);
        // libcni reads the same.
        let raw: Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("results/n-c1-eth0")).unwrap()).unwrap();
        assert_eq!((&raw["kind"], &raw["ifName"]), (&KIND.into(), &"eth0".into()));

        let turn = cache.turn(&attachment, Duration::ZERO).await.unwrap();
        assert!(cache.turn(&attachment, Duration::ZERO).await.is_err());
        drop(turn);
        cache.turn(&attachment, Duration::ZERO).await.unwrap();
        cache.forget(&attachment).unwrap();
        cache.forget(&attachment).unwrap();
        assert_eq!(cache.all().unwrap(), []);
        std::fs::write(dir.path().join("results/n-c3-eth0"), "{").unwrap();
        assert!(cache.all().unwrap_err().to_string().contains("move it away"));
    }
}
