//! The verbs on whole objects and collections.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use kinds::Part;
use schema::Object;

use super::patch;
use crate::answer::{Include, Writer};
use crate::body::{self, Body};
use crate::codec::Codec;
use crate::core::Core;
use crate::negotiate::{self, Encoding};
use crate::options::{DeleteOptions, FieldValidation, WriteOptions};
use crate::pipeline::authorize::Authorized;
use crate::read::{get, list, select::Selection, watch};
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use crate::warning;
use crate::write::delete::Deletion;
use crate::write::{WriteContext, create, decode, delete, prepare, update};

/// A request on a resource, authorized.
pub struct Call<'a> {
    /// The server.
    pub core: &'a Arc<Core>,
    /// Who asks for what.
    pub authorized: &'a Authorized,
    /// What it is about.
    pub resource: &'a Arc<Resource>,
    /// Method and headers.
    pub parts: &'a Parts,
}

impl Call<'_> {
    /// A header's text.
    pub fn header(&self, name: http::header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// An answer that is a Status, in the encoding that the client asked for.
    pub fn status(&self, code: u16, status: &serde_json::Value) -> Response<Body> {
        let output = negotiate::accept(&self.parts.headers, true);
        let encoding = output.map_or(Encoding::Json, |output| output.encoding);
        body::status(code, status.to_string().into_bytes(), encoding)
    }

    /// The options of a write.
    ///
    /// # Errors
    /// 422.
    pub fn write_options(&self, kind: &str) -> Result<WriteOptions> {
        WriteOptions::read(self.authorized.info(), self.header(http::header::USER_AGENT), kind)
    }

    /// The context of a write.
    pub fn context<'c>(&'c self, options: &'c WriteOptions) -> WriteContext<'c> {
        WriteContext { core: self.core, authorized: self.authorized, resource: self.resource, options }
    }
}

/// Answers a request on an object or a collection.
///
/// # Errors
/// What the client is told.
pub async fn handle(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let info = call.authorized.info();
    if !call.resource.allows(info.verb) {
        return Err(ApiError::wrong_method());
    }
    if call.resource.group == super::usage::GROUP {
        return super::usage::handle(call).await;
    }
    match info.verb {
        "get" => answer_get(call).await,
        "list" => answer_list(call).await,
        "watch" => {
            let output = negotiate::accept(&call.parts.headers, true)?;
            watch::watch(call.core, call.authorized, call.resource, output).await
        }
        "create" if call.resource.kind == "Binding" && call.resource.group.is_empty() => {
            super::binding::create_by_name(call, body).await
        }
        "create" => answer_create(call, body).await,
        "update" => answer_update(call, body, Part::Main).await,
        "patch" => answer_patch(call, body, Part::Main).await,
        "delete" => answer_delete(call, body).await,
        "deletecollection" => answer_delete_collection(call, body).await,
        _ => Err(ApiError::wrong_method()),
    }
}

async fn answer_get(call: &Call<'_>) -> Result<Response<Body>> {
    let entry = get::entry(call.core, call.authorized, call.resource).await?;
    with_writer(call, |writer| writer.entry(&entry, 200))
}

async fn answer_list(call: &Call<'_>) -> Result<Response<Body>> {
    let (codec, _) = call.core.codec(call.resource)?;
    let writer = writer(call, &codec)?;
    list::list(call.core, call.authorized, call.resource, &writer).await
}

fn with_writer(
    call: &Call<'_>,
    write: impl FnOnce(&Writer<'_>) -> Result<Response<Body>>,
) -> Result<Response<Body>> {
    let (codec, _) = call.core.codec(call.resource)?;
    write(&writer(call, &codec)?)
}

fn writer<'w>(call: &'w Call<'_>, codec: &'w Codec) -> Result<Writer<'w>> {
    let output = negotiate::accept(&call.parts.headers, true)?;
    Ok(Writer {
        resource: call.resource,
        codec,
        output,
        now: call.core.clock.now().as_second(),
        include: Include::read(call.authorized.info().param("includeObject"), output.shape)?,
    })
}

/// Writes an object, with the warnings that were gathered on the way.
///
/// # Errors
/// 406 and 500.
pub fn answer_object(
    call: &Call<'_>,
    object: &Object,
    code: u16,
    warnings: &[String],
) -> Result<Response<Body>> {
    let mut response = with_writer(call, |writer| writer.object_answer(object, code))?;
    warning::add(response.headers_mut(), warnings);
    Ok(response)
}

/// Reads and decodes an object of the resource.
///
/// # Errors
/// 413, 415 and 400.
pub async fn read_object(
    call: &Call<'_>,
    body: Body,
    validation: FieldValidation,
) -> Result<decode::Decoded> {
    let encoding = negotiate::content(&call.parts.headers)?;
    if encoding == Encoding::Protobuf && call.resource.custom.is_some() {
        return Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"]));
    }
    let bytes = body::read(body).await?;
    decode::decode(&decode::expected(call.resource), encoding, &bytes, validation)
}

async fn answer_create(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let options = call.write_options("CreateOptions")?;
    let decoded = read_object(call, body, options.field_validation).await?;
    if let Some(review) = super::reviews::of(call.resource) {
        return review(call, decoded);
    }
    let (committed, warnings) = create::create(&call.context(&options), decoded).await?;
    answer_object(call, &committed.object, 201, &warnings)
}

