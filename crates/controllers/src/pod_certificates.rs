//! Requests for pods' certificates that are answered, or that nobody answers, go after a quarter of an hour: kubelets
//! have read them long before (upstream's podcertificaterequestcleaner).

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use crate::context::Context;
use crate::view::{AnyView, split};

const KEEP: SignedDuration = SignedDuration::from_mins(15);

/// How long a request stays yet; `None` when its time is over. Pure.
pub fn left(request: &AnyView, now: Timestamp) -> Option<Duration> {
    let made = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let left = KEEP - now.duration_since(made);
    left.is_positive().then(|| left.unsigned_abs())
}

/// Looks at one request.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: String) -> Result<Option<Duration>, kube::Error> {
    let Some(request) = context.informers.pod_certificate_requests.get(&key) else { return Ok(None) };
    if let Some(left) = left(&request, context.clock.now()) {
        return Ok(Some(left));
    }
    let (namespace, name) = split(&key);
    let api: Api<PodCertificateRequest> =
        Api::namespaced(context.clients.pod_certificate_requests.clone(), namespace);
    let only = Preconditions { uid: Some(request.metadata.uid.clone()), ..Preconditions::default() };
    let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    match api.delete(name, &parameters).await {
        // Somebody was faster, or it is another one of its name by now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        other => other.map(|_| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_for_a_quarter_of_an_hour() {
        let request: AnyView = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
        )
        .unwrap();
        let at = |text: &str| left(&request, text.parse().unwrap());
        assert_eq!(at("2026-01-01T00:14:00Z"), Some(Duration::from_secs(60)));
        assert_eq!(at("2026-01-01T00:15:00Z"), None);
    }
}
