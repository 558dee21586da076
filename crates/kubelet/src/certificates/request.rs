//! Asks the cluster for a certificate: a new key, a CertificateSigningRequest, and the answer.

use std::time::Duration;

use auth::pki::join::new_request;
use auth::pki::{CertKey, PkiError};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestSpec as Spec,
    CertificateSigningRequestStatus as Status,
};
use kube::Api;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};

use super::Wanted;

/// Before an API server that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No key or request could be made.
    #[error("making a certificate request: {0}")]
    Make(#[from] PkiError),
    /// The API server does not take it.
    #[error("asking {signer} for a certificate: {source}")]
    Ask {
        /// Who would sign.
        signer: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Somebody decided against it, or it could not be signed.
    #[error("certificate signing request {name} is {}, reason: {reason}, message: {message}", kind.to_lowercase())]
    Refused {
        /// The request.
        name: String,
        /// `Denied` or `Failed`.
        kind: String,
        /// The condition's.
        reason: String,
        /// The condition's.
        message: String,
    },
    /// Nobody decided.
    #[error(
        "certificate signing request {name} was not signed within {waited:?}: approve it with `kubectl certificate approve {name}`, or see why nobody does with `kubectl describe csr {name}`"
    )]
    Unanswered {
        /// The request.
        name: String,
        /// For so long.
        waited: Duration,
    },
    /// The request is gone.
    #[error("certificate signing request {0} was deleted before it was signed")]
    Deleted(String),
    /// What came is none.
    #[error("the certificate of signing request {0} is no PEM text")]
    NoText(String),
}

impl RequestError {
    /// Whether the API server does not know who asked.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Ask { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 401))
    }
}

/// Asks, and waits for the answer that long.
///
/// # Errors
/// [`RequestError`].
pub async fn request(
    client: &kube::Client,
    wanted: &Wanted,
    patience: Duration,
) -> Result<CertKey, RequestError> {
    let made = new_request(&wanted.name, &[wanted.group], &wanted.sans)?;
    let requests: Api<Request> = Api::all(client.clone());
    // The key is of an elliptic curve, which enciphers no other keys.
    let usages = ["digital signature", wanted.usage];
    let asked = Request {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: Spec {
            request: ByteString(made.csr_pem.into_bytes()),
            signer_name: wanted.signer.to_owned(),
            usages: Some(usages.map(str::to_owned).to_vec()),
            ..Spec::default()
        },
        ..Request::default()
    };
    let created = requests.create(&PostParams::default(), &asked).await;
    let created =
        created.map_err(|source| RequestError::Ask { signer: wanted.signer, source: Box::new(source) })?;
    let name = created.metadata.name.unwrap_or_default();
    tracing::info!(request = name, signer = wanted.signer, "a certificate was asked for");
    match tokio::time::timeout(patience, answer(&requests, &name)).await {
        Ok(certificate) => Ok(CertKey { cert_pem: certificate?, key_pem: made.key_pem }),
        Err(_) => Err(RequestError::Unanswered { name, waited: patience }),
    }
}

/// The certificate, once it is there. An API server that is away in between is waited for.
async fn answer(requests: &Api<Request>, name: &str) -> Result<String, RequestError> {
    loop {
        let since = match requests.get_opt(name).await {
            Ok(Some(found)) => match decided(name, found.status)? {
                Some(certificate) => return Ok(certificate),
                None => found.metadata.resource_version.unwrap_or_default(),
            },
            Ok(None) => return Err(RequestError::Deleted(name.to_owned())),
            Err(error) => {
                tracing::debug!(%error, request = name, "the certificate is not known of yet");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = match requests.watch(&only, &since).await {
            Ok(events) => events.boxed(),
            Err(error) => {
                tracing::debug!(%error, request = name, "the certificate is not waited for yet");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(found) | WatchEvent::Modified(found) => {
                    if let Some(certificate) = decided(name, found.status)? {
                        return Ok(certificate);
                    }
                }
                WatchEvent::Deleted(_) => return Err(RequestError::Deleted(name.to_owned())),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
        }
        // The watch has ended, perhaps with the API server: it is not asked again at once.
        tokio::time::sleep(PAUSE).await;
    }
}

fn decided(name: &str, status: Option<Status>) -> Result<Option<String>, RequestError> {
    let status = status.unwrap_or_default();
    let conditions = status.conditions.into_iter().flatten();
    if let Some(against) =
        conditions.into_iter().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"))
    {
        return Err(RequestError::Refused {
            name: name.to_owned(),
            kind: against.type_,
            reason: against.reason.unwrap_or_default(),
            message: against.message.unwrap_or_default(),
        });
    }
    let text = status.certificate.filter(|certificate| !certificate.0.is_empty());
    let text = text.map(|certificate| String::from_utf8(certificate.0)).transpose();
    text.map_err(|_| RequestError::NoText(name.to_owned()))
}
