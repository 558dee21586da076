//! What a machine needs that joins a cluster: certificate requests, and trust in an authority known by its hash.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{CertKey, PkiError, issue, x509};

/// A certificate request (PKCS #10, PEM) and its new key (PEM).
#[derive(Clone)]
pub struct NewRequest {
    /// The request.
    pub csr_pem: String,
    /// The key.
    pub key_pem: String,
}

/// Makes a key and asks for a certificate with this subject and these names.
///
/// # Errors
/// [`PkiError`].
pub fn new_request(name: &str, groups: &[&str], sans: &[String]) -> Result<NewRequest, PkiError> {
    let mut params = CertificateParams::new(sans.to_vec())?;
    params.distinguished_name = issue::distinguished_name(name, groups)?;
    let key = KeyPair::generate()?;
    Ok(NewRequest { csr_pem: params.serialize_request(&key)?.pem()?, key_pem: key.serialize_pem() })
}

/// A serving certificate that nobody else vouches for.
///
/// # Errors
/// [`PkiError`].
pub fn self_signed(
    name: &str,
    sans: &[String],
    now: jiff::Timestamp,
    ttl: std::time::Duration,
) -> Result<CertKey, PkiError> {
    let key = KeyPair::generate()?;
    let cert = issue::self_signed_server(name, sans, &key, now, ttl)?;
    Ok(CertKey { cert_pem: cert, key_pem: key.serialize_pem() })
}

/// When a certificate (PEM) ends.
///
/// # Errors
/// [`PkiError`] when it is none.
pub fn not_after(cert_pem: &str) -> Result<jiff::Timestamp, PkiError> {
    x509::not_after(&first(cert_pem)?)
}

fn first(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Certificate(e.to_string()))
}

/// An authority's hash: SHA-256 of its public key (SPKI, DER) in hexadecimal, as kubeadm's
/// `--discovery-token-ca-cert-hash` has it behind `sha256:`.
///
/// # Errors
/// [`PkiError`] when it is no certificate.
pub fn hash(ca_pem: &str) -> Result<String, PkiError> {
    hash_of(&first(ca_pem)?)
}

fn hash_of(der: &CertificateDer<'_>) -> Result<String, PkiError> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &x509::spki(der)?);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The authority with this hash among the certificates that a server showed, as PEM.
pub fn find(shown: &[CertificateDer<'_>], hash: &str) -> Option<String> {
    let found = shown.iter().find(|der| hash_of(der).is_ok_and(|known| known == hash))?;
    Some(encoded(found))
}

fn encoded(der: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The certificates of a PEM text, and nothing of what stands between them or in their headers.
///
/// # Errors
/// [`PkiError`] when it holds none, or something that is none.
pub fn chain(pem: &str) -> Result<String, PkiError> {
    let unusable = |why: String| PkiError::Certificate(why);
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| unusable(error.to_string()))?;
    if all.is_empty() {
        return Err(unusable("there is none".to_owned()));
    }
    Ok(all.iter().map(encoded).collect())
}

/// Trusts a server that shows the authority with this hash and a certificate of it.
///
/// # Errors
/// [`PkiError`].
pub fn pinned_config(hash: &str) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = Arc::new(default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let verifier = Arc::new(Pinned { hash: hash.to_owned(), schemes });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Pinned {
    hash: String,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|der| hash_of(der).is_ok_and(|hash| hash == self.hash));
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General(
                "the server shows no authority with the hash that the token names".to_owned(),
            )
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use base::{SystemClock, SystemRandom};

    use super::*;
    use crate::pki::{Pki, Usage, requested};

    fn pki(dir: &std::path::Path) -> Pki {
        Pki::load_or_create(dir, SystemClock::shared(), SystemRandom::shared()).unwrap()
    }

    #[test]
    fn a_request_says_what_was_asked_for_and_its_certificate_too() {
        let dir = tempfile::tempdir().unwrap();
        let pki = pki(dir.path());
        let request = new_request("system:node:a", &["system:nodes"], &["10.0.0.1".to_owned()]).unwrap();
        let asked = requested(&request.csr_pem).unwrap();
        assert_eq!((asked.name.as_str(), asked.other_names), ("system:node:a", false));
        assert_eq!(
            (asked.groups, asked.sans),
            (vec!["system:nodes".to_owned()], vec!["10.0.0.1".to_owned()])
        );
        let ttl = std::time::Duration::from_secs(3600);
        let signed = pki.sign_request(&request.csr_pem, &[Usage::Client], ttl).unwrap();
        let user = pki.user_from_peer_cert(&first(&signed).unwrap()).unwrap();
        assert_eq!(user.name, "system:node:a");
        assert!(not_after(&signed).unwrap() > jiff::Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn only_the_authority_with_the_hash_is_trusted() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (pki(one.path()), pki(other.path()));
        let hash = hash(one.ca_pem()).unwrap();
        let verify = |pki: &Pki, shown: &Pki| {
            let ttl = std::time::Duration::from_secs(3600);
            let leaf = pki.issue_server("s", &[], &["localhost".to_owned()], ttl).unwrap();
            let verifier = Pinned { hash: hash.clone(), schemes: Vec::new() };
            let name = ServerName::try_from("localhost").unwrap();
            let chain = [first(shown.ca_pem()).unwrap()];
            verifier.verify_server_cert(&first(&leaf.cert_pem).unwrap(), &chain, &name, &[], UnixTime::now())
        };
        assert!(verify(&one, &one).is_ok());
        assert!(verify(&other, &other).is_err());
        assert!(verify(&other, &one).is_err());
        let shown = [first(other.ca_pem()).unwrap(), first(one.ca_pem()).unwrap()];
        assert_eq!(find(&shown, &hash).unwrap().trim(), one.ca_pem().trim());
    }
}
