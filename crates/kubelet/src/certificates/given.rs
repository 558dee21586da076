//! `tlsCertFile`, `tlsPrivateKeyFile` and `clientCAFile`: used as they are, also after somebody has replaced them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use auth::pki::{Authorities, CertKey};

use super::{FileError, Use};
use crate::changes::Changes;

/// A folder that tells of no change is looked at so often, as upstream.
const AGAIN: Duration = Duration::from_secs(60);
/// The two files are hardly replaced at the same moment.
const SETTLE: Duration = Duration::from_millis(100);

/// The two files.
#[derive(Debug, Clone)]
pub struct Given {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Given {
    /// What is in them now.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(&self) -> Result<CertKey, FileError> {
        let text = |path: &Path| {
            let failed = |source: io::Error| FileError::Io { path: path.to_owned(), source };
            std::fs::read_to_string(path).map_err(failed)
        };
        Ok(CertKey { cert_pem: text(&self.cert)?, key_pem: text(&self.key)? })
    }

    /// Has what is in them used, forever; `used` is already. While they do not belong together, `uses` refuses, and
    /// what was used before still is.
    pub async fn follow(self, used: CertKey, uses: Use) {
        follow(&[&self.cert, &self.key], used, || self.read(), uses).await;
    }
}

/// Authorities of clients (`clientCAFile`), also after somebody has replaced their file.
///
/// # Errors
/// [`FileError`] when the file cannot be read now.
pub fn authority(path: &Path) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// Has what is in a file of authorities trusted, forever; `used` is already.
pub async fn follow_authority(path: PathBuf, used: String, authorities: Arc<Authorities>) {
    let uses = |pem: &String| authorities.replace(pem).map_err(|error| error.to_string());
    follow(&[&path], used, || authority(&path), uses).await;
}

/// Has what is in files used, forever; `used` is already.
async fn follow<T: PartialEq>(
    files: &[&Path],
    mut used: T,
    read: impl Fn() -> Result<T, FileError>,
    uses: impl Fn(&T) -> Result<(), String>,
) {
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let folders: Vec<Changes> = folders.into_iter().map(Changes::of).collect();
    let file = files.first().map(|file| file.display().to_string()).unwrap_or_default();
    loop {
        match read() {
            Ok(found) if found == used => {}
            Ok(found) => match uses(&found) {
                Ok(()) => {
                    tracing::info!(file, "certificates were replaced");
                    used = found;
                }
                Err(error) => tracing::warn!(file, %error, "the new certificates are not used"),
            },
            Err(error) => tracing::warn!(%error, "certificates are not read again"),
        }
        let changes = futures::future::select_all(folders.iter().map(|folder| Box::pin(folder.next())));
        if tokio::time::timeout(AGAIN, changes).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use auth::pki::Serving;
    use base::{Clock, SystemClock};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn files_that_are_replaced_are_used_once_they_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let given = Given { cert: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        let now = SystemClock::new().now();
        let [one, two] = ["one", "two"]
            .map(|name| auth::pki::join::self_signed(name, &[], now, Duration::from_secs(60)).unwrap());
        std::fs::write(&given.key, &one.key_pem).unwrap();
        std::fs::write(&given.cert, &one.cert_pem).unwrap();
        let serving = Serving::with(&one).unwrap();
        let (sender, mut used) = mpsc::unbounded_channel();
        let uses: Use = Box::new(move |cert| {
            serving.replace(cert).map_err(|error| error.to_string())?;
            sender.send(cert.clone()).map_err(|error| error.to_string())
        });
        tokio::spawn(given.clone().follow(one.clone(), uses));
        std::fs::write(&given.key, &two.key_pem).unwrap();
        std::fs::write(&given.cert, &two.cert_pem).unwrap();
        assert_eq!(used.recv().await.unwrap(), two);
    }
}
