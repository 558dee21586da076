//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may speak for which signer.

use auth::authorizer::{Attributes, Decision};
use schema::Object;

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Approving needs `approve`, and issuing needs `sign`, on the signer.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let resource = attempt.resource;
    if resource.group != "certificates.k8s.io" || resource.plural != "certificatesigningrequests" {
        return Ok(());
    }
    let signer = object.str_at(&["spec", "signerName"]).unwrap_or_default();
    let refuse = |why: &str| Err(ApiError::forbidden(&resource.group, &resource.plural, object.name(), why));
    match (attempt.operation, attempt.authorized.info().subresource.as_str(), attempt.old) {
        (Operation::Create, "", _) if signer == CLIENT_SIGNER => {
            let request = object.at(&["spec", "request"]).and_then(schema::Value::as_bytes);
            let pem = request.and_then(|bytes| std::str::from_utf8(bytes).ok());
            let asked = pem.and_then(|pem| auth::pki::requested(pem).ok());
            match asked {
                Some(asked) if asked.groups.iter().any(|group| group == auth::user::MASTERS) => refuse(
                    "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
                ),
                _ => Ok(()),
            }
        }
        (Operation::Update(_), "approval", _) if !may(attempt, "approve", signer) => {
            refuse(&format!("user not permitted to approve requests with signerName {signer:?}"))
        }
        (Operation::Update(_), "status", Some(old))
            if old.at(&["status"]) != object.at(&["status"]) && !may(attempt, "sign", signer) =>
        {
            refuse(&format!("user not permitted to sign requests with signerName {signer:?}"))
        }
        _ => Ok(()),
    }
}

/// Whether the user may do this with a signer, or with all of its domain.
pub fn may(attempt: &Attempt<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")].iter().any(|name| {
        let attributes = Attributes {
            user: attempt.authorized.user(),
            verb,
            api_group: "certificates.k8s.io",
            api_version: "*",
            resource: "signers",
            subresource: "",
            name,
            namespace: "",
            path: "",
            is_resource: true,
        };
        matches!(attempt.core.authorizer.authorize(&attributes), Decision::Allow(_))
    })
}
