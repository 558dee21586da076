//! What lies below an object: `status`, `scale`, `binding`, `eviction` and the rest.

use http::{Method, Response};
use kinds::Part;
use schema::{Object, Value};

use super::resource::{self, Call};
use super::{binding, eviction, node_proxy, proxy, scale, token};
use crate::body::{self, Body};
use crate::negotiate;
use crate::status::{ApiError, Result};
use crate::write::decode;

/// Answers a request on a subresource.
///
/// # Errors
/// What the client is told.
pub async fn handle(call: &Call<'_>, parts: ConnectionParts, body: Body) -> Result<Response<Body>> {
    let info = call.authorized.info();
    let sub = call.resource.sub(&info.subresource).ok_or_else(ApiError::no_such_path)?;
    // What somebody may do to a pod's own pages is more than there are verbs for.
    let is_asked_how = info.subresource == "proxy" && call.parts.method == Method::OPTIONS;
    if !is_asked_how && !sub.verbs.iter().any(|verb| verb == info.verb) {
        return Err(ApiError::wrong_method());
    }
    match info.subresource.as_str() {
        "status" => whole(call, body, Part::Status).await,
        "finalize" => whole(call, body, Part::Other("finalize")).await,
        "approval" => whole(call, body, Part::Other("approval")).await,
        "ephemeralcontainers" => whole(call, body, Part::Other("ephemeralcontainers")).await,
        "resize" => whole(call, body, Part::Other("resize")).await,
        "scale" => scale::handle(call, body).await,
        "binding" => binding::create(call, body).await,
        "eviction" => eviction::create(call, body).await,
        "token" => token::create(call, body).await,
        "log" | "exec" | "attach" | "portforward" => node_proxy::handle(call, parts, body).await,
        "proxy" => proxy::handle(call, parts, body).await,
        _ => Err(ApiError::no_such_path()),
    }
}

/// What is left of a request once its body was taken: needed to switch protocols.
pub struct ConnectionParts {
    /// Becomes the raw connection after a 101.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

/// A subresource that is the object itself, of which a write changes one part.
async fn whole(call: &Call<'_>, body: Body, part: Part) -> Result<Response<Body>> {
    match call.authorized.info().verb {
        "get" => {
            let entry = crate::read::get::entry(call.core, call.authorized, call.resource).await?;
            let (codec, _) = call.core.codec(call.resource)?;
            let object = codec.object(&entry).map_err(ApiError::internal)?;
            let resource = call.resource;
            let object =
                crate::convert::convert(object, &resource.api_version(), &resource.kind, &resource.ty)?;
            resource::answer_object(call, &object, 200, &[])
        }
        "update" => resource::answer_update(call, body, part).await,
        "patch" => resource::answer_patch(call, body, part).await,
        _ => Err(ApiError::wrong_method()),
    }
}

/// A body of another kind than the resource's, and what its client is to be warned of.
///
/// # Errors
/// 400 and 415.
pub async fn read_other(
    call: &Call<'_>,
    body: Body,
    gvk: (&str, &str, &str),
) -> Result<(Object, Vec<String>)> {
    let (group, version, kind) = gvk;
    let found = schema::catalogue::builtin()
        .kind(group, version, kind)
        .ok_or_else(|| ApiError::internal(format!("the catalogue has no {kind}")))?;
    let encoding = negotiate::content(&call.parts.headers)?;
    let bytes = body::read(body).await?;
    let expected = decode::Expected { api_version: found.api_version(), kind, ty: &found.ty };
    let options = call.write_options("CreateOptions")?;
    Ok(decode::decode(&expected, encoding, &bytes, options.field_validation)?.into_parts())
}

/// The answer to what was done and has no object to show.
pub fn done(call: &Call<'_>, warnings: &[String]) -> Response<Body> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    let mut response = call.status(201, &status);
    crate::warning::add(response.headers_mut(), warnings);
    response
}

/// Sets a condition of the status.
pub fn set_condition(object: &mut Object, kind: &str, value: &str, told: (&str, &str), now: jiff::Timestamp) {
    let Some(status) = object.struct_mut("status") else { return };
    let Some(item) = status.item_type("conditions") else { return };
    let Some(conditions) = status.list_mut("conditions") else { return };
    let is_it = |condition: &&mut Object| condition.str_at(&["type"]) == Some(kind);
    let changed = Value::Time(crate::write::prepare::whole_seconds(now));
    let condition = match conditions.iter_mut().filter_map(Value::as_struct_mut).find(is_it) {
        Some(condition) => condition,
        None => {
            let mut condition = Object::new(item);
            condition.set("type", kind);
            conditions.push(Value::Struct(condition));
            match conditions.last_mut().and_then(Value::as_struct_mut) {
                Some(condition) => condition,
                None => return,
            }
        }
    };
    if condition.str_at(&["status"]) != Some(value) {
        condition.set("lastTransitionTime", changed);
    }
    condition.set("status", value);
    condition.set("reason", told.0);
    condition.set("message", told.1);
}
