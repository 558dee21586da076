//! Keys of pods, and the requests by which their kubelets show that they have them. Most are ring's; it makes no keys of
//! RSA, and knows nothing of the curve P-521: [decision](../../../../docs/decisions/0025-keys-of-pods.md).

use std::fmt::Display;

use p521::ecdsa::signature::{Signer, Verifier};
use p521::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p521::elliptic_curve::Generate;
use p521::pkcs8::{DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rcgen::{CertificateParams, KeyPair};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::PkiError;

/// `ecdsa-with-SHA512`, 1.2.840.10045.4.3.4, as an AlgorithmIdentifier (RFC 5758).
const ECDSA_WITH_SHA512: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
/// The text of that identifier.
const ECDSA_WITH_SHA512_ID: &str = "1.2.840.10045.4.3.4";

/// A key of this type (as a pod's volume names it), with a request that says nothing but that whoever asks has it.
/// DER, and the key as PEM (PKCS #8). Of RSA it takes seconds of a processor's time.
///
/// # Errors
/// [`PkiError`], also for types that there are not.
pub fn stub_request(key_type: &str) -> Result<(Vec<u8>, String), PkiError> {
    let key = match key_type {
        "RSA3072" => rsa(3072)?,
        "RSA4096" => rsa(4096)?,
        "ECDSAP256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        "ECDSAP384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        "ECDSAP521" => return p521_request(),
        "ED25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        other => return Err(PkiError::Certificate(format!("there are no keys of type {other:?}"))),
    };
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok((params.serialize_request(&key)?.der().to_vec(), key.serialize_pem()))
}

fn unmade(why: impl Display) -> PkiError {
    PkiError::Certificate(format!("a key could not be made: {why}"))
}

fn rsa(bits: usize) -> Result<KeyPair, PkiError> {
    let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
    let key = rsa::PrivateKey::new(&mut random, bits).map_err(unmade)?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(unmade)?;
    Ok(KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256)?)
}

/// RFC 2986.
fn p521_request() -> Result<(Vec<u8>, String), PkiError> {
    let secret = p521::SecretKey::generate();
    let pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(unmade)?;
    let public = secret.public_key().to_public_key_der().map_err(unmade)?;
    let (version, nobody, no_attributes) = ([0x02, 1, 0], [0x30, 0], [0xa0, 0]);
    let info = der(0x30, &[&version, &nobody, public.as_bytes(), &no_attributes]);
    let signature: DerSignature = SigningKey::from(&secret).try_sign(&info).map_err(unmade)?;
    let bits = der(0x03, &[&[0], signature.as_bytes()]);
    Ok((der(0x30, &[&info, &ECDSA_WITH_SHA512, &bits]), pem.to_string()))
}

/// A DER value: its tag, its length, and what it consists of.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let length = length.get(first..).unwrap_or_default();
    let mut value = vec![tag];
    if content.len() >= 0x80 {
        value.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
    }
    value.extend_from_slice(length);
    value.extend_from_slice(&content);
    value
}

/// Whether a certificate request (DER) is signed by the key that it asks for, whatever else it says.
///
/// # Errors
/// [`PkiError::Certificate`] when it is not, or cannot be read.
pub fn verify_request(der: &[u8]) -> Result<(), PkiError> {
    let unusable = |why: &dyn Display| PkiError::Certificate(format!("the request: {why}"));
    let (_, request) = X509CertificationRequest::from_der(der).map_err(|e| unusable(&e))?;
    let info = &request.certification_request_info;
    let key = VerifyingKey::from_public_key_der(info.subject_pki.raw);
    match key {
        Ok(key) if request.signature_algorithm.algorithm.to_id_string() == ECDSA_WITH_SHA512_ID => {
            let signature =
                DerSignature::from_bytes(&request.signature_value.data).map_err(|e| unusable(&e))?;
            key.verify(info.raw, &signature).map_err(|e| unusable(&e))
        }
        _ => request.verify_signature().map_err(|e| unusable(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_says_nothing_and_is_signed_by_its_own_key() {
        for key_type in ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"] {
            let (mut request, key) = stub_request(key_type).unwrap();
            assert!(key.starts_with("-----BEGIN PRIVATE KEY"));
            verify_request(&request).unwrap();
            *request.last_mut().unwrap() ^= 1;
            assert!(verify_request(&request).is_err(), "{key_type}");
        }
        assert!(stub_request("RSA1024").is_err());
    }

    #[test]
    fn another_program_reads_the_key_and_the_request() {
        for (key_type, told) in [("RSA3072", "3072 bit"), ("ECDSAP521", "NIST CURVE: P-521")] {
            let (request, key) = stub_request(key_type).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let (request_file, key_file) = (folder.path().join("csr"), folder.path().join("key"));
            std::fs::write(&request_file, request).unwrap();
            std::fs::write(&key_file, key).unwrap();
            let openssl = |arguments: &[&str], file: &std::path::Path| {
                let output =
                    std::process::Command::new("openssl").args(arguments).arg(file).output().unwrap();
                assert!(
                    output.status.success(),
                    "{arguments:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                )
            };
            let seen =
                openssl(&["req", "-verify", "-noout", "-text", "-inform", "DER", "-in"], &request_file);
            assert!(seen.to_lowercase().contains("verify ok") && seen.contains(told), "{seen}");
            let own = openssl(&["req", "-pubkey", "-noout", "-inform", "DER", "-in"], &request_file);
            assert_eq!(openssl(&["pkey", "-pubout", "-in"], &key_file), own);
        }
    }
}
