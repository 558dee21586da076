//! TLS configurations, from certificates as PEM. TLS 1.2 and 1.3, by ring.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Authorities, CertKey, PkiError, Protection, Serving};

pub(super) fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(ca_pem)? {
        roots.add(cert)?;
    }
    if roots.is_empty() {
        return Err(PkiError::Certificate("there is none".to_owned()));
    }
    Ok(Arc::new(roots))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| PkiError::Certificate(e.to_string()))
}

fn identity(cert: &CertKey) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes())
        .map_err(|e| PkiError::Certificate(e.to_string()))?;
    Ok((certificates(&cert.cert_pem)?, key))
}

/// A certificate and its key as TLS signs with them.
pub(super) fn certified(cert: &CertKey) -> Result<CertifiedKey, PkiError> {
    let (chain, key) = identity(cert)?;
    Ok(CertifiedKey::from_der(chain, key, &default_provider())?)
}

/// Serves with `cert`. A client may show a certificate, which must then be of one of the authorities in
/// `client_ca_pem`; without any, clients are not asked.
pub fn server_config(cert: &CertKey, client_ca_pem: Option<&str>) -> Result<Arc<ServerConfig>, PkiError> {
    let authorities = client_ca_pem.map(Authorities::of).transpose()?;
    server_config_by(Arc::new(Serving::with(cert)?), authorities.map(Arc::new), &Protection::default())
}

/// The same, with whatever `serving` and `clients` hold when a client comes, and as `protection` says.
///
/// # Errors
/// [`PkiError`].
pub fn server_config_by(
    serving: Arc<Serving>,
    clients: Option<Arc<Authorities>>,
    protection: &Protection,
) -> Result<Arc<ServerConfig>, PkiError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&protection.provider))
        .with_protocol_versions(&protection.versions)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let mut config = builder.with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Trusts servers of the authorities in `ca_pem`, and shows `cert` to them.
pub fn client_config(ca_pem: &str, cert: Option<&CertKey>) -> Result<Arc<ClientConfig>, PkiError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_pem)?);
    let config = match cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let (chain, key) = identity(cert)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}
