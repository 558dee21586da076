//! Names of signers and of the trust bundles that belong to them.

use crate::content::{self, Problems};
use crate::field::{At, Errors};

/// Whether a signer is one of Kubernetes' own.
pub(super) fn is_kubernetes(name: &str) -> bool {
    let host = name.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// The name of a signer: a domain and a path.
pub(super) fn name(name: &str, at: &At<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(at, "");
        return;
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(at, name, why);
        return;
    };
    if domain.len() > 253 {
        errors.too_long(at, 253);
    }
    first_wrong(domain, content::label, at, errors);
    if !domain.contains('.') {
        errors.invalid(at, domain, "should be a domain with at least two segments separated by dots");
    }
    first_wrong(path, content::subdomain, at, errors);
    // A domain, a slash, a label, a dot and a name.
    const LONGEST: usize = 253 + 1 + 63 + 1 + 253;
    if name.len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
}

fn first_wrong(text: &str, rule: fn(&str) -> Problems, at: &At<'_>, errors: &mut Errors) {
    let wrong = text.split('.').map(|label| (label, rule(label))).find(|(_, problems)| !problems.is_empty());
    if let Some((label, problems)) = wrong {
        for problem in problems {
            errors.invalid(at, text, format!("validating label {label:?}: {problem}"));
        }
    }
}

/// What is wrong with the name of a trust bundle, which begins with its signer's if it has one.
pub(super) fn trust_bundle_name(name: &str) -> Problems {
    content::subdomain(name.rsplit_once(':').map_or(name, |(_, rest)| rest))
}
