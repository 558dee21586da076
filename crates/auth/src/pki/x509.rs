//! What a certificate says.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer;

use super::PkiError;
use crate::user::User;

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    X509Certificate::from_der(der).map(|(_, cert)| cert).map_err(|e| PkiError::Certificate(e.to_string()))
}

pub(super) fn not_after(der: &[u8]) -> Result<Timestamp, PkiError> {
    let seconds = parse(der)?.validity().not_after.timestamp();
    Timestamp::from_second(seconds).map_err(|e| PkiError::Certificate(e.to_string()))
}

pub(super) fn public_key(der: &[u8]) -> Result<Vec<u8>, PkiError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

/// The public key with its algorithm (SPKI, DER).
pub(super) fn spki(der: &[u8]) -> Result<Vec<u8>, PkiError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

/// Whether `authority` signed `der`.
pub(super) fn is_signed_by(der: &[u8], authority: &[u8]) -> Result<bool, PkiError> {
    let (cert, authority) = (parse(der)?, parse(authority)?);
    Ok(cert.issuer() == authority.subject() && cert.verify_signature(Some(authority.public_key())).is_ok())
}

/// The names and addresses that a certificate is for, sorted.
pub(super) fn sans(der: &[u8]) -> Result<Vec<String>, PkiError> {
    let cert = parse(der)?;
    let names = cert.subject_alternative_name().map_err(|e| PkiError::Certificate(e.to_string()))?;
    let mut sans: Vec<String> =
        names.iter().flat_map(|extension| &extension.value.general_names).filter_map(general_name).collect();
    sans.sort_unstable();
    Ok(sans)
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// Whom a certificate is for, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The subject's CN.
    pub name: String,
    /// Every O of the subject.
    pub groups: Vec<String>,
    /// DNS names and IP addresses, sorted.
    pub sans: Vec<String>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Reads the first certificate of a chain (PEM).
///
/// # Errors
/// [`PkiError::Certificate`] when it is none.
pub fn holder(pem: &str) -> Result<Holder, PkiError> {
    let unusable = |why: &dyn std::fmt::Display| PkiError::Certificate(why.to_string());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(&e))?;
    let cert = parse(&der)?;
    let date = |at: i64| Timestamp::from_second(at).map_err(|e| unusable(&e));
    let name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(Holder {
        name: name.unwrap_or_default().to_owned(),
        groups: cert
            .subject()
            .iter_organization()
            .filter_map(|group| group.as_str().ok().map(str::to_owned))
            .collect(),
        sans: sans(&der)?,
        not_before: date(cert.validity().not_before.timestamp())?,
        not_after: date(cert.validity().not_after.timestamp())?,
    })
}

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

/// Reads a certificate request (PEM). A subject of anything else than one CN and O is refused, since none of
/// Kubernetes' signers signs one.
///
/// # Errors
/// [`PkiError::Certificate`], also when its signature is not by its own key.
pub fn requested(pem: &str) -> Result<Requested, PkiError> {
    let unusable =
        |why: &dyn std::fmt::Display| PkiError::Certificate(format!("the request cannot be read: {why}"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| unusable(&e))?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| unusable(&e))?;
    request.verify_signature().map_err(|e| unusable(&e))?;
    let (mut name, mut groups) = (None, Vec::new());
    for attribute in request.certification_request_info.subject.iter_attributes() {
        let value = attribute.as_str().map_err(|e| unusable(&e))?.to_owned();
        match attribute.attr_type() {
            oid if *oid == OID_X509_COMMON_NAME && name.is_none() => name = Some(value),
            oid if *oid == OID_X509_ORGANIZATION_NAME => groups.push(value),
            oid => return Err(unusable(&format!("its subject holds {oid} beside one CN and O"))),
        }
    }
    let name = name.ok_or_else(|| unusable(&"its subject has no CN"))?;
    let mut found = Requested { name, groups, ..Requested::default() };
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            for name in &names.general_names {
                match general_name(name) {
                    Some(name) => found.sans.push(name),
                    None => found.other_names = true,
                }
            }
        }
    }
    Ok(found)
}

/// Whether the certificate may show who a client is, at this time.
pub(super) fn is_valid_client(der: &[u8], now: Timestamp) -> Result<bool, PkiError> {
    let cert = parse(der)?;
    let (begin, end) = (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
    let usage = cert.extended_key_usage().map_err(|e| PkiError::Certificate(e.to_string()))?;
    let is_client = usage.is_none_or(|usage| usage.value.client_auth || usage.value.any);
    Ok(is_client && (begin..=end).contains(&now.as_second()))
}

/// The user that a certificate names: CN is the name, every O a group. `None` when it names nobody.
///
/// Says nothing of whether the certificate is genuine: TLS must have verified it against the cluster's
/// authority, as the configuration of [`server_config`](super::server_config) does.
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let cert = parse(der).ok()?;
    let name =
        cert.subject().iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?.to_owned();
    let groups: Vec<&str> =
        cert.subject().iter_organization().filter_map(|group| group.as_str().ok()).collect();
    let mut user = User::known(name, &groups);
    let fingerprint = ring::digest::digest(&ring::digest::SHA256, der);
    let hex: String = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra
        .insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={hex}")]);
    Some(user)
}
