//! Short cuts to an object's type and metadata.

use std::sync::OnceLock;

use jiff::Timestamp;

use super::Object;
use crate::catalogue::builtin;
use crate::map::Map;
use crate::types::{Kind, Struct, StructRef, Type};
use crate::value::Value;

fn object_meta() -> StructRef {
    builtin()
        .type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .unwrap_or_else(|| Struct::new("ObjectMeta", Vec::new()).into())
}

fn empty() -> &'static Object {
    static EMPTY: OnceLock<Object> = OnceLock::new();
    EMPTY.get_or_init(|| Object::new(object_meta()))
}

fn as_struct_or_reset(value: &mut Value) -> &mut Object {
    if value.as_struct().is_none() {
        *value = Value::Struct(Object::new(object_meta()));
    }
    match value {
        Value::Struct(o) => o,
        _ => unreachable!("the value was just made a struct"),
    }
}

/// Reads and writes of `apiVersion`, `kind` and `metadata`. The readers return an empty string
/// where nothing is set.
impl Object {
    pub fn api_version(&self) -> &str {
        self.get("apiVersion").and_then(Value::as_str).unwrap_or("")
    }

    pub fn kind(&self) -> &str {
        self.get("kind").and_then(Value::as_str).unwrap_or("")
    }

    pub fn set_gvk(&mut self, kind: &Kind) {
        self.set("apiVersion", kind.api_version());
        self.set("kind", &*kind.kind);
    }

    /// ObjectMeta, or a List's ListMeta; an empty one when there is none.
    pub fn metadata(&self) -> &Object {
        self.get("metadata").and_then(Value::as_struct).unwrap_or_else(|| empty())
    }

    /// Created when absent. For a type without metadata, what is set is not written anywhere.
    pub fn metadata_mut(&mut self) -> &mut Object {
        let make = || Value::Struct(Object::new(object_meta()));
        let value = match self.ty.field("metadata") {
            Some((index, field)) => {
                let made = match &field.ty {
                    Type::Struct(ty) => Value::Struct(Object::new(ty.clone())),
                    _ => make(),
                };
                self.slot(index, made)
            }
            None => self.extra_mut().get_or_insert_with("metadata", make),
        };
        as_struct_or_reset(value)
    }

    fn meta_str(&self, json: &str) -> &str {
        self.metadata().get(json).and_then(Value::as_str).unwrap_or("")
    }

    pub fn name(&self) -> &str {
        self.meta_str("name")
    }

    pub fn namespace(&self) -> &str {
        self.meta_str("namespace")
    }

    pub fn generate_name(&self) -> &str {
        self.meta_str("generateName")
    }

    pub fn uid(&self) -> &str {
        self.meta_str("uid")
    }

    pub fn resource_version(&self) -> &str {
        self.meta_str("resourceVersion")
    }

    pub fn generation(&self) -> i64 {
        self.metadata().get("generation").and_then(Value::as_int).unwrap_or(0)
    }

    pub fn labels(&self) -> Option<&Map> {
        self.metadata().get("labels")?.as_map()
    }

    pub fn annotations(&self) -> Option<&Map> {
        self.metadata().get("annotations")?.as_map()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get_str(key)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations()?.get_str(key)
    }

    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.metadata().get("finalizers").and_then(Value::as_list);
        list.unwrap_or_default().iter().filter_map(Value::as_str).collect()
    }

    pub fn owner_references(&self) -> &[Value] {
        self.metadata().get("ownerReferences").and_then(Value::as_list).unwrap_or_default()
    }

    pub fn creation_timestamp(&self) -> Option<Timestamp> {
        time_of(self.metadata().get("creationTimestamp")?)
    }

    pub fn deletion_timestamp(&self) -> Option<Timestamp> {
        time_of(self.metadata().get("deletionTimestamp")?)
    }

    pub fn set_name(&mut self, name: &str) {
        self.metadata_mut().set("name", name);
    }

    pub fn set_namespace(&mut self, namespace: &str) {
        self.metadata_mut().set("namespace", namespace);
    }

    pub fn set_uid(&mut self, uid: &str) {
        self.metadata_mut().set("uid", uid);
    }

    pub fn set_resource_version(&mut self, resource_version: &str) {
        self.metadata_mut().set("resourceVersion", resource_version);
    }

    pub fn set_generation(&mut self, generation: i64) {
        self.metadata_mut().set("generation", generation);
    }

    pub fn set_creation_timestamp(&mut self, time: Timestamp) {
        self.metadata_mut().set("creationTimestamp", time);
    }

    /// Sets or clears `deletionTimestamp` and `deletionGracePeriodSeconds`.
    pub fn set_deletion(&mut self, time: Option<Timestamp>, grace_seconds: Option<i64>) {
        let metadata = self.metadata_mut();
        metadata.set("deletionTimestamp", time);
        metadata.set("deletionGracePeriodSeconds", grace_seconds);
    }
}

fn time_of(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Time(t) => Some(*t),
        Value::Str(s) => crate::time::parse_rfc3339(s).ok(),
        _ => None,
    }
}
