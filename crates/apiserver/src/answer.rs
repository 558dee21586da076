//! Objects, lists and events in the encoding and shape that the client accepts.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use kinds::Cell;
use schema::Object;

use crate::body::{self, Body};
use crate::cache::Entry;
use crate::codec::Codec;
use crate::convert::convert;
use crate::negotiate::{Encoding, Output, Shape};
use crate::registry::{Resource, StoredAs};
use crate::status::{ApiError, Result};

/// Writes objects of one resource for one client.
pub struct Writer<'a> {
    /// What is written.
    pub resource: &'a Arc<Resource>,
    /// How its bytes are to be read.
    pub codec: &'a Codec,
    /// What the client accepts.
    pub output: Output,
    /// Seconds since 1970, for ages in tables.
    pub now: i64,
    /// Which object a table's rows carry: `None`, `Metadata` or `Object`.
    pub include: Include,
}

/// `includeObject` of a table request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads the parameter, of which only a table knows.
    ///
    /// # Errors
    /// 400 for another value.
    pub fn read(param: Option<&str>, shape: Shape) -> Result<Self> {
        match param.filter(|_| shape == Shape::Table) {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The position of a list in the store's history.
#[derive(Debug, Clone, Default)]
pub struct ListMeta {
    /// The revision that the list was read at.
    pub resource_version: String,
    /// Where the next page begins.
    pub continue_token: String,
    /// How many objects it leaves out.
    pub remaining: Option<i64>,
}

impl Writer<'_> {
    /// Whether what is stored is what is served, so that bytes can be copied.
    fn is_storage_version(&self) -> bool {
        self.codec.storage.ty == self.resource.ty
    }

    /// Whether nothing is to be added to what is stored.
    fn is_whole(&self) -> bool {
        self.is_storage_version() && !self.resource.rules.has_more_than_stored
    }

    /// The object of an entry in the served version.
    ///
    /// # Errors
    /// 500 when what is stored cannot be read.
    pub fn object(&self, entry: &Entry) -> Result<Object> {
        let object = self.codec.object(entry).map_err(ApiError::internal)?;
        convert(object, &self.resource.api_version(), &self.resource.kind, &self.resource.ty)
    }

    /// The JSON of an entry, without a tree where that is possible.
    fn entry_json(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        if self.is_whole() && self.codec.storage.stored_as == StoredAs::Protobuf {
            let api_version = self.resource.api_version();
            let gvk = Some((api_version.as_str(), self.resource.kind.as_str()));
            return schema::transcode::protobuf_to_json(&self.resource.ty, gvk, &entry.bytes, out)
                .map_err(ApiError::internal);
        }
        schema::json::encode_into(&self.object(entry)?, out);
        Ok(())
    }

    /// The JSON of an entry within a list: of built-in kinds it does not say its kind, which the list's tells.
    fn item_json(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
        if !self.resource.is_builtin() {
            return self.entry_json(entry, out);
        }
        if self.is_whole() && self.codec.storage.stored_as == StoredAs::Protobuf {
            return schema::transcode::protobuf_to_json(&self.resource.ty, None, &entry.bytes, out)
                .map_err(ApiError::internal);
        }
        let mut object = self.object(entry)?;
        object.remove("apiVersion");
        object.remove("kind");
        schema::json::encode_into(&object, out);
        Ok(())
    }

    /// The bare protobuf message of an entry.
    fn entry_protobuf(&self, entry: &Entry) -> Result<Bytes> {
        if self.is_storage_version() && self.codec.storage.stored_as == StoredAs::Protobuf {
            return Ok(entry.bytes.clone());
        }
        Ok(schema::protobuf::encode(&self.object(entry)?).into())
    }

    /// Whether a protobuf answer is possible: custom resources have none.
    fn encoding(&self) -> Result<Encoding> {
        if self.output.encoding == Encoding::Protobuf
            && self.resource.custom.is_some()
            && self.output.shape == Shape::Object
        {
            return Err(ApiError::not_acceptable(&["application/json", "application/yaml"]));
        }
        Ok(self.output.encoding)
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// 406 and 500.
    pub fn entry(&self, entry: &Entry, code: u16) -> Result<Response<Body>> {
        if self.output.shape != Shape::Object {
            return self.object_answer(&self.object(entry)?, code);
        }
        let encoding = self.encoding()?;
        let bytes = match encoding {
            Encoding::Protobuf => schema::protobuf::wrap(
                &self.resource.api_version(),
                &self.resource.kind,
                &self.entry_protobuf(entry)?,
            ),
            Encoding::Json | Encoding::Yaml => {
                let mut out = Vec::with_capacity(entry.bytes.len() * 3);
                self.entry_json(entry, &mut out)?;
                out
            }
        };
        finish(encoding, code, bytes)
    }

    /// Writes one object, in the served version.
    ///
    /// # Errors
    /// 406 and 500.
    pub fn object_answer(&self, object: &Object, code: u16) -> Result<Response<Body>> {
        let encoding = self.encoding()?;
        match self.output.shape {
            Shape::Object => plain_object(object, encoding, code),
            Shape::Table => {
                let meta = ListMeta {
                    resource_version: object.resource_version().to_owned(),
                    ..ListMeta::default()
                };
                finish(encoding, code, self.table(std::slice::from_ref(object), &meta, true)?)
            }
            Shape::PartialMetadata => {
                let partial = partial(object)?;
                plain_object(&partial, encoding, code)
            }
        }
    }

    /// Writes a list.
    ///
    /// # Errors
    /// 406 and 500.
    pub fn list(&self, entries: &[Arc<Entry>], meta: &ListMeta) -> Result<Response<Body>> {
        let encoding = self.encoding()?;
        let bytes = match (self.output.shape, encoding) {
            (Shape::Table, _) => {
                let objects = entries.iter().map(|entry| self.object(entry)).collect::<Result<Vec<_>>>()?;
                self.table(&objects, meta, true)?
            }
            (Shape::PartialMetadata, Encoding::Protobuf) => {
                let items = entries
                    .iter()
                    .map(|entry| Ok(schema::protobuf::encode(&partial(&self.object(entry)?)?)))
                    .collect::<Result<Vec<_>>>()?;
                let raw = encode_list(items.iter().map(Vec::as_slice), meta);
                schema::protobuf::wrap("meta.k8s.io/v1", "PartialObjectMetadataList", &raw)
            }
            (Shape::PartialMetadata, _) => {
                let mut out = list_head("meta.k8s.io/v1", "PartialObjectMetadataList", meta);
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    schema::json::encode_into(&partial(&self.object(entry)?)?, &mut out);
                }
                out.extend_from_slice(b"]}");
                out
            }
            (Shape::Object, Encoding::Protobuf) => {
                let items =
                    entries.iter().map(|entry| self.entry_protobuf(entry)).collect::<Result<Vec<_>>>()?;
                let raw = encode_list(items.iter().map(|item| &item[..]), meta);
                schema::protobuf::wrap(&self.resource.api_version(), &self.resource.list_kind, &raw)
            }
            (Shape::Object, _) => {
                let mut out = list_head(&self.resource.api_version(), &self.resource.list_kind, meta);
                let total: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
                out.reserve(total * 5 / 2);
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.item_json(entry, &mut out)?;
                }
                out.extend_from_slice(b"]}");
                out
            }
        };
        finish(encoding, 200, bytes)
    }

    /// A `Table` with a row for each object; columns only in the first of a watch.
    fn table(&self, objects: &[Object], meta: &ListMeta, with_columns: bool) -> Result<Vec<u8>> {
        let columns = self.columns();
        let mut rows = Vec::with_capacity(objects.len());
        for object in objects {
            let mut row = serde_json::json!({"cells": self.cells(object)});
            if let Some(map) = row.as_object_mut() {
                if let (true, Some(told)) = (self.resource.is_builtin(), kinds::completed(object)) {
                    map.insert(
                        "conditions".to_owned(),
                        serde_json::json!([{
                            "type": "Completed", "status": "True", "reason": told.0, "message": told.1,
                        }]),
                    );
                }
                map.insert("object".to_owned(), self.included(object)?);
            }
            rows.push(row);
        }
        let mut metadata = serde_json::json!({"resourceVersion": meta.resource_version});
        if let Some(map) = metadata.as_object_mut() {
            if !meta.continue_token.is_empty() {
                map.insert("continue".to_owned(), meta.continue_token.clone().into());
            }
            if let Some(remaining) = meta.remaining {
                map.insert("remainingItemCount".to_owned(), remaining.into());
            }
        }
        let columns = if with_columns { serde_json::Value::Array(columns) } else { serde_json::Value::Null };
        let table = serde_json::json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        });
        Ok(table.to_string().into_bytes())
    }

    fn columns(&self) -> Vec<serde_json::Value> {
        let column = |name: &str, ty: &str, format: &str, priority: i64| serde_json::json!({"name": name, "type": ty, "format": format, "description": "", "priority": priority});
        match &self.resource.custom {
            None => self
                .resource
                .rules
                .columns
                .iter()
                .map(|c| column(c.name, c.ty, c.format, i64::from(c.priority)))
                .collect(),
            Some(custom) => std::iter::once(column("Name", "string", "name", 0))
                .chain(custom.columns.iter().map(|c| column(&c.name, &c.ty, "", c.priority)))
                .collect(),
        }
    }

    fn cells(&self, object: &Object) -> Vec<serde_json::Value> {
        let plain = |cell: Cell| match cell {
            Cell::Text(text) => serde_json::Value::String(text),
            Cell::Int(number) => number.into(),
            Cell::Bool(flag) => flag.into(),
        };
        match &self.resource.custom {
            None => (self.resource.rules.cells)(object, self.now).into_iter().map(plain).collect(),
            Some(custom) => {
                let name = serde_json::Value::String(object.name().to_owned());
                let others = custom.columns.iter().map(|column| column.cell(object, self.now));
                std::iter::once(name).chain(others).collect()
            }
        }
    }

    fn included(&self, object: &Object) -> Result<serde_json::Value> {
        let json = match self.include {
            Include::None => return Ok(serde_json::Value::Null),
            Include::Metadata => schema::json::encode(&partial(object)?),
            Include::Object => schema::json::encode(object),
        };
        serde_json::from_slice(&json).map_err(ApiError::internal)
    }

    /// One frame of a watch. `first` is whether a table still has to name its columns.
    ///
    /// # Errors
    /// 500 when what is stored cannot be read.
    pub fn frame(&self, kind: &str, entry: &Entry, first: bool) -> Result<Bytes> {
        match (self.output.shape, self.output.encoding) {
            (Shape::Object, Encoding::Protobuf) => {
                let raw = self.entry_protobuf(entry)?;
                let object = schema::protobuf::wrap(&self.resource.api_version(), &self.resource.kind, &raw);
                Ok(protobuf_frame(kind, &object))
            }
            (Shape::Object, _) => {
                let mut out = Vec::with_capacity(entry.bytes.len() * 3 + 40);
                json_frame_head(kind, &mut out);
                self.entry_json(entry, &mut out)?;
                out.extend_from_slice(b"}\n");
                Ok(out.into())
            }
            (Shape::Table, _) => {
                let object = self.object(entry)?;
                let meta = ListMeta {
                    resource_version: object.resource_version().to_owned(),
                    ..ListMeta::default()
                };
                Ok(json_frame(kind, &self.table(&[object], &meta, first)?))
            }
            (Shape::PartialMetadata, Encoding::Protobuf) => {
                let raw = schema::protobuf::encode(&partial(&self.object(entry)?)?);
                Ok(protobuf_frame(
                    kind,
                    &schema::protobuf::wrap("meta.k8s.io/v1", "PartialObjectMetadata", &raw),
                ))
            }
            (Shape::PartialMetadata, _) => {
                Ok(json_frame(kind, &schema::json::encode(&partial(&self.object(entry)?)?)))
            }
        }
    }

    /// A bookmark: an empty object that carries a resource version.
    ///
    /// # Errors
    /// 500 when the catalogue lacks what it must have.
    pub fn bookmark(&self, revision: u64, initial_end: bool) -> Result<Bytes> {
        let mut object = Object::new(self.resource.ty.clone());
        object.set("apiVersion", self.resource.api_version());
        object.set("kind", self.resource.kind.as_str());
        object.set_resource_version(&revision.to_string());
        if initial_end {
            if let Some(annotations) = object.metadata_mut().map_mut("annotations") {
                annotations.insert("k8s.io/initial-events-end", "true");
            }
        }
        let encoding = self.output.encoding;
        match self.output.shape {
            Shape::Table => {
                let meta = ListMeta { resource_version: revision.to_string(), ..ListMeta::default() };
                Ok(json_frame("BOOKMARK", &self.table(&[object], &meta, false)?))
            }
            Shape::PartialMetadata => Ok(object_frame("BOOKMARK", &partial(&object)?, encoding)),
            Shape::Object => Ok(object_frame("BOOKMARK", &object, encoding)),
        }
    }
}

