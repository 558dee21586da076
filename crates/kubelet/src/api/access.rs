//! Who may use the kubelet's API: whoever shows a certificate or a token that the API server knows, and is allowed by
//! it. Both answers are kept for a while, as long as the configuration says.

use std::time::Duration;

use auth::user::{MASTERS, User};
use base::SharedClock;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use sha2::{Digest, Sha256};

use super::attributes::{subresources, verb};
use super::{Refusal, Server};
use crate::cache::Cache;

/// A user, a verb and a subresource.
type Question = (String, Vec<String>, String, &'static str);

/// What is remembered.
pub struct Access {
    tokens: Cache<[u8; 32], Option<User>>,
    answers: Cache<Question, bool>,
}

impl Access {
    pub fn new(clock: &SharedClock) -> Self {
        Self { tokens: Cache::new(clock.clone()), answers: Cache::new(clock.clone()) }
    }
}

/// Refuses whoever may not.
pub async fn check(
    server: &Server,
    request: &Request<Incoming>,
    certified: Option<User>,
) -> Result<(), Refusal> {
    let user = authenticate(server, request, certified).await?;
    let fields = &server.shared.config.configuration.fields;
    // Masters may do everything at any API server: it need not be asked.
    if fields.authorization.mode == "AlwaysAllow" || user.is_in(MASTERS) {
        return Ok(());
    }
    let verb = verb(request.method());
    let asked = subresources(request.uri().path());
    for subresource in &asked {
        if may(server, &user, verb, subresource).await? {
            return Ok(());
        }
    }
    let name = &user.name;
    let asked = asked.join(" ");
    let message = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{asked}])\n");
    Err(Refusal(StatusCode::FORBIDDEN, message))
}

async fn authenticate(
    server: &Server,
    request: &Request<Incoming>,
    certified: Option<User>,
) -> Result<User, Refusal> {
    let unauthorized = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
    let settings = &server.shared.config.configuration.fields.authentication;
    if let Some(user) = certified {
        return Ok(user);
    }
    match bearer(request).filter(|_| settings.webhook.enabled) {
        Some(token) => by_token(server, token, settings.webhook.cache_ttl).await?.ok_or_else(unauthorized),
        None if settings.anonymous.enabled => Ok(User::anonymous()),
        None => Err(unauthorized()),
    }
}

fn bearer(request: &Request<Incoming>) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned()).filter(|token| !token.is_empty())
}

async fn by_token(server: &Server, token: String, time: Duration) -> Result<Option<User>, Refusal> {
    let key: [u8; 32] = Sha256::digest(&token).into();
    if let Some(known) = server.access.tokens.get(&key) {
        return Ok(known);
    }
    let review = TokenReview { spec: TokenReviewSpec { token, audiences: None }, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(server.shared.client.clone());
    let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
        tracing::warn!(%error, "a token could not be reviewed");
        Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())
    })?;
    let status = answer.status.filter(|status| status.authenticated == Some(true));
    let user = status.and_then(|status| status.user).map(|info| User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    });
    server.access.tokens.put(key, user.clone(), time);
    Ok(user)
}

async fn may(
    server: &Server,
    user: &User,
    verb: &'static str,
    subresource: &'static str,
) -> Result<bool, Refusal> {
    // What a user's further attributes allow is rarely asked, and never kept.
    let question = (user.name.clone(), user.groups.clone(), verb.to_owned(), subresource);
    let kept = user.extra.is_empty();
    if let Some(known) = server.access.answers.get(&question).filter(|_| kept) {
        return Ok(known);
    }
    let api: Api<SubjectAccessReview> = Api::all(server.shared.client.clone());
    let review = review(&server.shared.config.node_name, user, verb, subresource);
    let answer = api.create(&PostParams::default(), &review).await.map_err(|error| {
        tracing::warn!(%error, "an access could not be reviewed");
        Refusal::internal(format!(
            "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
            user.name
        ))
    })?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    if kept {
        let times = &server.shared.config.configuration.fields.authorization.webhook;
        let time = if allowed { times.cache_authorized_ttl } else { times.cache_unauthorized_ttl };
        server.access.answers.put(question, allowed, time);
    }
    Ok(allowed)
}

fn review(node: &str, user: &User, verb: &str, subresource: &str) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            groups: Some(user.groups.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(node.to_owned()),
                version: Some("v1".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
