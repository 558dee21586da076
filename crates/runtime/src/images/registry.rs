//! Talking to registries: the distribution protocol, as far as pulling needs it.

use std::fs;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode};

use super::auth::{Auth, Challenge, Issued};
use super::hosts::Endpoint;
use super::{ImageError, Name};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*";
const CONNECT: Duration = Duration::from_secs(30);
/// How long a token, or the reason of a refusal, may take to arrive, and the most bytes that are read of each.
const ANSWER: Duration = Duration::from_secs(30);
const LARGEST_TOKEN: usize = 1 << 20;
const LARGEST_REASON: usize = 4 << 10;

/// One image's repository, at every host that may be asked for it.
pub struct Repository {
    name: Name,
    hosts: Vec<Host>,
}

struct Host {
    endpoint: Endpoint,
    client: Client,
    auth: Auth,
    /// The `Authorization` that worked last.
    proof: Mutex<Option<String>>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// A manifest by tag or digest.
    Manifest(&'a str),
    /// A blob by digest, from this byte on.
    Blob(&'a str, u64),
}

impl Repository {
    /// Prepares to ask. `stall` is how long a host may say nothing.
    pub fn new(
        name: &Name,
        endpoints: Vec<Endpoint>,
        auth: &Auth,
        stall: Duration,
    ) -> Result<Self, ImageError> {
        let host = |endpoint: Endpoint| {
            let client = client(&endpoint, stall)?;
            // Another's host learns nobody's password.
            let auth = if endpoint.is_origin { auth.clone() } else { Auth::Anonymous };
            Ok(Host { endpoint, client, auth, proof: Mutex::default() })
        };
        let hosts = endpoints.into_iter().map(host).collect::<Result<_, ImageError>>()?;
        Ok(Self { name: name.clone(), hosts })
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Asks one host after the other, from the `first` on; gives its number with its answer. What the last
    /// one says counts: that is the registry itself.
    pub async fn ask(&self, ask: Ask<'_>, first: usize) -> Result<(Response, usize), ImageError> {
        let mut failure = ImageError::NotFound(self.name.to_string());
        let resolves = matches!(ask, Ask::Manifest(reference) if !reference.starts_with("sha256:"));
        for (at, host) in self.hosts.iter().enumerate().skip(first) {
            let may = host.endpoint.capabilities;
            if !(if resolves { may.resolve } else { may.pull }) {
                continue;
            }
            match self.ask_host(host, ask).await {
                Ok(response) => return Ok((response, at)),
                Err(error) => {
                    tracing::debug!(host = host.endpoint.host, error = %error, "a registry was no help");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    async fn ask_host(&self, host: &Host, ask: Ask<'_>) -> Result<Response, ImageError> {
        let failed = |error: reqwest::Error| self.failed(host, super::text(&error));
        let proof = host.proof.lock().clone().or_else(|| match &host.auth {
            // A password is shown when it is asked for; a token is for this host alone.
            Auth::Bearer(_) => host.auth.header(),
            _ => None,
        });
        let response = self.request(host, ask, proof.as_deref()).send().await.map_err(failed)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.check(host, response).await;
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenges.iter().filter_map(|value| Challenge::parse(value.to_str().ok()?)).next();
        let proof = match challenge {
            Some(Challenge::Basic) => host.auth.header(),
            Some(Challenge::Bearer { realm, service, scope }) => {
                Some(self.token(host, &realm, &service, &scope).await?)
            }
            None => None,
        };
        let Some(proof) = proof else { return self.check(host, response).await };
        let response = self.request(host, ask, Some(&proof)).send().await.map_err(failed)?;
        let response = self.check(host, response).await?;
        *host.proof.lock() = Some(proof);
        Ok(response)
    }

    fn request(&self, host: &Host, ask: Ask<'_>, proof: Option<&str>) -> RequestBuilder {
        let repository = self.name.reference().repository();
        let (kind, what) = match ask {
            Ask::Manifest(reference) => ("manifests", reference),
            Ask::Blob(digest, _) => ("blobs", digest),
        };
        let mut url = format!("{}/{repository}/{kind}/{what}", host.endpoint.base);
        if !host.endpoint.is_origin {
            // One mirror may stand for many registries.
            url.push_str(&format!("?ns={}", self.name.reference().registry()));
        }
        let mut request = host.client.get(url);
        if let Some(proof) = proof {
            request = request.header(AUTHORIZATION, proof);
        }
        match ask {
            Ask::Manifest(_) => request.header(ACCEPT, ACCEPTED),
            Ask::Blob(_, 0) => request,
            Ask::Blob(_, from) => request.header(RANGE, format!("bytes={from}-")),
        }
    }

    async fn check(&self, host: &Host, response: Response) -> Result<Response, ImageError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (registry, image) = (host.endpoint.host.clone(), self.name.to_string());
        let text = match beginning(response, LARGEST_REASON).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().chars().take(500).collect(),
            Err(why) => format!("and its reason could not be read: {why}"),
        };
        let reason = format!("{status} {text}");
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ImageError::Denied { registry, image, reason }
            }
            StatusCode::NOT_FOUND => ImageError::Missing { registry, image, reason },
            _ => ImageError::Registry { registry, image, reason },
        })
    }

    async fn token(
        &self,
        host: &Host,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<String, ImageError> {
        let failed = |error: reqwest::Error| self.failed(host, super::text(&error));
        let scope = if scope.is_empty() {
            format!("repository:{}:pull", self.name.reference().repository())
        } else {
            scope.to_owned()
        };
        let request = match &host.auth {
            Auth::Identity(token) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "knarr"),
                    ("scope", &scope),
                    ("refresh_token", token),
                ];
                let body = form_urlencoded(&form);
                host.client.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
            auth => {
                let mut request = host.client.get(realm).query(&[("service", service), ("scope", &scope)]);
                if let Some(header) = auth.header() {
                    request = request.header(AUTHORIZATION, header);
                }
                request
            }
        };
        let response = self.check(host, request.send().await.map_err(failed)?).await?;
        let issued = beginning(response, LARGEST_TOKEN).await.map_err(|why| self.failed(host, why))?;
        let issued: Issued = serde_json::from_slice(&issued)
            .map_err(|error| self.failed(host, format!("{realm} answered no token: {error}")))?;
        let none = || self.failed(host, format!("{realm} issued no token"));
        issued.token().map(|token| format!("Bearer {token}")).ok_or_else(none)
    }

    /// A host's failure, in the image's context.
    pub fn failed_at(&self, at: usize, reason: impl Into<String>) -> ImageError {
        match self.hosts.get(at) {
            Some(host) => self.failed(host, reason.into()),
            None => ImageError::NotFound(self.name.to_string()),
        }
    }

    fn failed(&self, host: &Host, reason: String) -> ImageError {
        ImageError::Registry { registry: host.endpoint.host.clone(), image: self.name.to_string(), reason }
    }
}

/// The first bytes of an answer, as far as they come in time.
async fn beginning(mut response: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < most
            && let Some(chunk) = response.chunk().await.map_err(|error| super::text(&error))?
        {
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    tokio::time::timeout(ANSWER, reading).await.unwrap_or_else(|_| Err("it took too long".to_owned()))?;
    bytes.truncate(most);
    Ok(bytes)
}

fn form_urlencoded(pairs: &[(&str, &str)]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    pairs.join("&")
}

fn client(endpoint: &Endpoint, stall: Duration) -> Result<Client, ImageError> {
    let read = |path: &std::path::PathBuf| {
        fs::read(path).map_err(ImageError::store(format!("reading {}", path.display())))
    };
    let malformed = |what: String| {
        move |error: reqwest::Error| ImageError::Malformed { what, reason: super::text(&error) }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &endpoint.headers {
        let bad = |reason: String| ImageError::Malformed { what: format!("header {name}"), reason };
        headers.append(
            HeaderName::try_from(name).map_err(|e| bad(e.to_string()))?,
            HeaderValue::try_from(value).map_err(|e| bad(e.to_string()))?,
        );
    }
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(stall)
        .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .tls_danger_accept_invalid_certs(endpoint.skip_verify);
    let mut roots = Vec::new();
    for path in &endpoint.authorities {
        roots.extend(
            Certificate::from_pem_bundle(&read(path)?).map_err(malformed(path.display().to_string()))?,
        );
    }
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    if let Some((certificate, key)) = endpoint.client.first() {
        let mut pem = read(certificate)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read(key)?);
        }
        let identity = Identity::from_pem(&pem).map_err(malformed(certificate.display().to_string()))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(malformed(format!("the settings of {}", endpoint.host)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn forms_are_escaped() {
        assert_eq!(super::form_urlencoded(&[("a", "b c"), ("d", "x&y=")]), "a=b%20c&d=x%26y%3D");
    }
}
