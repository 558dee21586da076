//! Whose certificates clients may show, which may be replaced while a server serves.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{PkiError, tls};

/// Authorities by whom certificates of clients may be signed. Connections that are there already stay when they change.
#[derive(Debug)]
pub struct Authorities {
    current: RwLock<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Authorities {
    /// Begins with these.
    ///
    /// # Errors
    /// [`PkiError`] when `pem` holds none that TLS can use.
    pub fn of(pem: &str) -> Result<Self, PkiError> {
        let provider = Arc::new(default_provider());
        Ok(Self { current: RwLock::new(verifier(pem, &provider)?), provider })
    }

    /// Trusts these from now on, and no others.
    ///
    /// # Errors
    /// [`PkiError`] when `pem` holds none that TLS can use: the old ones then stay.
    pub fn replace(&self, pem: &str) -> Result<(), PkiError> {
        *self.current.write() = verifier(pem, &self.provider)?;
        Ok(())
    }

    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        self.current.read().clone()
    }
}

fn verifier(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(tls::roots(pem)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| PkiError::Certificate(error.to_string()))
}

impl ClientCertVerifier for Authorities {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // None: they could not be replaced. Clients show what they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.current().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
