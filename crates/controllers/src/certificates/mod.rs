//! Certificate requests: approved where a kubelet may have what it asks for, signed when they are approved, and
//! removed when they are old (upstream's csrapproving, csrsigning and csrcleaner controllers).
//!
//! Beyond upstream, a kubelet's serving certificate is approved too, if it is for addresses of its own node.

pub mod plan;
pub mod run;

use std::time::Duration;

/// What a certificate request (PKCS #10) asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The subject's CN.
    pub name: String,
    /// Every O of the subject.
    pub groups: Vec<String>,
    /// DNS names and IP addresses.
    pub sans: Vec<String>,
    /// Whether it asks for names of other kinds: e-mail addresses, URIs.
    pub other_names: bool,
}

/// The cluster's authority, as far as the controllers need it.
pub trait Signer: Send + Sync {
    /// Reads a request (PEM).
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&self, pem: &str) -> Result<Requested, String>;

    /// Signs a request (PEM) as it is, for clients or for servers. Returns the certificate (PEM).
    ///
    /// # Errors
    /// Why it cannot be signed, in words.
    fn sign(&self, pem: &str, client: bool, server: bool, ttl: Duration) -> Result<String, String>;
}
