//! Requests for pods' certificates (KEP-4317): signers take what they say of a pod on this server's word.

use schema::{Object, Value};

use super::certificates::may;
use super::{Attempt, node::MIRROR};
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

fn is_meant(attempt: &Attempt<'_>) -> bool {
    attempt.resource.group == "certificates.k8s.io" && attempt.resource.plural == "podcertificaterequests"
}

fn refuse<T>(attempt: &Attempt<'_>, name: &str, why: &str) -> Result<T> {
    Err(ApiError::forbidden(&attempt.resource.group, &attempt.resource.plural, name, why))
}

/// Whoever asks has the key, and whoever issues may sign for the signer.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    if !is_meant(attempt) {
        return Ok(());
    }
    match (attempt.operation, attempt.authorized.info().subresource.as_str(), attempt.old) {
        (Operation::Create, "", _) => {
            let request = object.at(&["spec", "stubPKCS10Request"]).and_then(Value::as_bytes);
            match auth::pki::verify_request(request.map(|bytes| bytes.as_ref()).unwrap_or_default()) {
                Ok(()) => Ok(()),
                Err(error) => refuse(attempt, object.name(), &format!("spec.stubPKCS10Request: {error}")),
            }
        }
        (Operation::Update(_), "status", Some(old)) if old.at(&["status"]) != object.at(&["status"]) => {
            let signer = object.str_at(&["spec", "signerName"]).unwrap_or_default();
            match may(attempt, "sign", signer) {
                true => Ok(()),
                false => {
                    let why = format!("user not permitted to sign requests with signerName {signer:?}");
                    refuse(attempt, object.name(), &why)
                }
            }
        }
        _ => Ok(()),
    }
}

/// A kubelet asks for pods that run on its node, as they are, and does nothing else with requests.
///
/// # Errors
/// 403.
pub fn restrict(attempt: &Attempt<'_>, node: &str, object: Option<&Object>) -> Result<()> {
    let (Operation::Create, Some(request)) = (attempt.operation, object) else {
        return refuse(attempt, "", &format!("node {node:?} can only create requests"));
    };
    let namespace = attempt.namespace();
    let said = |field: &str| request.str_at(&["spec", field]).unwrap_or_default();
    let key = |name: &str| format!("{namespace}/{name}");
    let known = (
        attempt.read("", "nodes", node)?,
        attempt.read("", "pods", &key(said("podName")))?,
        attempt.read("", "serviceaccounts", &key(said("serviceAccountName")))?,
    );
    let (Some(own), Some(pod), Some(account)) = known else {
        return refuse(attempt, request.name(), "its node, its pod or its service account is not there");
    };
    let account_name = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default();
    let wrong = [
        (said("nodeName") != node, "spec.nodeName is not the requesting node"),
        (said("nodeUID") != own.uid(), "spec.nodeUID is not the node's"),
        (said("podUID") != pod.uid(), "spec.podUID is not the pod's"),
        (pod.str_at(&["spec", "nodeName"]) != Some(node), "the pod is not running on the requesting node"),
        (pod.annotation(MIRROR).is_some(), "the pod is a mirror pod"),
        (said("serviceAccountName") != account_name, "spec.serviceAccountName is not the pod's"),
        (said("serviceAccountUID") != account.uid(), "spec.serviceAccountUID is not the service account's"),
    ];
    match wrong.into_iter().find(|(is, _)| *is) {
        Some((_, why)) => refuse(attempt, request.name(), why),
        None => Ok(()),
    }
}
