//! What lies below an object: `status`, `scale`, `binding`, `eviction` and the rest.

use http::Response;
use kinds::Part;
use schema::{Object, Value};

use super::resource::{self, Call};
use super::{node_proxy, proxy, scale, token};
use crate::body::{self, Body};
use crate::negotiate;
use crate::options::DeleteOptions;
use crate::status::{ApiError, Result};
use crate::write::decode::{self, Decoded};
use crate::write::{delete, update};

/// Answers a request on a subresource.
///
/// # Errors
/// What the client is told.
pub async fn handle(call: &Call<'_>, parts: ConnectionParts, body: Body) -> Result<Response<Body>> {
    let info = call.authorized.info();
    let sub = call.resource.sub(&info.subresource).ok_or_else(ApiError::no_such_path)?;
    if !sub.verbs.iter().any(|verb| verb == info.verb) {
        let path = info.resource_path();
        return Err(ApiError::method_not_allowed(&call.resource.group, &path, info.verb));
    }
    match info.subresource.as_str() {
        "status" => whole(call, body, Part::Status).await,
        "finalize" => whole(call, body, Part::Other("finalize")).await,
        "approval" => whole(call, body, Part::Other("approval")).await,
        "ephemeralcontainers" => whole(call, body, Part::Other("ephemeralcontainers")).await,
        "resize" => whole(call, body, Part::Other("resize")).await,
        "scale" => scale::handle(call, body).await,
        "binding" => bind(call, body).await,
        "eviction" => evict(call, body).await,
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
        verb => Err(ApiError::method_not_allowed(&call.resource.group, &call.resource.plural, verb)),
    }
}

/// A body of another kind than the resource's.
///
/// # Errors
/// 400 and 415.
pub async fn read_other(call: &Call<'_>, body: Body, gvk: (&str, &str, &str)) -> Result<Object> {
    let (group, version, kind) = gvk;
    let found = schema::catalogue::builtin()
        .kind(group, version, kind)
        .ok_or_else(|| ApiError::internal(format!("the catalogue has no {kind}")))?;
    let encoding = negotiate::content(&call.parts.headers)?;
    let bytes = body::read(body).await?;
    let expected = decode::Expected { api_version: found.api_version(), kind, ty: &found.ty };
    let options = call.write_options("CreateOptions")?;
    Ok(decode::decode(&expected, encoding, &bytes, options.field_validation)?.into_parts().0)
}

/// Gives a pod its node (`registry/core/pod/storage.BindingREST`).
///
/// # Errors
/// 409 when the pod has one or is going.
pub async fn bind(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let binding = read_other(call, body, ("", "v1", "Binding")).await?;
    let target = binding.struct_at(&["target"]);
    let kind = target.and_then(|target| target.str_at(&["kind"])).unwrap_or_default();
    let node = target.and_then(|target| target.str_at(&["name"])).unwrap_or_default().to_owned();
    let mut errors = kinds::field::Errors::new();
    let path = kinds::field::Path::new("target");
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let name = call.authorized.info().name.clone();
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "Binding", &name, &errors));
    }
    let options = call.write_options("CreateOptions")?;
    let now = call.core.clock.now();
    let uid = binding.uid().to_owned();
    let mut mutate = |pod: &Object| -> Result<Decoded> {
        let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", pod.name(), &why));
        if !uid.is_empty() && uid != pod.uid() {
            return conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                pod.uid()
            ));
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
        let mut bound = pod.clone();
        bound.set_resource_version("");
        if let Some(spec) = bound.struct_mut("spec") {
            spec.set("nodeName", node.as_str());
        }
        for (key, value) in binding.annotations().into_iter().flat_map(schema::Map::strings) {
            if let Some(annotations) = bound.metadata_mut().map_mut("annotations") {
                annotations.insert(key, value);
            }
        }
        set_condition(&mut bound, "PodScheduled", "True", now);
        Ok(Decoded::from_patch(bound, Vec::new()))
    };
    update::update(&call.context(&options), Part::Other("binding"), &mut mutate).await?;
    Ok(created(call))
}

fn created(call: &Call<'_>) -> Response<Body> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    call.status(201, &status)
}

