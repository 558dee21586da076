//! The cluster's keys and certificates.
//!
//! ```text
//! ca.crt, ca.key                            the cluster's authority: clients and servers
//! front-proxy-ca.crt, front-proxy-ca.key    who may speak for users before aggregated API servers
//! sa.key                                    signs service account tokens (ECDSA P-256)
//! encryption.key                            encrypts Secrets at rest
//! apiserver.crt, apiserver.key              the serving certificate; issued again when its names change
//! ```
//!
//! Every file has mode 0600, the directory 0700. What is there is never replaced, except a serving
//! certificate; what is missing is made, unless something else depends on it. All other certificates are
//! issued when they are needed and not kept here.

mod authorities;
mod files;
mod issue;
pub mod join;
mod protection;
mod serving;
mod stub;
mod tls;
mod x509;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{SharedClock, SharedRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use self::authorities::Authorities;
pub use self::files::write_private;
use self::issue::{Authority, Subject};
pub use self::issue::{CertificateAuthority, Usage};
pub use self::protection::Protection;
pub use self::serving::Serving;
pub use self::stub::{stub_request, verify_request};
pub use self::tls::{client_config, server_config, server_config_by};
pub use self::x509::{Holder, Requested, holder, requested, user_of_certificate};
use crate::token::SigningKey;
use crate::user::User;

/// Serving certificates are issued for a year, and again when less than a month is left.
const SERVING_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate (with its chain) and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertKey {
    /// The certificate.
    pub cert_pem: String,
    /// The key (PKCS #8).
    pub key_pem: String,
}

impl CertKey {
    /// Takes apart a file that holds both, as a kubelet's do.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when one is missing.
    pub fn parse(pem: &str) -> Result<Self, PkiError> {
        let (mut cert_pem, mut key_pem) = (String::new(), String::new());
        let mut into: Option<&mut String> = None;
        for line in pem.lines() {
            if let Some(label) = line.trim_end().strip_prefix("-----BEGIN ") {
                into = match label.strip_suffix("-----") {
                    Some("CERTIFICATE") => Some(&mut cert_pem),
                    Some(label) if label.ends_with("PRIVATE KEY") => Some(&mut key_pem),
                    _ => None,
                };
            }
            if let Some(text) = into.as_deref_mut() {
                text.push_str(line.trim_end());
                text.push('\n');
            }
            if line.starts_with("-----END ") {
                into = None;
            }
        }
        if cert_pem.is_empty() || key_pem.is_empty() {
            return Err(PkiError::Certificate("there is no certificate with its key".to_owned()));
        }
        Ok(Self { cert_pem, key_pem })
    }
}

impl fmt::Debug for CertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertKey").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// Why keys or certificates could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// A file is missing that belongs to another one.
    #[error("{} is missing, although {} is there: put it back, or remove both to begin anew", missing.display(), present.display())]
    Incomplete {
        /// The file that is missing.
        missing: PathBuf,
        /// The file that needs it.
        present: PathBuf,
    },
    /// A file holds something else than it should.
    #[error("{}: {why}: put back a backup, or remove it to have a new one made", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be used.
    #[error("a certificate cannot be used: {0}")]
    Certificate(String),
    /// A certificate could not be issued.
    #[error("a certificate could not be issued: {0}")]
    Issue(#[from] rcgen::Error),
    /// TLS refused a certificate or key.
    #[error("TLS cannot use a certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The cluster's keys, and what is signed with them.
pub struct Pki {
    dir: PathBuf,
    clock: SharedClock,
    ca: Authority,
    front_proxy: Authority,
    service_accounts: SigningKey,
    encryption_key: [u8; 32],
}

impl Pki {
    /// Reads the keys in `dir`; makes those that are missing. Of several processes that do so at once, one makes
    /// them and the others wait.
    ///
    /// # Errors
    /// When a file cannot be read or written, is damaged, or lacks the one that it belongs to.
    pub fn load_or_create(dir: &Path, clock: SharedClock, random: SharedRandom) -> Result<Self, PkiError> {
        files::private_dir(dir).map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        let locked = std::fs::File::open(dir).and_then(|dir| dir.lock().map(|()| dir));
        let _lock = locked.map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        let folder = Folder { dir, clock: &clock };
        Ok(Self {
            ca: folder.authority("ca", "kubernetes")?,
            front_proxy: folder.authority("front-proxy-ca", "front-proxy-ca")?,
            service_accounts: folder.signing_key("sa.key")?,
            encryption_key: folder.encryption_key("encryption.key", &random)?,
            dir: dir.to_owned(),
            clock,
        })
    }

    /// The cluster authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca.cert_pem
    }

    /// The front proxy authority's certificate.
    pub fn front_proxy_ca_pem(&self) -> &str {
        &self.front_proxy.cert_pem
    }

    /// Signs service account tokens.
    pub fn service_account_key(&self) -> &SigningKey {
        &self.service_accounts
    }

    /// Encrypts Secrets at rest.
    pub fn encryption_key(&self) -> &[u8; 32] {
        &self.encryption_key
    }

    /// A client certificate: `name` becomes the user, `groups` its groups.
    pub fn issue_client(&self, name: &str, groups: &[&str], ttl: Duration) -> Result<CertKey, PkiError> {
        self.ca.issue(&Subject { name, groups, sans: &[] }, Usage::Client, self.clock.now(), ttl)
    }

    /// A kubelet's client certificate.
    pub fn issue_kubelet_client(&self, node: &str, ttl: Duration) -> Result<CertKey, PkiError> {
        self.issue_client(&format!("system:node:{node}"), &["system:nodes"], ttl)
    }

    /// A serving certificate for these names and addresses.
    pub fn issue_server(
        &self,
        name: &str,
        groups: &[&str],
        sans: &[String],
        ttl: Duration,
    ) -> Result<CertKey, PkiError> {
        self.ca.issue(&Subject { name, groups, sans }, Usage::Server, self.clock.now(), ttl)
    }

    /// The certificate with which the API server speaks for users to aggregated ones.
    pub fn issue_front_proxy_client(&self, name: &str, ttl: Duration) -> Result<CertKey, PkiError> {
        self.front_proxy.issue(
            &Subject { name, groups: &[], sans: &[] },
            Usage::Client,
            self.clock.now(),
            ttl,
        )
    }

    /// Signs a certificate request (PKCS #10, PEM) with its own subject and names. Whether it may have them
    /// is the caller's to decide.
    pub fn sign_request(&self, csr_pem: &str, usages: &[Usage], ttl: Duration) -> Result<String, PkiError> {
        self.ca.sign(csr_pem, usages, self.clock.now(), ttl)
    }

    /// The API server's serving certificate for these names and addresses. It is kept, and issued again when
    /// they change or little of its time is left.
    pub fn apiserver_cert(&self, sans: &[String]) -> Result<CertKey, PkiError> {
        let folder = Folder { dir: &self.dir, clock: &self.clock };
        if let Some(kept) = folder.kept("apiserver")?
            && self.still_serves(&kept, sans).unwrap_or(false)
        {
            return Ok(kept);
        }
        let issued = self.issue_server("kube-apiserver", &[], sans, SERVING_TTL)?;
        folder.write("apiserver.key", &issued.key_pem)?;
        folder.write("apiserver.crt", &issued.cert_pem)?;
        Ok(issued)
    }

    fn still_serves(&self, kept: &CertKey, sans: &[String]) -> Result<bool, PkiError> {
        let der = CertificateDer::from_pem_slice(kept.cert_pem.as_bytes());
        let der = der.map_err(|e| PkiError::Certificate(e.to_string()))?;
        let key = KeyPair::from_pem(&kept.key_pem)?;
        let mut wanted = sans.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let left = x509::not_after(&der)?.duration_since(self.clock.now());
        Ok(x509::is_signed_by(&der, &self.ca.cert_der)?
            && x509::public_key(&der)? == key.public_key_raw()
            && x509::sans(&der)? == wanted
            && left > jiff::SignedDuration::try_from(RENEW_BEFORE).unwrap_or(jiff::SignedDuration::MAX))
    }

    /// The user that a client certificate shows, if the cluster's authority issued it and it is valid now.
    pub fn user_from_peer_cert(&self, der: &[u8]) -> Option<User> {
        let genuine = x509::is_signed_by(der, &self.ca.cert_der).unwrap_or(false)
            && x509::is_valid_client(der, self.clock.now()).unwrap_or(false);
        if genuine { user_of_certificate(der) } else { None }
    }
}

/// The directory of the files.
struct Folder<'a> {
    dir: &'a Path,
    clock: &'a SharedClock,
}

