//! meta.k8s.io/v1 Table: what kubectl prints.

use crate::Value;

/// A table, which writes its own JSON.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining_item_count: Option<i64>,
    pub columns: Vec<TableColumnDefinition>,
    pub rows: Vec<TableRow>,
    /// A table in a watch event has its columns only the first time.
    pub omit_columns: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableColumnDefinition {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// Such as `name` for the column that names the object.
    pub format: String,
    pub description: String,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl TableColumnDefinition {
    pub fn new(name: &str, type_: &str, format: &str, priority: i32, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            type_: type_.to_owned(),
            format: format.to_owned(),
            description: description.to_owned(),
            priority,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct TableRow {
    /// Strings, integers, floats, bools or null.
    pub cells: Vec<Value>,
    pub object: RowObject,
}

/// What comes with a row, as `includeObject` asks.
#[derive(Debug, Clone, Default)]
pub enum RowObject {
    /// `null`.
    #[default]
    None,
    /// The object's whole JSON.
    Full(Vec<u8>),
    /// A PartialObjectMetadata around the JSON of an ObjectMeta.
    Metadata(Vec<u8>),
}

impl Table {
    /// As a `meta.k8s.io/v1` table.
    pub fn to_json(&self) -> Vec<u8> {
        self.to_json_as("meta.k8s.io/v1")
    }

    /// As a table of `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub fn to_json_as(&self, api_version: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.rows.len() * 256);
        self.write(api_version, &mut out);
        out
    }

    fn write(&self, api_version: &str, out: &mut Vec<u8>) {
        use crate::json::write::{int, name, string};
        out.extend_from_slice(b"{\"kind\":\"Table\",\"apiVersion\":");
        string(out, api_version);
        out.extend_from_slice(b",\"metadata\":{");
        let mut first = true;
        for (key, text) in [("resourceVersion", &self.resource_version), ("continue", &self.continue_token)] {
            if !text.is_empty() {
                crate::json::encode::comma(out, &mut first);
                name(out, key);
                string(out, text);
            }
        }
        if let Some(remaining) = self.remaining_item_count {
            crate::json::encode::comma(out, &mut first);
            name(out, "remainingItemCount");
            int(out, remaining);
        }
        out.extend_from_slice(b"},\"columnDefinitions\":");
        if self.omit_columns {
            out.extend_from_slice(b"null");
        } else {
            self.write_columns(out);
        }
        out.extend_from_slice(b",\"rows\":[");
        let mut first = true;
        for row in &self.rows {
            crate::json::encode::comma(out, &mut first);
            row.write(api_version, out);
        }
        out.extend_from_slice(b"]}");
    }

    fn write_columns(&self, out: &mut Vec<u8>) {
        use crate::json::write::{int, string};
        out.push(b'[');
        let mut first = true;
        for column in &self.columns {
            crate::json::encode::comma(out, &mut first);
            out.extend_from_slice(b"{\"name\":");
            string(out, &column.name);
            out.extend_from_slice(b",\"type\":");
            string(out, &column.type_);
            out.extend_from_slice(b",\"format\":");
            string(out, &column.format);
            out.extend_from_slice(b",\"description\":");
            string(out, &column.description);
            out.extend_from_slice(b",\"priority\":");
            int(out, column.priority.into());
            out.push(b'}');
        }
        out.push(b']');
    }
}

impl TableRow {
    fn write(&self, api_version: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"cells\":[");
        let mut first = true;
        for cell in &self.cells {
            crate::json::encode::comma(out, &mut first);
            crate::json::encode_value(&crate::Type::Any, cell, out);
        }
        out.extend_from_slice(b"],\"object\":");
        match &self.object {
            RowObject::None => out.extend_from_slice(b"null"),
            RowObject::Full(json) => out.extend_from_slice(json),
            RowObject::Metadata(json) => {
                out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":");
                crate::json::write::string(out, api_version);
                out.extend_from_slice(b",\"metadata\":");
                out.extend_from_slice(json);
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_as_the_catalogues() {
        let table = Table {
            resource_version: "7".into(),
            columns: vec![TableColumnDefinition::new("Name", "string", "name", 0, "the name")],
            rows: vec![TableRow {
                cells: vec!["a".into(), 3i64.into(), Value::Null],
                object: RowObject::Metadata(br#"{"name":"a"}"#.to_vec()),
            }],
            ..Table::default()
        };
        let ty = &crate::builtin().kind("meta.k8s.io", "v1", "Table").unwrap().ty;
        let json = table.to_json();
        let decoded = crate::json::decode(ty, &json).unwrap();
        assert!(decoded.strict.is_empty());
        assert_eq!(crate::json::encode(&decoded.object), json);
    }
}
