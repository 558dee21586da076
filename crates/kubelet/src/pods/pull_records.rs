//! Who pulled which image with which credentials, so that a pod without them does not use an image only because some
//! other pod had it pulled (KEP-2535). Images that were there before, or
//! came by other ways, are anybody's, unless the configuration says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::configuration::{Verify, repository};
use crate::credentials::Asked;

/// Where credentials came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A pull secret.
    Secret(OfSecret),
    /// A program that was asked for a pod's service account.
    Account(OfAccount),
}

/// A secret, and what it holds, as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfSecret {
    uid: String,
    namespace: String,
    name: String,
    credential_hash: String,
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfAccount {
    uid: String,
    namespace: String,
    name: String,
}

impl From<Asked> for Source {
    fn from(Asked { uid, namespace, name }: Asked) -> Self {
        Self::Account(OfAccount { uid, namespace, name })
    }
}

impl Source {
    /// Of the credentials that a secret holds.
    pub fn of(secret: &Secret, auth: &AuthConfig) -> Self {
        let mut hasher = Sha256::new();
        for part in [&auth.username, &auth.password, &auth.identity_token, &auth.registry_token, &auth.auth] {
            hasher.update(part.as_bytes());
            hasher.update([0]);
        }
        let meta = &secret.metadata;
        Self::Secret(OfSecret {
            uid: meta.uid.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            credential_hash: hex(&hasher.finalize()),
        })
    }
}

impl OfSecret {
    fn fits(&self, other: &Self) -> bool {
        let place = |source: &Self| (source.uid.clone(), source.namespace.clone(), source.name.clone());
        self.credential_hash == other.credential_hash || place(self) == place(other)
    }
}

/// Who may use an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Users {
    /// It was pulled without credentials.
    node_pods_accessible: bool,
    kubernetes_secrets: Vec<OfSecret>,
    kubernetes_service_accounts: Vec<OfAccount>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    image_ref: String,
    /// By image without tag and digest.
    credential_mapping: BTreeMap<String, Users>,
}

/// The records of a node: of images that were pulled, and of pulls that have begun.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    begun: PathBuf,
    verify: Verify,
}

impl Records {
    /// Below the kubelet's own folder.
    pub fn new(root: &Path, verify: Verify) -> Self {
        let manager = root.join("image_manager");
        Self { folder: manager.join("pulled"), begun: manager.join("pulling"), verify }
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.folder.join(file_name(reference))
    }

    /// How many pulls have begun, and how many are written down as done. What cannot be read counts for nothing.
    pub fn counts(&self) -> (usize, usize) {
        let files = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
        (files(&self.begun), files(&self.folder))
    }

