//! Projected volumes: several sources in one folder.

use std::collections::BTreeSet;

use schema::Object;

use super::env::mode;
use super::paths::not_reserved;
use super::read::{entries, int, items, maybe, sub, text};
use super::security::number;
use super::selector;
use super::signer;
use super::volume::{downward_file, key_to_path};
use crate::content;
use crate::field::{At, Errors, Json};

/// Paths that are taken, and where to complain.
struct Taken<'a> {
    paths: BTreeSet<&'a str>,
    at: &'a At<'a>,
}

impl<'a> Taken<'a> {
    fn take(&mut self, path: &'a str, shown: &str, errors: &mut Errors) {
        if !self.paths.insert(path) {
            errors.invalid(self.at, shown, "conflicting duplicate paths");
        }
    }
}

/// Checks a projected volume.
pub(super) fn check(volume: &Object, at: &At<'_>, errors: &mut Errors) {
    mode(volume, "defaultMode", at, errors);
    number(volume, "defaultUser", at, errors);
    let mut taken = Taken { paths: BTreeSet::new(), at };
    let sources_at = at.child("sources");
    for (index, source) in items(volume, "sources").enumerate() {
        let here = sources_at.index(index);
        let mut count = 0;
        for field in ["secret", "configMap"] {
            if let Some(keyed) = sub(source, field) {
                count += 1;
                keys(keyed, &here.child(field), &mut taken, errors);
            }
        }
        if let Some(downward) = sub(source, "downwardAPI") {
            count += 1;
            for file in items(downward, "items") {
                downward_file(file, &here.child("downwardAPI"), errors);
                let path = text(file, "path");
                if !path.is_empty() {
                    taken.take(path, path, errors);
                }
            }
        }
        if let Some(token) = sub(source, "serviceAccountToken") {
            count += 1;
            number(token, "user", &here.child("serviceAccountToken"), errors);
            service_account_token(token, &here.child("serviceAccountToken"), at, errors);
        }
        if let Some(bundle) = sub(source, "clusterTrustBundle") {
            count += 1;
            number(bundle, "user", &here.child("clusterTrustBundle"), errors);
            trust_bundle(bundle, &here.child("clusterTrustBundle"), &mut taken, errors);
        }
        if let Some(certificate) = sub(source, "podCertificate") {
            count += 1;
            number(certificate, "user", &here.child("podCertificate"), errors);
            pod_certificate(certificate, &here.child("podCertificate"), &mut taken, errors);
        }
        if count > 1 {
            errors.forbidden(&here, "may not specify more than 1 volume type per source");
        }
    }
}

fn keys<'a>(source: &'a Object, at: &At<'_>, taken: &mut Taken<'a>, errors: &mut Errors) {
    let name = text(source, "name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    let items_at = at.child("items");
    for (index, item) in items(source, "items").enumerate() {
        key_to_path(item, &items_at.index(index), errors);
        let path = text(item, "path");
        if !path.is_empty() {
            taken.take(path, name, errors);
        }
    }
}

fn service_account_token(token: &Object, at: &At<'_>, volume: &At<'_>, errors: &mut Errors) {
    let seconds = int(token, "expirationSeconds").unwrap_or_default();
    let place = at.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(&place, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&place, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    match text(token, "path") {
        "" => errors.required(&volume.child("path"), ""),
        path => not_reserved(path, &volume.child("path"), errors),
    }
}

fn trust_bundle<'a>(bundle: &'a Object, at: &At<'_>, taken: &mut Taken<'a>, errors: &mut Errors) {
    match (maybe(bundle, "name"), maybe(bundle, "signerName")) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.invalid(at, Json(super::shown::trust_bundle(bundle)), why);
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&at.child("name"), "must be a valid object name");
            }
            for problem in signer::trust_bundle_name(name) {
                let why = format!("not a valid clustertrustbundlename: {problem}");
                errors.invalid(&at.child("name"), name, why);
            }
            if let Some(selector) = sub(bundle, "labelSelector") {
                let shown = Json(super::shown::json(selector));
                let why = "labelSelector must be unset if name is specified";
                errors.invalid(&at.child("labelSelector"), shown, why);
            }
        }
        (None, Some(name)) => {
            if name.is_empty() {
                errors.required(&at.child("signerName"), "must be a valid signer name");
            }
            signer::name(name, &at.child("signerName"), errors);
            selector::check(sub(bundle, "labelSelector"), &at.child("labelSelector"), errors);
        }
        (None, None) => errors.required(at, "either name or signerName must be specified"),
    }
    let path = text(bundle, "path");
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    not_reserved(path, &at.child("path"), errors);
    taken.take(path, path, errors);
}

/// The longest that a certificate may live, of any signer and of Kubernetes' own (KEP-4317), in seconds.
const LONGEST: i64 = 91 * 24 * 3600;
const LONGEST_OF_KUBERNETES: i64 = 24 * 3600;

fn pod_certificate<'a>(certificate: &'a Object, at: &At<'_>, taken: &mut Taken<'a>, errors: &mut Errors) {
    let signer_name = text(certificate, "signerName");
    signer::name(signer_name, &at.child("signerName"), errors);
    for (key, _) in entries(certificate, "userAnnotations") {
        let key = key.to_lowercase();
        let place = at.child("userAnnotations");
        let problems = content::qualified_name(&key);
        if key.is_empty() {
            errors.required(&place, "");
        } else if !problems.is_empty() {
            errors.each(&place, &key, problems);
        } else if !key.contains('/') {
            errors.invalid(&place, &key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        }
    }
    const KEYS: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    let key = text(certificate, "keyType");
    if !KEYS.contains(&key) {
        errors.not_supported_in_order(&at.child("keyType"), key, &KEYS);
    }
    if let Some(seconds) = int(certificate, "maxExpirationSeconds") {
        let place = at.child("maxExpirationSeconds");
        if seconds < 3600 {
            errors.invalid(&place, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        let most = if signer::is_kubernetes(signer_name) { LONGEST_OF_KUBERNETES } else { LONGEST };
        if seconds > most {
            errors.invalid(&place, seconds, format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let mut count = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = text(certificate, field);
        if !path.is_empty() {
            count += 1;
            not_reserved(path, &at.child(field), errors);
            taken.take(path, path, errors);
        }
    }
    if count == 0 {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, why);
    }
}
