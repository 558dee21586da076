//! An authority, and the certificates that it signs.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::{CertKey, PkiError};

/// Certificates begin this much earlier, for clocks that are a little slow.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// The attribute O, by number.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const AUTHORITY_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To show who one is.
    Client,
    /// To serve.
    Server,
}

impl Usage {
    fn purpose(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Self::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

/// Whom a certificate is for.
pub(super) struct Subject<'a> {
    pub name: &'a str,
    pub groups: &'a [&'a str],
    pub sans: &'a [String],
}

/// A serving certificate signed by its own key.
pub(super) fn self_signed_server(
    name: &str,
    sans: &[String],
    key: &KeyPair,
    now: Timestamp,
    ttl: Duration,
) -> Result<String, PkiError> {
    let mut params = CertificateParams::new(sans.to_vec())?;
    params.distinguished_name = distinguished_name(name, &[])?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![Usage::Server.purpose()];
    validity(&mut params, now, later(now, ttl));
    Ok(params.self_signed(key)?.pem())
}

/// An authority that is given by its files, rather than by the cluster's PKI.
pub struct CertificateAuthority(Authority);

impl CertificateAuthority {
    /// Reads its certificate and its key (PEM).
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn load(cert_pem: String, key_pem: &str) -> Result<Self, PkiError> {
        Ok(Self(Authority::load(cert_pem, KeyPair::from_pem(key_pem)?)?))
    }

    /// Signs a certificate request (PKCS #10, PEM) with its own subject and names. Whether it may have them
    /// is the caller's to decide.
    ///
    /// # Errors
    /// When the request cannot be read.
    pub fn sign(
        &self,
        csr_pem: &str,
        usages: &[Usage],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<String, PkiError> {
        self.0.sign(csr_pem, usages, now, ttl)
    }
}

/// A certificate authority.
pub(super) struct Authority {
    pub cert_pem: String,
    pub cert_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A name with its groups. The library holds one value of each type of attribute; the same attribute by its
/// number counts as another type, which makes two.
pub(super) fn distinguished_name(name: &str, groups: &[&str]) -> Result<DistinguishedName, PkiError> {
    let mut subject = DistinguishedName::new();
    match groups {
        [] => {}
        [group] => subject.push(DnType::OrganizationName, *group),
        [first, second] => {
            subject.push(DnType::OrganizationName, *first);
            subject.push(DnType::CustomDnType(ORGANIZATION.to_vec()), *second);
        }
        _ => {
            return Err(PkiError::Certificate(format!(
                "{name:?} has {} groups, and two are possible",
                groups.len()
            )));
        }
    }
    subject.push(DnType::CommonName, name);
    Ok(subject)
}

fn validity(params: &mut CertificateParams, now: Timestamp, end: Timestamp) {
    params.not_before = date(now.checked_sub(SKEW).unwrap_or(Timestamp::MIN));
    params.not_after = date(end);
}

/// A self-signed certificate for an authority's key.
pub(super) fn self_signed(name: &str, key: &KeyPair, now: Timestamp) -> Result<String, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now, later(now, AUTHORITY_TTL));
    Ok(params.self_signed(key)?.pem())
}

impl Authority {
    pub fn load(cert_pem: String, key: KeyPair) -> Result<Self, PkiError> {
        let unreadable = |why: &dyn std::fmt::Display| PkiError::Certificate(why.to_string());
        let cert_der =
            CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|e| unreadable(&e))?.into_owned();
        let not_after = super::x509::not_after(&cert_der)?;
        if super::x509::public_key(&cert_der)? != key.public_key_raw() {
            return Err(unreadable(&"its key is not the one beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&cert_der, key)?;
        Ok(Self { cert_pem, cert_der, issuer, not_after })
    }

    pub fn issue(
        &self,
        subject: &Subject<'_>,
        usage: Usage,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<CertKey, PkiError> {
        let mut params = CertificateParams::new(subject.sans.to_vec())?;
        params.distinguished_name = distinguished_name(subject.name, subject.groups)?;
        self.limit(&mut params, usage, now, ttl);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(CertKey { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a PKCS #10 request as it is; whoever calls has checked that it may say what it says.
    pub fn sign(
        &self,
        csr_pem: &str,
        usages: &[Usage],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        let requested = super::x509::requested(csr_pem)?;
        let groups: Vec<&str> = requested.groups.iter().map(String::as_str).collect();
        request.params.distinguished_name = distinguished_name(&requested.name, &groups)?;
        for usage in usages {
            self.limit(&mut request.params, *usage, now, ttl);
        }
        request.params.extended_key_usages = usages.iter().map(|usage| usage.purpose()).collect();
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    fn limit(&self, params: &mut CertificateParams, usage: Usage, now: Timestamp, ttl: Duration) {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage.purpose()];
        params.use_authority_key_identifier_extension = true;
        validity(params, now, later(now, ttl).min(self.not_after));
    }
}