    /// Notes that a pull begins. Until it is noted as done, the image is nobody's.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn intend(&self, image: &str) -> io::Result<()> {
        fs::create_dir_all(&self.begun)?;
        fs::write(self.begun.join(file_name(image)), image)
    }

    fn read(&self, reference: &str) -> io::Result<Option<Record>> {
        match fs::read(self.path(reference)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes a pull; without a source it was anonymous.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn note(&self, reference: &str, image: &str, source: Option<Source>) -> io::Result<()> {
        // A record that cannot be understood is replaced: what it said was no help to anybody.
        let mut record = self.read(reference).ok().flatten().unwrap_or_default();
        reference.clone_into(&mut record.image_ref);
        let users = record.credential_mapping.entry(repository(image).to_owned()).or_default();
        match source {
            None => users.node_pods_accessible = true,
            Some(Source::Account(account)) => {
                users.kubernetes_service_accounts.retain(|known| *known != account);
                users.kubernetes_service_accounts.push(account);
            }
            Some(Source::Secret(source)) => {
                let same = |known: &OfSecret| {
                    (&known.uid, &known.namespace, &known.name)
                        == (&source.uid, &source.namespace, &source.name)
                };
                users.kubernetes_secrets.retain(|known| !same(known));
                users.kubernetes_secrets.push(source);
            }
        }
        fs::create_dir_all(&self.folder)?;
        let path = self.path(reference);
        let temporary = path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(&record)?)?;
        fs::rename(temporary, path)?;
        self.abandon(image)
    }

    /// Notes that a pull came to nothing: whoever brings the image by other ways may use it.
    ///
    /// # Errors
    /// When the note cannot be taken away.
    pub fn abandon(&self, image: &str) -> io::Result<()> {
        match fs::remove_file(self.begun.join(file_name(image))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a pod with these credentials may use an image that is there.
    ///
    /// # Errors
    /// When the record cannot be read: it is not taken for none.
    pub fn may_use(&self, reference: &str, image: &str, source: Option<&Source>) -> io::Result<bool> {
        let record = self.read(reference)?;
        let was_pulled = record.is_some() || self.begun.join(file_name(image)).try_exists()?;
        if !self.verify.asks_for(image, was_pulled) {
            return Ok(true);
        }
        let Some(record) = record else { return Ok(false) };
        let Some(users) = record.credential_mapping.get(repository(image)) else { return Ok(false) };
        let fits = |source: &Source| match source {
            Source::Secret(source) => users.kubernetes_secrets.iter().any(|known| known.fits(source)),
            Source::Account(account) => users.kubernetes_service_accounts.contains(account),
        };
        Ok(users.node_pods_accessible || source.is_some_and(fits))
    }
}

fn file_name(text: &str) -> String {
    format!("sha256-{}", hex(&Sha256::digest(text.as_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, password: &str) -> Source {
        let secret: Secret = serde_json::from_value(
            serde_json::json!({"metadata": {"name": name, "namespace": "n", "uid": name}}),
        )
        .unwrap();
        Source::of(&secret, &AuthConfig { password: password.to_owned(), ..AuthConfig::default() })
    }

    #[test]
    fn an_image_is_used_by_whoever_could_have_pulled_it() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path(), Verify::default());
        let may = |source: Option<&Source>| records.may_use("sha256:1", "r.io:5000/a/b:1", source).unwrap();
        assert!(may(None), "one that was there before is anybody's");
        records.note("sha256:1", "r.io:5000/a/b:2", Some(source("a", "x"))).unwrap();
        assert!(!may(None));
        assert!(may(Some(&source("a", "changed"))), "the same secret");
        assert!(may(Some(&source("other", "x"))), "the same credentials");
        assert!(!may(Some(&source("other", "y"))));
        assert!(!records.may_use("sha256:1", "r.io/c", Some(&source("a", "x"))).unwrap(), "another name");
        let account = |uid: &str| {
            let text = |text: &str| text.to_owned();
            Source::from(Asked { uid: text(uid), namespace: text("n"), name: text("sa") })
        };
        records.note("sha256:1", "r.io:5000/a/b", Some(account("1"))).unwrap();
        assert!(may(Some(&account("1"))) && !may(Some(&account("2"))), "another account of its name");
        records.note("sha256:1", "r.io:5000/a/b", None).unwrap();
        assert!(may(None), "pulled without credentials");
        fs::write(records.path("sha256:1"), "{").unwrap();
        assert!(records.may_use("sha256:1", "r.io/c", None).is_err());
    }

    #[test]
    fn a_pull_that_nobody_saw_end_makes_an_image_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path(), Verify::default());
        records.intend("r.io/a:1").unwrap();
        assert!(!records.may_use("sha256:1", "r.io/a:1", None).unwrap());
        assert!(records.may_use("sha256:2", "r.io/b:1", None).unwrap(), "others are as they were");
        records.abandon("r.io/a:1").unwrap();
        assert!(records.may_use("sha256:1", "r.io/a:1", None).unwrap(), "it came by other ways");
        records.intend("r.io/a:1").unwrap();
        records.note("sha256:1", "r.io/a:1", None).unwrap();
        assert!(records.may_use("sha256:1", "r.io/a:1", None).unwrap());
    }

    #[test]
    fn whoever_wants_it_has_all_images_verified_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let with = |verify| Records::new(dir.path(), verify);
        let may = |verify| with(verify).may_use("sha256:1", "r.io/a:1", None).unwrap();
        assert_eq!((may(Verify::Always), may(Verify::Pulled), may(Verify::Never)), (false, true, true));
        with(Verify::Never).note("sha256:1", "r.io/a:1", Some(source("a", "x"))).unwrap();
        assert_eq!((may(Verify::Always), may(Verify::Pulled), may(Verify::Never)), (false, false, true));
        with(Verify::Never).note("sha256:1", "r.io/a:1", None).unwrap();
        assert_eq!((may(Verify::Always), may(Verify::Pulled), may(Verify::Never)), (true, true, true));
    }
}
