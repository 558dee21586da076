//! A request's whole way, in the order of its stages:
//!
//! request → [`authenticate`] → flow control → [`authorize`] → handlers → [`crate::write`] or [`crate::read`].

pub mod authenticate;
pub mod authorize;
mod deprecated;
pub mod request;

use std::sync::Arc;

use http::{Request, Response, header};

use crate::body::{self, Body};
use crate::core::Core;
use crate::handlers::resource::Call;
use crate::handlers::socket::Socket;
use crate::handlers::subresource::ConnectionParts;
use crate::handlers::{discovery, health, openapi, openapi_v2, resource, subresource};
use crate::negotiate;
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use authenticate::Peer;
use authorize::Authorized;
use request::RequestInfo;

/// Answers a request; never fails, since a failure is an answer as well.
pub async fn serve(core: &Arc<Core>, peer: &Peer, request: Request<Body>) -> Response<Body> {
    let started = core.clock.monotonic();
    let info = RequestInfo::parse(request.method(), request.uri().path(), request.uri().query());
    let encoding = negotiate::accept(request.headers(), true)
        .map_or(negotiate::Encoding::Json, |output| output.encoding);
    let counted = info.clone();
    let answer = stages(core, peer, info, request).await;
    let response = answer.unwrap_or_else(|error| {
        if error.code >= 500 {
            tracing::warn!(path = %counted.path, verb = counted.verb, %error, "a request failed");
        }
        body::error(&error, encoding)
    });
    core.metrics.observe(
        &counted,
        response.status().as_u16(),
        core.clock.monotonic().saturating_sub(started),
    );
    response
}

async fn stages(
    core: &Arc<Core>,
    peer: &Peer,
    info: RequestInfo,
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let authenticated = authenticate::authenticate(core, peer, request.headers(), info)?;
    let _permit = core.flow.enter(authenticated.info())?;
    let authorized = authorize::authorize(core, authenticated, request.headers())?;
    check_timeout(authorized.info())?;
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    if authorized.info().is_resource {
        let connection = ConnectionParts { upgrade };
        return on_resource(core, &authorized, &parts, connection, body).await;
    }
    on_path(core, &authorized, &parts).await
}

/// How long a client would wait at most must at least be a duration.
fn check_timeout(info: &RequestInfo) -> Result<()> {
    let timeout = info.param("timeout").filter(|text| !text.is_empty() && info.verb != "watch");
    timeout.map(schema::time::parse_duration).transpose().map_or_else(
        |error| {
            let why = format!("invalid timeout specified in the request URL - {error}");
            Err(ApiError::bad_request(why))
        },
        |_| Ok(()),
    )
}

async fn on_resource(
    core: &Arc<Core>,
    authorized: &Authorized,
    parts: &http::request::Parts,
    mut connection: ConnectionParts,
    body: Body,
) -> Result<Response<Body>> {
    let info = authorized.info();
    let socket = Socket::asked(info, &parts.headers, &mut connection)?;
    let response = answer(core, authorized, parts, connection, body).await?;
    Ok(match socket {
        Some(socket) => socket.carry(core, response),
        None => response,
    })
}

async fn answer(
    core: &Arc<Core>,
    authorized: &Authorized,
    parts: &http::request::Parts,
    connection: ConnectionParts,
    body: Body,
) -> Result<Response<Body>> {
    let info = authorized.info();
    let registry = core.registry();
    let resource =
        registry.get(&info.group, &info.version, &info.resource).ok_or_else(ApiError::no_such_path)?;
    if !resource.namespaced && !info.namespace.is_empty() && resource.plural != "namespaces" {
        return Err(ApiError::no_such_path());
    }
    fits(info, resource)?;
    let call = Call { core, authorized, resource, parts };
    if info.subresource.is_empty() {
        // A namespaced resource is written in a namespace; across all of them it is only read.
        let needs_namespace = resource.namespaced && info.namespace.is_empty();
        if needs_namespace && !matches!(info.verb, "list" | "watch") && resource.stored.is_some() {
            return Err(ApiError::wrong_method());
        }
        return deprecated::tell(resource, Box::pin(resource::handle(&call, body)).await);
    }
    deprecated::tell(resource, Box::pin(subresource::handle(&call, connection, body)).await)
}

