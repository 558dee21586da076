//! What a server serves with, which may be replaced while it serves.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{CertKey, PkiError, tls};

/// A certificate that can be replaced. Connections that are there already keep the one that they began with; while
/// there is none, handshakes fail.
#[derive(Debug, Default)]
pub struct Serving(RwLock<Option<Arc<CertifiedKey>>>);

impl Serving {
    /// Begins with this one.
    ///
    /// # Errors
    /// [`PkiError`] when TLS cannot use it, or the key is another certificate's.
    pub fn with(cert: &CertKey) -> Result<Self, PkiError> {
        let serving = Self::default();
        serving.replace(cert)?;
        Ok(serving)
    }

    /// Serves with this one from now on.
    ///
    /// # Errors
    /// [`PkiError`] when TLS cannot use it, or the key is another certificate's: the old one then stays.
    pub fn replace(&self, cert: &CertKey) -> Result<(), PkiError> {
        let certified = tls::certified(cert)?;
        *self.0.write() = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}