/// Sets a condition of the status.
pub fn set_condition(object: &mut Object, kind: &str, value: &str, now: jiff::Timestamp) {
    let Some(status) = object.struct_mut("status") else { return };
    let Some(item) = status.item_type("conditions") else { return };
    let Some(conditions) = status.list_mut("conditions") else { return };
    let is_it = |condition: &&mut Object| condition.str_at(&["type"]) == Some(kind);
    let found = conditions.iter_mut().filter_map(Value::as_struct_mut).find(is_it);
    let changed = Value::Time(crate::write::prepare::whole_seconds(now));
    match found {
        Some(condition) => {
            if condition.str_at(&["status"]) != Some(value) {
                condition.set("lastTransitionTime", changed);
            }
            condition.set("status", value);
            condition.remove("reason");
            condition.remove("message");
        }
        None => {
            let mut condition = Object::new(item);
            condition.set("type", kind);
            condition.set("status", value);
            condition.set("lastTransitionTime", changed);
            conditions.push(Value::Struct(condition));
        }
    }
}

/// Deletes a pod unless a disruption budget forbids it (KEP-85).
async fn evict(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let eviction = read_other(call, body, ("policy", "v1", "Eviction")).await?;
    let json = eviction.get("deleteOptions").and_then(Value::as_struct).map(schema::json::encode);
    let mut options = DeleteOptions::read(call.authorized.info(), &json.unwrap_or_default(), false)?;
    let mut write = call.write_options("CreateOptions")?;
    write.dry_run |= options.dry_run;
    let context = call.context(&write);
    let (codec, _) = call.core.codec(call.resource)?;
    let entry = update::current(&context, &codec).await?;
    let pod = codec.object(&entry).map_err(ApiError::internal)?;
    let finished = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"));
    if !finished && pod.deletion_timestamp().is_none() {
        take_disruption(call, &pod, &write).await?;
    }
    options.uid.get_or_insert_with(|| pod.uid().to_owned());
    delete::delete(&context, &options).await?;
    Ok(created(call))
}

/// Takes one of the disruptions that the pod's budget allows.
async fn take_disruption(call: &Call<'_>, pod: &Object, write: &crate::options::WriteOptions) -> Result<()> {
    let registry = call.core.registry();
    let Some(resource) = registry.preferred("policy", "poddisruptionbudgets") else { return Ok(()) };
    let (codec, cache) = call.core.codec(resource)?;
    let mut matching = Vec::new();
    for entry in cache.list(pod.namespace()).1 {
        let budget = codec.object(&entry).map_err(ApiError::internal)?;
        let selector = budget.struct_at(&["spec", "selector"]);
        let selector = schema::labels::Selector::from_label_selector(selector).map_err(ApiError::internal)?;
        if selector.matches(|key| pod.label(key)) {
            matching.push(budget);
        }
    }
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let authorized = call.authorized.for_object(budget.name(), budget.namespace());
    let context =
        crate::write::WriteContext { core: call.core, authorized: &authorized, resource, options: write };
    let pod_name = pod.name().to_owned();
    let now = Value::Time(crate::write::prepare::whole_seconds(call.core.clock.now()));
    let mut mutate = |budget: &Object| -> Result<Decoded> {
        let allowed = budget.int_at(&["status", "disruptionsAllowed"]).unwrap_or_default();
        let stale =
            budget.int_at(&["status", "observedGeneration"]).unwrap_or_default() < budget.generation();
        if stale {
            return Err(ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget: the budget is being processed by the server",
                10,
            ));
        }
        if allowed <= 0 {
            return Err(ApiError::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                0,
            ));
        }
        let mut taken = budget.clone();
        taken.set_resource_version("");
        if let Some(status) = taken.struct_mut("status") {
            status.set("disruptionsAllowed", Value::Int(allowed - 1));
            if let Some(disrupted) = status.map_mut("disruptedPods") {
                disrupted.insert(pod_name.as_str(), now.clone());
            }
        }
        Ok(Decoded::from_patch(taken, Vec::new()))
    };
    update::update(&context, Part::Status, &mut mutate).await?;
    Ok(())
}
