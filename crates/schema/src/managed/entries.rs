//! `metadata.managedFields`, read and written.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use super::path::FieldSet;
use crate::object::Object;
use crate::value::Value;

/// Who owns a set of fields. The version is not part of an applier's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub name: String,
    pub operation: String,
    pub api_version: String,
    pub subresource: String,
}

#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub set: FieldSet,
    pub api_version: String,
    pub time: Option<Timestamp>,
}

pub(super) type Managers = BTreeMap<Manager, Owned>;

impl Manager {
    pub fn is_applier(&self) -> bool {
        self.operation == "Apply"
    }
}

/// None when an entry cannot be read.
pub(super) fn read(o: &Object) -> Option<Managers> {
    let mut managers = Managers::new();
    let entries = o.metadata().get("managedFields").and_then(Value::as_list);
    for entry in entries.unwrap_or_default() {
        let entry = entry.as_struct()?;
        let text = |name| entry.str_at(&[name]).unwrap_or("").to_owned();
        let (operation, api_version) = (text("operation"), text("apiVersion"));
        let known = operation == "Apply" || operation == "Update";
        if !known || api_version.is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let set = match entry.get("fieldsV1").and_then(Value::as_bytes) {
            Some(fields) => FieldSet::parse(fields).ok()?,
            None => FieldSet::new(),
        };
        let manager = Manager {
            name: text("manager"),
            api_version: match operation.as_str() {
                "Apply" => String::new(),
                _ => api_version.clone(),
            },
            operation,
            subresource: text("subresource"),
        };
        let owned = Owned { set, api_version, time: entry.get("time").and_then(Value::as_time) };
        managers.insert(manager, owned);
    }
    Some(managers)
}

/// Whether the list is the single empty entry with which a client gives up all ownership.
pub(super) fn is_reset(o: &Object) -> bool {
    match o.metadata().get("managedFields").and_then(Value::as_list) {
        Some([]) => true,
        Some([only]) => only.as_struct().is_some_and(Object::is_zero),
        _ => false,
    }
}

pub(super) fn write(o: &mut Object, managers: &Managers) {
    let metadata = o.metadata_mut();
    let Some(ty) = metadata.item_type("managedFields") else {
        return;
    };
    let seconds = |owned: &Owned| owned.time.map_or(0, |t| t.as_second());
    let mut sorted: Vec<_> = managers.iter().collect();
    sorted.sort_by(|(a, x), (b, y)| {
        a.operation
            .cmp(&b.operation)
            .then_with(|| seconds(x).cmp(&seconds(y)))
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| x.api_version.cmp(&y.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    let entries: Vec<Value> = sorted
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = Object::new(ty.clone());
            entry.set("manager", &manager.name);
            entry.set("operation", &manager.operation);
            entry.set("apiVersion", &owned.api_version);
            entry.set("time", owned.time);
            entry.set("fieldsType", "FieldsV1");
            entry.set("fieldsV1", Value::Raw(Bytes::from(owned.set.to_json())));
            entry.set("subresource", &manager.subresource);
            Value::Struct(entry)
        })
        .collect();
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.set("managedFields", entries);
    }
}
