//! One exchange with a webhook, over TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::Attempt;
use super::select::{Hook, Target};
use crate::https::{self, CallError};

/// The longest answer that is read.
const MAX_ANSWER: usize = 3 * 1024 * 1024;

/// Sends a review, and reads the answer within the webhook's time.
///
/// # Errors
/// Why there is no answer, in upstream's words.
pub(super) async fn post(hook: &Hook, attempt: &Attempt<'_>, review: String) -> Result<Bytes, String> {
    let place = resolve(hook, attempt)?;
    let tls = client_config(&hook.ca_bundle)?;
    let seconds = hook.timeout.as_secs();
    let query = if place.path.contains('?') { "&" } else { "?" };
    let path = format!("{}{query}timeout={seconds}s", place.path);
    let url = format!("https://{}{path}", place.authority);
    let exchange = exchange(&place, &path, tls, review);
    let answered = match tokio::time::timeout(hook.timeout, exchange).await {
        Ok(answered) => answered,
        Err(_) => Err(CallError::Timeout(hook.timeout)),
    };
    let (status, body) = answered.map_err(|error| format!("Post {url:?}: {error}"))?;
    if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
}

async fn exchange(
    place: &Place,
    path: &str,
    tls: Arc<ClientConfig>,
    review: String,
) -> Result<(StatusCode, Bytes), CallError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, &place.authority)
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .body(Full::new(Bytes::from(review)))
        .map_err(|error| CallError::Body(error.to_string()))?;
    let connection = https::connect(&place.address, &place.name, tls).await?;
    let response = connection.send(request).await?;
    let status = response.status();
    Ok((status, https::read(response.into_body(), MAX_ANSWER).await?))
}

/// What an answer says that is no success, as client-go tells it.
fn refused(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        _ if status.is_server_error() => {
            let text: String = text.trim().chars().take(2048).collect();
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        _ => format!(
            "the server responded with the status code {} but did not return more information",
            status.as_u16()
        ),
    }
}

struct Place {
    /// Where to connect.
    address: String,
    /// Which name to expect there.
    name: String,
    /// Host and port, as the URL has them.
    authority: String,
    path: String,
}

fn resolve(hook: &Hook, attempt: &Attempt<'_>) -> Result<Place, String> {
    match &hook.target {
        Target::Url(url) => {
            let rest =
                url.strip_prefix("https://").ok_or_else(|| format!("{url} does not begin with https://"))?;
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
                _ => (authority, "443"),
            };
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let (address, authority) = (format!("{host}:{port}"), authority.to_owned());
            Ok(Place { address, name, authority, path: format!("/{path}") })
        }
        Target::Service { namespace, name, path, port } => {
            let key = format!("{namespace}/{name}");
            let service = attempt.read("", "services", &key).map_err(|error| error.to_string())?;
            let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
            let ip = service.str_at(&["spec", "clusterIP"]).unwrap_or_default();
            if ip.is_empty() || ip == "None" {
                return Err(format!("service {name:?} has no cluster IP"));
            }
            let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
            let name = format!("{name}.{namespace}.svc");
            let address = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            Ok(Place { address, authority: format!("{name}:{port}"), name, path })
        }
    }
}

fn client_config(ca_bundle: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_bundle) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