impl Folder<'_> {
    fn read(&self, name: &str) -> Result<Option<String>, PkiError> {
        let path = self.dir.join(name);
        files::read(&path).map_err(|source| PkiError::Io { path, source })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let path = self.dir.join(name);
        write_private(&path, text).map_err(|source| PkiError::Io { path, source })
    }

    fn damaged(&self, name: &str) -> impl FnOnce(String) -> PkiError {
        let path = self.dir.join(name);
        move |why| PkiError::Damaged { path, why }
    }

    fn kept(&self, name: &str) -> Result<Option<CertKey>, PkiError> {
        let (cert, key) = (self.read(&format!("{name}.crt"))?, self.read(&format!("{name}.key"))?);
        Ok(cert.zip(key).map(|(cert_pem, key_pem)| CertKey { cert_pem, key_pem }))
    }

    fn key(&self, name: &str) -> Result<KeyPair, PkiError> {
        match self.read(name)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| self.damaged(name)(e.to_string())),
            None => {
                let key = KeyPair::generate()?;
                self.write(name, &key.serialize_pem())?;
                Ok(key)
            }
        }
    }

    fn authority(&self, file: &str, name: &str) -> Result<Authority, PkiError> {
        let (cert_file, key_file) = (format!("{file}.crt"), format!("{file}.key"));
        let cert = self.read(&cert_file)?;
        if cert.is_some() && self.read(&key_file)?.is_none() {
            return Err(PkiError::Incomplete {
                missing: self.dir.join(key_file),
                present: self.dir.join(cert_file),
            });
        }
        let key = self.key(&key_file)?;
        let cert = match cert {
            Some(cert) => cert,
            // The key may be there already, when its certificate was lost to a crash: nothing was issued then.
            None => {
                let cert = issue::self_signed(name, &key, self.clock.now())?;
                self.write(&cert_file, &cert)?;
                cert
            }
        };
        Authority::load(cert, key).map_err(|e| self.damaged(&cert_file)(e.to_string()))
    }

    fn signing_key(&self, name: &str) -> Result<SigningKey, PkiError> {
        let key = self.key(name)?;
        SigningKey::from_pkcs8(key.serialized_der()).map_err(|e| self.damaged(name)(e.to_string()))
    }

    fn encryption_key(&self, name: &str, random: &SharedRandom) -> Result<[u8; 32], PkiError> {
        match self.read(name)? {
            Some(text) => {
                let bytes = STANDARD.decode(text.trim()).map_err(|e| self.damaged(name)(e.to_string()))?;
                bytes.try_into().map_err(|_| self.damaged(name)("it must be 32 bytes, in base64".to_owned()))
            }
            None => {
                let mut key = [0; 32];
                random.fill(&mut key);
                self.write(name, &format!("{}\n", STANDARD.encode(key)))?;
                Ok(key)
            }
        }
    }
}

#[cfg(test)]
mod tests;
