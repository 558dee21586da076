//! `serviceaccounts/NAME/token`: tokens that are bound and expire (KEP-1205).

use http::Response;
use kinds::field::{Errors, Path};
use schema::{Object, Value};

use super::resource::Call;
use super::subresource::read_other;
use crate::answer::plain_object;
use crate::body::Body;
use crate::negotiate;
use crate::read::get;
use crate::status::{ApiError, Result};
use crate::write::prepare::whole_seconds;

/// What a token says of whom and for how long.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// The account.
    pub namespace: String,
    /// The account.
    pub service_account: String,
    /// The account.
    pub uid: String,
    /// Who may accept it.
    pub audiences: Vec<String>,
    /// How long.
    pub seconds: i64,
    /// The pod that it ends with: name and UID.
    pub pod: Option<(String, String)>,
    /// The node that the pod runs on: name and UID.
    pub node: Option<(String, String)>,
    /// The secret that it ends with: name and UID.
    pub secret: Option<(String, String)>,
}

/// Makes tokens.
pub trait TokenIssuer: Send + Sync {
    /// The token and when it ends.
    ///
    /// # Errors
    /// When it cannot be signed.
    fn issue(&self, request: &TokenRequest) -> std::result::Result<(String, jiff::Timestamp), String>;

    /// The OpenID Connect discovery document.
    fn discovery(&self) -> serde_json::Value;

    /// The public keys, as a JSON web key set.
    fn jwks(&self) -> serde_json::Value;
}

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// Answers a token request.
///
/// # Errors
/// 422 for a lifetime below ten minutes, 404 and 409 for what it is to be bound to.
pub async fn create(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let (mut review, warnings) = read_other(call, body, ("authentication.k8s.io", "v1", GVK.1)).await?;
    let info = call.authorized.info();
    same_account(&review, &info.namespace, &info.name)?;
    if let Some(spec) = review.struct_mut("spec")
        && spec.get("expirationSeconds").is_none()
    {
        spec.set("expirationSeconds", Value::Int(DEFAULT_SECONDS));
    }
    manage_fields(call, &mut review)?;
    let entry = get::entry(call.core, call.authorized, call.resource).await?;
    let (codec, _) = call.core.codec(call.resource)?;
    let account = codec.object(&entry).map_err(ApiError::internal)?;
    if !review.uid().is_empty() && review.uid() != account.uid() {
        let why = format!(
            "the UID in the token request ({}) does not match the UID of the service account ({})",
            review.uid(),
            account.uid()
        );
        return Err(ApiError::conflict(GVK.0, GVK.1, &info.name, &why));
    }
    let seconds = review.int_at(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds)?;
    let mut request = TokenRequest {
        namespace: info.namespace.clone(),
        service_account: info.name.clone(),
        uid: account.uid().to_owned(),
        seconds,
        audiences: review
            .list_at(&["spec", "audiences"])
            .unwrap_or_default()
            .iter()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect(),
        ..TokenRequest::default()
    };
    if request.audiences.is_empty() {
        request.audiences.push(call.core.settings.issuer.clone());
    }
    bind(call, &review, &mut request)?;
    let (token, ends) = call.core.tokens.issue(&request).map_err(ApiError::internal)?;
    review.set_name(&info.name);
    review.set_namespace(&info.namespace);
    review.set_uid(account.uid());
    review.set_creation_timestamp(whole_seconds(call.core.clock.now()));
    if let Some(spec) = review.struct_mut("spec") {
        spec.set("expirationSeconds", Value::Int(seconds));
        let audiences = request.audiences.iter().cloned().map(Value::Str).collect::<Vec<_>>();
        spec.set("audiences", Value::List(audiences));
    }
    if let Some(status) = review.struct_mut("status") {
        status.set("token", token);
        status.set("expirationTimestamp", Value::Time(ends));
    }
    let output = negotiate::accept(&call.parts.headers, false)?;
    let mut response = plain_object(&review, output.encoding, 201)?;
    crate::warning::add(response.headers_mut(), &warnings);
    Ok(response)
}

/// The group and kind of the request, as errors name it.
const GVK: (&str, &str) = ("authentication.k8s.io", "TokenRequest");

/// A request that names an account names that of its path.
fn same_account(review: &Object, namespace: &str, name: &str) -> Result<()> {
    if !review.namespace().is_empty() && review.namespace() != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if review.name().is_empty() || review.name() == name {
        return Ok(());
    }
    let mut errors = Errors::new();
    let path = Path::new("metadata").child("name");
    errors.invalid(&path, review.name(), "must match the service account name if specified");
    Err(ApiError::invalid(GVK.0, GVK.1, name, &errors))
}

fn manage_fields(call: &Call<'_>, review: &mut Object) -> Result<()> {
    let options = call.write_options("CreateOptions")?;
    let write = schema::managed::Write {
        manager: &options.field_manager,
        api_version: "authentication.k8s.io/v1",
        subresource: "token",
        about: schema::managed::About::AllBut(&[]),
    };
    schema::managed::update_managed_fields(None, review, &write, whole_seconds(call.core.clock.now()));
    Ok(())
}

fn check_seconds(seconds: i64) -> Result<()> {
    let mut errors = Errors::new();
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > MAX_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(GVK.0, GVK.1, "", &errors))
}

fn bind(call: &Call<'_>, review: &Object, request: &mut TokenRequest) -> Result<()> {
    let Some(bound) = review.struct_at(&["spec", "boundObjectRef"]) else { return Ok(()) };
    let text = |name: &str| bound.str_at(&[name]).unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let (group, version) = group_version(text("apiVersion"));
    let plural = match (group, kind) {
        ("", "Pod") => "pods",
        ("", "Secret") => "secrets",
        ("", "Node") => "nodes",
        _ => {
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(ApiError::bad_request(why));
        }
    };
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let found = find(call, plural, name)?.ok_or_else(|| ApiError::not_found("", plural, name))?;
    if !text("uid").is_empty() && text("uid") != found.uid() {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(ApiError::conflict("", kind, name, &why));
    }
    let identity = Some((found.name().to_owned(), found.uid().to_owned()));
    match kind {
        "Pod" => {
            if found.str_at(&["spec", "serviceAccountName"]) != Some(request.service_account.as_str()) {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    request.service_account
                )));
            }
            request.pod = identity;
            let node = found.str_at(&["spec", "nodeName"]).unwrap_or_default();
            if let Some(node) = find(call, "nodes", node)? {
                request.node = Some((node.name().to_owned(), node.uid().to_owned()));
            }
        }
        "Node" => request.node = identity,
        _ => request.secret = identity,
    }
    Ok(())
}

/// Nothing of what has more than one slash.
fn group_version(api_version: &str) -> (&str, &str) {
    match api_version.split_once('/') {
        None => ("", api_version),
        Some((group, version)) if !version.contains('/') => (group, version),
        Some(_) => ("", ""),
    }
}

fn find(call: &Call<'_>, plural: &str, name: &str) -> Result<Option<Object>> {
    let registry = call.core.registry();
    let Some(resource) = registry.preferred("", plural) else { return Ok(None) };
    let (codec, cache) = call.core.codec(resource)?;
    let key = match resource.namespaced {
        true => format!("{}/{name}", call.authorized.info().namespace),
        false => name.to_owned(),
    };
    cache.get(&key).map(|entry| codec.object(&entry).map_err(ApiError::internal)).transpose()
}
