//! A certificate with its key in one file, as upstream's kubelet keeps them:
//!
//! ```text
//! kubelet-client-2026-01-31-08-30-00.pem
//! kubelet-client-current.pem -> kubelet-client-2026-01-31-08-30-00.pem
//! ```
//!
//! The link is replaced once the file is on disk, so that it always leads to a whole one. The file before the newest
//! stays, for whoever has it open; those before it go.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use auth::pki::{CertKey, PkiError};
use jiff::Timestamp;

/// Why a certificate is not read or kept.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{}: {source}: remove it to have a new one made", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: PkiError,
    },
}

/// The files of one certificate.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
    /// `kubelet-client` or `kubelet-server`.
    prefix: &'static str,
}

impl Files {
    /// Those of this name in a directory, which may not be there yet.
    pub fn new(dir: &Path, prefix: &'static str) -> Self {
        Self { dir: dir.to_owned(), prefix }
    }

    /// Where the newest one is.
    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.prefix))
    }

    /// The newest one; `None` when there never was one.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn load(&self) -> Result<Option<CertKey>, FileError> {
        let path = self.current();
        match fs::read_to_string(&path) {
            Ok(text) => match CertKey::parse(&text) {
                Ok(cert) => Ok(Some(cert)),
                Err(source) => Err(FileError::Damaged { path, source }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FileError::Io { path, source }),
        }
    }

    /// Keeps a new one.
    ///
    /// # Errors
    /// [`FileError`]; the one before it is then still the newest.
    pub fn save(&self, cert: &CertKey, now: Timestamp) -> Result<(), FileError> {
        let of = |path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(of(&self.dir))?;
        let name = format!("{}-{}.pem", self.prefix, now.strftime("%Y-%m-%d-%H-%M-%S"));
        let path = self.dir.join(&name);
        auth::pki::write_private(&path, &format!("{}{}", cert.cert_pem, cert.key_pem)).map_err(of(&path))?;
        let updated = self.dir.join(format!("{}-updated.pem", self.prefix));
        match fs::remove_file(&updated) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(of(&updated)(error)),
            _ => symlink(&name, &updated).map_err(of(&updated))?,
        }
        fs::rename(&updated, self.current()).map_err(of(&updated))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(of(&self.dir))?;
        self.forget(&name);
        Ok(())
    }

    /// Removes files from before the one before this.
    fn forget(&self, newest: &str) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let is_ours = |name: &String| {
            let rest = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix('-'));
            name != newest && rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut old: Vec<String> = names.filter(is_ours).collect();
        old.sort_unstable();
        old.pop();
        for name in old {
            if let Err(error) = fs::remove_file(self.dir.join(&name)) {
                tracing::debug!(name, %error, "an old certificate stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cert(name: &str) -> CertKey {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        auth::pki::join::self_signed(name, &[], now, std::time::Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn the_newest_is_current_and_the_one_before_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("pki"), "kubelet-client");
        assert!(files.load().unwrap().is_none());
        let certs = ["a", "b", "c"].map(cert);
        for (second, cert) in (1_800_000_000..).zip(&certs) {
            files.save(cert, Timestamp::from_second(second).unwrap()).unwrap();
            assert_eq!(files.load().unwrap().as_ref(), Some(cert));
        }
        let mut names: Vec<_> = fs::read_dir(dir.path().join("pki"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "kubelet-client-2027-01-15-08-00-01.pem",
                "kubelet-client-2027-01-15-08-00-02.pem",
                "kubelet-client-current.pem"
            ]
        );
        assert_eq!(fs::metadata(files.current()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn something_else_is_no_missing_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path(), "kubelet-server");
        fs::write(files.current(), "nothing").unwrap();
        assert!(matches!(files.load(), Err(FileError::Damaged { .. })));
        // A link whose file is gone: a restart is to have a new certificate, not an error for ever.
        fs::remove_file(files.current()).unwrap();
        symlink("gone.pem", files.current()).unwrap();
        assert!(files.load().unwrap().is_none());
        files.save(&cert("a"), Timestamp::UNIX_EPOCH).unwrap();
        assert!(files.load().unwrap().is_some());
    }
}
