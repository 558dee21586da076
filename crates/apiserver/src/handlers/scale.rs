//! The `scale` subresource of everything that has one, built-in or custom.

use http::Response;
use kinds::Part;
use schema::{Object, Value};

use super::patch;
use super::resource::Call;
use super::subresource::read_other;
use crate::answer::plain_object;
use crate::body::{self, Body};
use crate::convert;
use crate::custom;
use crate::negotiate;
use crate::read::get;
use crate::status::{ApiError, Result};
use crate::write::decode::Decoded;
use crate::write::update;

/// Answers a request on `scale`.
///
/// # Errors
/// What the client is told.
pub async fn handle(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let output = negotiate::accept(&call.parts.headers, false)?;
    let resource = call.resource;
    match call.authorized.info().verb {
        "get" => {
            let entry = get::entry(call.core, call.authorized, resource).await?;
            let (codec, _) = call.core.codec(resource)?;
            let object = codec.object(&entry).map_err(ApiError::internal)?;
            let object = convert::convert(object, &resource.api_version(), &resource.kind, &resource.ty)?;
            plain_object(&scale_of(call, &object)?, output.encoding, 200)
        }
        "update" => {
            let (scale, _) = read_other(call, body, ("autoscaling", "v1", "Scale")).await?;
            write(call, output.encoding, &mut |_| Ok(scale.clone())).await
        }
        _ => {
            let language = negotiate::patch_type(&call.parts.headers, true)?;
            let bytes = body::read(body).await?;
            write(call, output.encoding, &mut |scale| Ok(patch::apply(language, scale, &bytes)?.object)).await
        }
    }
}

async fn write(
    call: &Call<'_>,
    encoding: negotiate::Encoding,
    change: &mut (dyn FnMut(&Object) -> Result<Object> + Send),
) -> Result<Response<Body>> {
    let options = call.write_options("UpdateOptions")?;
    let mut mutate = |old: &Object| -> Result<Decoded> {
        let before = scale_of(call, old)?;
        let scale = change(&before)?;
        let version = scale.resource_version();
        if !version.is_empty() && version != old.resource_version() {
            let resource = call.resource;
            return Err(ApiError::modified(&resource.group, &resource.plural, old.name()));
        }
        let replicas = scale.int_at(&["spec", "replicas"]).unwrap_or_default();
        if replicas < 0 {
            let mut errors = kinds::field::Errors::new();
            let path = kinds::field::Path::new("spec").child("replicas");
            errors.invalid(&path, replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", old.name(), &errors));
        }
        let mut new = old.clone();
        new.set_resource_version("");
        set_replicas(call, &mut new, replicas)?;
        Ok(Decoded::from_patch(new, Vec::new()))
    };
    let (committed, _) = update::update(&call.context(&options), Part::Other("scale"), &mut mutate).await?;
    plain_object(&scale_of(call, &committed.object)?, encoding, 200)
}

fn set_replicas(call: &Call<'_>, object: &mut Object, replicas: i64) -> Result<()> {
    let custom = call.resource.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let path = custom.map_or(".spec.replicas", |scale| scale.spec.as_str());
    let mut parts: Vec<&str> = path.trim_start_matches('.').split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut target = object;
    for part in parts {
        target = target
            .struct_mut(part)
            .ok_or_else(|| ApiError::internal(format!("{path} is no field of {}", call.resource.kind)))?;
    }
    target.set(last, Value::Int(replicas));
    Ok(())
}

/// The `Scale` of an object.
fn scale_of(call: &Call<'_>, object: &Object) -> Result<Object> {
    let kind = schema::catalogue::builtin()
        .kind("autoscaling", "v1", "Scale")
        .ok_or_else(|| ApiError::internal("the catalogue has no Scale"))?;
    let paths = call.resource.custom.as_ref().and_then(|custom| custom.scale.clone());
    let number = |path: &str| custom::at_path(object, path).and_then(Value::as_int).unwrap_or_default();
    let (spec, status) = match &paths {
        Some(paths) => (number(&paths.spec), number(&paths.status)),
        None => (number(".spec.replicas"), number(".status.replicas")),
    };
    let selector = match &paths {
        Some(paths) => paths
            .selector
            .as_ref()
            .and_then(|path| custom::at_path(object, path))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        None => selector_text(object)?,
    };
    let mut scale = Object::new(kind.ty.clone());
    scale.set_gvk(kind);
    scale.set_name(object.name());
    scale.set_namespace(object.namespace());
    scale.set_uid(object.uid());
    scale.set_resource_version(object.resource_version());
    if let Some(made) = object.creation_timestamp() {
        scale.set_creation_timestamp(made);
    }
    if let Some(part) = scale.struct_mut("spec") {
        part.set("replicas", Value::Int(spec));
    }
    if let Some(part) = scale.struct_mut("status") {
        part.set("replicas", Value::Int(status));
        part.set("selector", selector);
    }
    Ok(scale)
}

fn selector_text(object: &Object) -> Result<String> {
    match object.at(&["spec", "selector"]) {
        // Replication controllers select by a plain map.
        Some(Value::Map(map)) => {
            Ok(map.strings().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
        }
        Some(Value::Struct(selector)) => {
            let selector =
                schema::labels::Selector::from_label_selector(Some(selector)).map_err(ApiError::internal)?;
            Ok(selector.to_string())
        }
        _ => Ok(String::new()),
    }
}
