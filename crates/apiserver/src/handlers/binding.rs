//! `binding` of pods: the one way in which a pod gets its node (`registry/core/pod/storage.BindingREST`); and `bindings`,
//! its older form, whose object names the pod (`LegacyBindingREST`).

use http::Response;
use kinds::Part;
use schema::{Map, Object};

use super::resource::Call;
use super::subresource::{done, read_other, set_condition};
use crate::admission::topology;
use crate::body::Body;
use crate::status::{ApiError, Result};
use crate::write::decode::Decoded;
use crate::write::update;

const KIND: (&str, &str, &str) = ("", "v1", "Binding");

/// Binds a pod.
///
/// # Errors
/// 409 when the pod has a node, is going or is held back.
pub async fn create(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let (binding, warnings) = read_other(call, body, KIND).await?;
    bind(call, &binding).await.map_err(|error| error.warned(warnings.clone()))?;
    Ok(done(call, &warnings))
}

/// Binds the pod that the body names. Whoever may make `bindings` may do so, and nothing else of pods.
///
/// # Errors
/// 400 when it names none, and those of [`create`].
pub async fn create_by_name(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let (mut binding, warnings) = read_other(call, body, KIND).await?;
    // What the server sets of new objects is not listened to; which version is meant, is.
    binding.set_uid("");
    if binding.name().is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    let wrong = kinds::meta::NameRule::PathSegment.check(binding.name());
    if !wrong.is_empty() {
        let (name, why) = (binding.name(), wrong.join(";"));
        return Err(ApiError::bad_request(format!("Name parameter invalid: {name:?}: {why}")));
    }
    let pods = call.core.registry().get("", "v1", "pods").cloned();
    let pods = pods.ok_or_else(|| ApiError::internal("there are no pods"))?;
    let authorized = call.authorized.for_subresource("pods", binding.name(), "binding");
    bind(&Call { authorized: &authorized, resource: &pods, ..*call }, &binding).await?;
    Ok(done(call, &warnings))
}

async fn bind(call: &Call<'_>, binding: &Object) -> Result<()> {
    if binding.name() != call.authorized.info().name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    if !binding.namespace().is_empty() && binding.namespace() != call.authorized.info().namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    let target = target(binding)?;
    let options = call.write_options("CreateOptions")?;
    let now = call.core.clock.now();
    let mut labels = binding.labels().cloned().unwrap_or_default();
    for (key, value) in topology::of_node(call.core, &target) {
        labels.insert(key, value);
    }
    let mut mutate = |pod: &Object| -> Result<Decoded> {
        refuse(binding, pod)?;
        let mut bound = pod.clone();
        bound.set_resource_version("");
        if let Some(spec) = bound.struct_mut("spec") {
            spec.set("nodeName", target.as_str());
        }
        // Where it was thought to go says nothing any more.
        if let Some(status) = bound.struct_mut("status") {
            status.remove("nominatedNodeName");
        }
        copy(binding.annotations(), "annotations", &mut bound);
        copy(Some(&labels), "labels", &mut bound);
        set_condition(&mut bound, "PodScheduled", "True", ("", ""), now);
        Ok(Decoded::from_patch(bound, Vec::new()))
    };
    update::update(&call.context(&options), Part::Other("binding"), &mut mutate).await?;
    Ok(())
}

fn target(binding: &Object) -> Result<String> {
    let target = binding.struct_at(&["target"]);
    let text = |field: &str| target.and_then(|target| target.str_at(&[field])).unwrap_or_default();
    let mut errors = kinds::field::Errors::new();
    let path = kinds::field::Path::new("target");
    if !matches!(text("kind"), "" | "Node") {
        errors.not_supported_in_order(&path.child("kind"), text("kind"), &["Node", "<empty>"]);
    }
    if text("name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(text("name").to_owned());
    }
    // As upstream, which gives these no code of their own.
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let text = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
    Err(ApiError::with_code(500, "", text))
}

fn refuse(binding: &Object, pod: &Object) -> Result<()> {
    let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", pod.name(), &why));
    let precondition = |what: &str, wanted: &str, found: &str| {
        let key = format!("/pods/{}/{}", pod.namespace(), pod.name());
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Err(ApiError::conflict("", "pods", pod.name(), &why))
    };
    if !binding.uid().is_empty() && binding.uid() != pod.uid() {
        return precondition("UID", binding.uid(), pod.uid());
    }
    let version = binding.resource_version();
    if !version.is_empty() && version != pod.resource_version() {
        return precondition("ResourceVersion", version, pod.resource_version());
    }
    if pod.deletion_timestamp().is_some() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", pod.name()));
    }
    let has = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    if !has.is_empty() {
        return conflict(format!("pod {} is already assigned to node {has:?}", pod.name()));
    }
    if pod.list_at(&["spec", "schedulingGates"]).is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", pod.name()));
    }
    Ok(())
}

fn copy(from: Option<&Map>, field: &str, pod: &mut Object) {
    for (key, value) in from.into_iter().flat_map(Map::strings) {
        if let Some(map) = pod.metadata_mut().map_mut(field) {
            map.insert(key, value);
        }
    }
}