/// Replaces an object or a part of it by the body.
///
/// # Errors
/// Those of an update.
pub async fn answer_update(call: &Call<'_>, body: Body, part: Part) -> Result<Response<Body>> {
    let options = call.write_options("UpdateOptions")?;
    let decoded = read_object(call, body, options.field_validation).await?;
    let (mut object, mut warnings) = decoded.into_parts();
    let twice = prepare::dedup_owners(&mut object);
    if !twice.is_empty() {
        warnings.push(prepare::owners_warning(&twice, false));
    }
    same_name(&object, &call.authorized.info().name).map_err(|error| error.warned(warnings.clone()))?;
    let blind = matches!(object.resource_version(), "" | "0") && !call.resource.may_be_replaced_blindly();
    let context = call.context(&options);
    let mut mutate = |old: &Object| {
        prepare::same_uid(&context, &object, old)?;
        if blind {
            let mut errors = kinds::field::Errors::new();
            let path = kinds::field::Path::new("metadata").child("resourceVersion");
            errors.invalid(&path, 0, "must be specified for an update");
            let resource = call.resource;
            let error = ApiError::invalid(&resource.group, &resource.plural, old.name(), &errors);
            return Err(error.warned(warnings.clone()));
        }
        Ok(decode::Decoded::from_patch(object.clone(), warnings.clone()))
    };
    let (committed, warnings) = update::update(&context, part, &mut mutate).await?;
    answer_object(call, &committed.object, 200, &warnings)
}

/// Whether an object that replaces another one has its name.
///
/// # Errors
/// 400 when it has not.
pub fn same_name(object: &Object, wanted: &str) -> Result<()> {
    let name = object.name();
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name == wanted {
        return Ok(());
    }
    let why = format!("the name of the object ({name}) does not match the name on the URL ({wanted})");
    Err(ApiError::bad_request(why))
}

/// Patches an object or a part of it.
///
/// # Errors
/// Those of a patch.
pub async fn answer_patch(call: &Call<'_>, body: Body, part: Part) -> Result<Response<Body>> {
    let language = negotiate::patch_type(&call.parts.headers, call.resource.is_builtin())?;
    patch::served(language)?;
    let options = call.write_options("PatchOptions")?;
    let bytes = body::read(body).await?;
    let (committed, warnings) = patch::patch(&call.context(&options), part, language, &bytes).await?;
    answer_object(call, &committed.object, 200, &warnings)
}

async fn delete_options(call: &Call<'_>, body: Body) -> Result<(DeleteOptions, WriteOptions)> {
    let bytes: Bytes = body::read(body).await?;
    // Of what no body is nobody asks.
    let encoding = if bytes.is_empty() { Encoding::Json } else { negotiate::content(&call.parts.headers)? };
    let options = DeleteOptions::read(call.authorized.info(), &bytes, encoding)?;
    let write = WriteOptions::of_deletion(&options, call.header(http::header::USER_AGENT));
    Ok((options, write))
}

async fn answer_delete(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let (options, write) = delete_options(call, body).await?;
    let (deletion, mut warnings) = delete::delete(&call.context(&write), &options).await?;
    warnings.splice(0..0, of_jobs(call.resource, &options));
    match deletion {
        Deletion::Marked(object) => answer_object(call, &object, 200, &warnings),
        Deletion::Gone(object) if returns_object(call.resource) => {
            answer_object(call, &object, 200, &warnings)
        }
        Deletion::Gone(object) => {
            let mut response = call.status(200, &success(call.resource, &object));
            warning::add(response.headers_mut(), &warnings);
            Ok(response)
        }
    }
}

/// Whoever deletes a job and does not say what becomes of its pods may not expect that they stay.
fn of_jobs(resource: &Resource, options: &DeleteOptions) -> Option<String> {
    let stay = resource.group == "batch" && resource.plural == "jobs" && options.propagation.is_none();
    stay.then(|| PRESERVED.to_owned())
}

const PRESERVED: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Kinds whose deletion upstream answers with the object rather than with a Status.
fn returns_object(resource: &Resource) -> bool {
    match (resource.group.as_str(), resource.plural.as_str()) {
        (
            "",
            "namespaces"
            | "pods"
            | "services"
            | "serviceaccounts"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "podtemplates"
            | "resourcequotas",
        )
        | ("resource.k8s.io", _) => true,
        ("storage.k8s.io", plural) => plural != "csistoragecapacities",
        _ => false,
    }
}

fn success(resource: &Resource, object: &Object) -> serde_json::Value {
    let mut details =
        serde_json::json!({"name": object.name(), "kind": resource.plural, "uid": object.uid()});
    if let (false, Some(map)) = (resource.group.is_empty(), details.as_object_mut()) {
        map.insert("group".to_owned(), resource.group.clone().into());
    }
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}

async fn answer_delete_collection(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    crate::read::options::check(call.authorized.info())?;
    let selection = Selection::read(call.authorized.info(), call.resource)?;
    let (options, write) = delete_options(call, body).await?;
    call.core.consistent().await?;
    let (_, cache) = call.core.codec(call.resource)?;
    let (revision, entries) = cache.list(selection.namespace());
    let mut deleted = Vec::new();
    for entry in entries.into_iter().filter(|entry| selection.matches(entry)) {
        let authorized = call.authorized.for_object(entry.name(), entry.namespace());
        let context = WriteContext {
            core: call.core,
            authorized: &authorized,
            resource: call.resource,
            options: &write,
        };
        match delete::delete_entry(&context, &options, entry.clone()).await {
            Ok(_) => deleted.push(entry),
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let meta = crate::answer::ListMeta { resource_version: revision.to_string(), ..Default::default() };
    with_writer(call, |writer| writer.list(&deleted, &meta))
}