fn object_frame(kind: &str, object: &Object, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Protobuf => {
            let raw = schema::protobuf::encode(object);
            protobuf_frame(kind, &schema::protobuf::wrap(object.api_version(), object.kind(), &raw))
        }
        _ => json_frame(kind, &schema::json::encode(object)),
    }
}

/// The frame that ends a watch with an error.
pub fn error_frame(error: &ApiError, encoding: Encoding) -> Bytes {
    let json = error.to_json();
    let status = schema::catalogue::builtin().kind("", "v1", "Status");
    match (encoding, status) {
        (Encoding::Protobuf, Some(status)) => match schema::json::decode(&status.ty, &json) {
            Ok(decoded) => object_frame("ERROR", &decoded.object, encoding),
            Err(_) => json_frame("ERROR", &json),
        },
        _ => json_frame("ERROR", &json),
    }
}

fn json_frame_head(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","object":"#);
}

fn json_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 40);
    json_frame_head(kind, &mut out);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// `meta.v1.WatchEvent`, bare, behind four bytes of length: type is field 1, the object's `RawExtension` field 2,
/// whose bytes are field 1.
fn protobuf_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut extension = Vec::with_capacity(object.len() + 8);
    put_field(&mut extension, 1, object);
    let mut event = Vec::with_capacity(extension.len() + kind.len() + 16);
    put_field(&mut event, 1, kind.as_bytes());
    put_field(&mut event, 2, &extension);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out.into()
}

fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

fn encode_list<'i>(items: impl IntoIterator<Item = &'i [u8]>, meta: &ListMeta) -> Vec<u8> {
    schema::protobuf::encode_list(&meta.resource_version, &meta.continue_token, meta.remaining, items)
}

fn list_head(api_version: &str, kind: &str, meta: &ListMeta) -> Vec<u8> {
    let mut metadata = serde_json::json!({"resourceVersion": meta.resource_version});
    if let Some(map) = metadata.as_object_mut() {
        if !meta.continue_token.is_empty() {
            map.insert("continue".to_owned(), meta.continue_token.clone().into());
        }
        if let Some(remaining) = meta.remaining {
            map.insert("remainingItemCount".to_owned(), remaining.into());
        }
    }
    format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#).into_bytes()
}

/// The metadata of an object, as `PartialObjectMetadata`.
///
/// # Errors
/// 500 when the catalogue lacks the type.
pub fn partial(object: &Object) -> Result<Object> {
    let kind = schema::catalogue::builtin()
        .kind("meta.k8s.io", "v1", "PartialObjectMetadata")
        .ok_or_else(|| ApiError::internal("the catalogue has no PartialObjectMetadata"))?;
    let mut partial = Object::new(kind.ty.clone());
    partial.set("apiVersion", "meta.k8s.io/v1");
    partial.set("kind", "PartialObjectMetadata");
    partial.set("metadata", object.metadata().clone());
    Ok(partial)
}

/// Writes an object that belongs to no resource of the request (`Scale`, `Status`, reviews).
///
/// # Errors
/// 500 when YAML cannot be made.
pub fn plain_object(object: &Object, encoding: Encoding, code: u16) -> Result<Response<Body>> {
    let bytes = match encoding {
        Encoding::Protobuf => {
            schema::protobuf::wrap(object.api_version(), object.kind(), &schema::protobuf::encode(object))
        }
        Encoding::Json | Encoding::Yaml => schema::json::encode(object),
    };
    finish(encoding, code, bytes)
}

fn finish(encoding: Encoding, code: u16, bytes: Vec<u8>) -> Result<Response<Body>> {
    if encoding == Encoding::Yaml {
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        let yaml = serde_yaml_ng::to_string(&value).map_err(ApiError::internal)?;
        return Ok(body::respond(code, encoding.media_type(), yaml));
    }
    Ok(body::respond(code, encoding.media_type(), bytes))
}

/// Decodes an entry as the storage has it.
///
/// # Errors
/// 500 when what is stored cannot be read.
pub fn stored_object(codec: &Codec, entry: &Entry) -> Result<Object> {
    codec.object(entry).map_err(ApiError::internal)
}
