//! Who may use the kubelet's API: the cluster's masters, and whoever the API server allows this node's `proxy`,
//! `stats` or `metrics`.

use auth::user::{MASTERS, User};
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::{Refusal, Server};

/// Refuses whoever may not.
pub async fn check(
    server: &Server,
    request: &Request<Incoming>,
    certified: Option<User>,
) -> Result<(), Refusal> {
    let unauthorized = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
    let user = match certified {
        Some(user) => user,
        None => {
            by_token(server, bearer(request).ok_or_else(unauthorized)?).await?.ok_or_else(unauthorized)?
        }
    };
    if user.is_in(MASTERS) {
        return Ok(());
    }
    let subresource = match request.uri().path().split('/').nth(1) {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        _ => "proxy",
    };
    let verb = if request.method() == Method::GET { "get" } else { "create" };
    let node = &server.shared.config.node_name;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            groups: Some(user.groups.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(node.clone()),
                version: Some("v1".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(server.shared.client.clone());
    let answer = api.create(&PostParams::default(), &review).await.map_err(Refusal::internal)?;
    if answer.status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    let message = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])\n",
        user.name
    );
    Err(Refusal(StatusCode::FORBIDDEN, message))
}

fn bearer(request: &Request<Incoming>) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned()).filter(|token| !token.is_empty())
}

async fn by_token(server: &Server, token: String) -> Result<Option<User>, Refusal> {
    let review = TokenReview { spec: TokenReviewSpec { token, audiences: None }, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(server.shared.client.clone());
    let answer = api.create(&PostParams::default(), &review).await.map_err(Refusal::internal)?;
    let status = answer.status.filter(|status| status.authenticated == Some(true));
    Ok(status.and_then(|status| status.user).map(|info| User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }))
}
