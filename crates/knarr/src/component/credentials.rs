//! `--use-service-account-credentials`: each controller as its own service account, by tokens that are renewed.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base::SharedClock;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::client::Body;
use tower::Service;

/// How long a token is asked for, in seconds.
const LIFETIME: i64 = 3600;
/// A token is renewed when less than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(600);

/// Clients of one API server that act as service accounts of `kube-system`.
pub struct Accounts {
    /// Who asks for the tokens.
    manager: kube::Client,
    config: kube::Config,
    clock: SharedClock,
    made: HashMap<String, kube::Client>,
}

impl Accounts {
    /// Reads the kubeconfig, whose user asks for the tokens.
    ///
    /// # Errors
    /// When it makes no sense.
    pub async fn new(kubeconfig: &str, clock: SharedClock) -> Result<Self> {
        let manager = client::connect::kubeconfig(kubeconfig).await?;
        let parsed = kube::config::Kubeconfig::from_yaml(kubeconfig)?;
        let mut config = kube::Config::from_custom_kubeconfig(parsed, &Default::default()).await?;
        // The server is the same, the user is not: a certificate would win over a token.
        config.auth_info = kube::config::AuthInfo::default();
        Ok(Self { manager, config, clock, made: HashMap::new() })
    }

    /// A client that is the service account `name`.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn client(&mut self, name: &str) -> Result<kube::Client> {
        if let Some(client) = self.made.get(name) {
            return Ok(client.clone());
        }
        let tokens = Arc::new(Tokens {
            client: self.manager.clone(),
            account: name.to_owned(),
            clock: self.clock.clone(),
            current: tokio::sync::Mutex::new(None),
        });
        let nobody = client::connect::of(self.config.clone())?;
        let client = kube::Client::new(WithToken { inner: nobody, tokens }, "default");
        self.made.insert(name.to_owned(), client.clone());
        Ok(client)
    }
}

struct Tokens {
    client: kube::Client,
    account: String,
    clock: SharedClock,
    current: tokio::sync::Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl Tokens {
    async fn header(&self) -> Result<HeaderValue> {
        let mut current = self.current.lock().await;
        if let Some((header, end)) = &*current
            && end.duration_since(self.clock.now()) > jiff::SignedDuration::try_from(RENEW_BEFORE)?
        {
            return Ok(header.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "kube-system");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(LIFETIME), ..Default::default() }),
            ..Default::default()
        };
        let asked = accounts.create_token_request(&self.account, &PostParams::default(), &request).await;
        let answer = match asked {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let metadata = ObjectMeta { name: Some(self.account.clone()), ..Default::default() };
                let account = ServiceAccount { metadata, ..Default::default() };
                match accounts.create(&PostParams::default(), &account).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    other => drop(other?),
                }
                accounts.create_token_request(&self.account, &PostParams::default(), &request).await?
            }
            other => other?,
        };
        let status = answer.status.unwrap_or_default();
        let token = status.token.context("a token request was answered without a token")?;
        let end = status.expiration_timestamp.context("a token without an end")?.0;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))?;
        header.set_sensitive(true);
        *current = Some((header.clone(), end));
        Ok(header)
    }
}

/// A service whose requests carry an account's token.
#[derive(Clone)]
struct WithToken {
    inner: kube::Client,
    tokens: Arc<Tokens>,
}

impl Service<Request<Body>> for WithToken {
    type Response = Response<Body>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, tower::BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (inner, tokens) = (self.inner.clone(), self.tokens.clone());
        Box::pin(async move {
            request.headers_mut().insert(AUTHORIZATION, tokens.header().await?);
            Ok(inner.send(request).await?)
        })
    }
}