/// Whether there is such a path, and what the method does there: an object is made in its collection, and changed by its
/// own path.
fn fits(info: &RequestInfo, resource: &Resource) -> Result<()> {
    let proxied = info.subresource == "proxy";
    if !proxied && (!info.rest.is_empty() || info.name.contains('/') || info.subresource.contains('/')) {
        return Err(ApiError::no_such_path());
    }
    // Reviews and bindings have no objects.
    let has_objects = resource.stored.is_some() || resource.allows("get");
    if !info.name.is_empty() && !has_objects && !matches!(info.verb, "list" | "watch") {
        return Err(ApiError::no_such_path());
    }
    let misplaced = match info.verb {
        "create" => info.subresource.is_empty() && !info.name.is_empty(),
        "update" | "patch" => info.name.is_empty(),
        _ => false,
    };
    if misplaced {
        return Err(ApiError::wrong_method());
    }
    let wrong = kinds::meta::NameRule::PathSegment.check(&info.name);
    if wrong.is_empty() || proxied || matches!(info.verb, "list" | "watch" | "deletecollection") {
        return Ok(());
    }
    let why = format!("Name parameter invalid: {:?}: {}", info.name, wrong.join(";"));
    Err(ApiError::bad_request(why))
}

async fn on_path(
    core: &Arc<Core>,
    authorized: &Authorized,
    parts: &http::request::Parts,
) -> Result<Response<Body>> {
    let info = authorized.info();
    if !matches!(info.verb, "get" | "head") {
        return Err(ApiError::wrong_method());
    }
    match info.path.trim_end_matches('/') {
        "" => Ok(body::json(&serde_json::json!({"paths": paths(core)}))),
        "/version" => Ok(body::json(&health::version())),
        "/metrics" => {
            let text = core.metrics.render(&object_counts(core));
            Ok(body::text(200, text + &core.settings.gates.metric()))
        }
        path if ["/healthz", "/livez", "/readyz"]
            .iter()
            .any(|root| path == *root || path.starts_with(&format!("{root}/"))) =>
        {
            health::handle(core, path, info.query.iter().any(|(key, _)| key == "verbose")).await
        }
        "/openapi/v2" => openapi_v2::handle(core, &parts.headers),
        path if path == "/openapi/v3" || path.starts_with("/openapi/v3/") => openapi::handle(core, path),
        path if path == "/api"
            || path == "/apis"
            || path.starts_with("/api/")
            || path.starts_with("/apis/") =>
        {
            discovery::handle(core, path, parts)
        }
        "/.well-known/openid-configuration" => Ok(body::json(&core.tokens.discovery())),
        "/openid/v1/jwks" => {
            Ok(body::respond(200, "application/jwk-set+json", core.tokens.jwks().to_string()))
        }
        _ => Err(ApiError::no_such_path()),
    }
}

fn paths(core: &Core) -> Vec<String> {
    let registry = core.registry();
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
    for (group, versions) in registry.groups() {
        for version in versions {
            paths.push(match group.is_empty() {
                true => format!("/api/{version}"),
                false => format!("/apis/{group}/{version}"),
            });
        }
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths
}

fn object_counts(core: &Core) -> Vec<(String, usize)> {
    let registry = core.registry();
    let mut counts: Vec<(String, usize)> = registry
        .all()
        .filter_map(|resource| {
            let (_, cache) = resource.stored.as_ref()?;
            Some((crate::status::qualified(&resource.group, &resource.plural), cache.len()))
        })
        .collect();
    counts.sort();
    counts.dedup();
    counts
}
