//! The text form of the catalogue.
//!
//! ```text
//! package io.k8s.api.core.v1
//! struct Pod
//! = v1 Pod
//!   metadata io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta #1 omitempty
//! ```
//!
//! A `struct` line carries the struct's marks, `=` lines the kinds under which it is registered,
//! and indented lines its fields: JSON name, type, marks. A type is a scalar's name, a struct's
//! (`.Name` within the package), `[]T` or `{}T`. `#2.1` is a protobuf tag path; `default=` comes
//! last and runs to the end of the line.

use std::collections::HashMap;
use std::sync::OnceLock;

use smallvec::SmallVec;

use super::{Catalogue, LazyStruct};
use crate::types::{Field, Form, Kind, ListType, ProtoKind, ProtoNode, Struct, StructRef, Type};

/// Finds where each struct's text is. Leaks the catalogue, which lives as long as the process.
pub(super) fn index(text: &'static str) -> &'static Catalogue {
    let mut structs: Vec<LazyStruct> = Vec::with_capacity(1300);
    let mut package = "";
    let mut at = 0;
    while let Some(line_end) = text.get(at..).and_then(|t| t.find('\n')) {
        let line = text.get(at..at + line_end).unwrap_or("");
        at += line_end + 1;
        if let Some(name) = line.strip_prefix("package ") {
            package = name;
            continue;
        }
        let Some(header) = line.strip_prefix("struct ") else {
            continue;
        };
        let mut kinds = Vec::new();
        while let Some(rest) = text.get(at..).and_then(|t| t.strip_prefix("= ")) {
            let end = rest.find('\n').unwrap_or(rest.len());
            kinds.extend(parse_kind(rest.get(..end).unwrap_or("")));
            at += end + 3;
        }
        let body = body_of(text.get(at..).unwrap_or(""));
        at += body.len();
        let (name, flags) = header.split_once(' ').unwrap_or((header, ""));
        structs.push(LazyStruct {
            name: format!("{package}.{name}"),
            package,
            header: flags,
            body,
            kinds,
            cell: OnceLock::new(),
        });
    }
    finish(structs)
}

/// The indented lines at the start.
fn body_of(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if !line.starts_with("  ") {
            break;
        }
        end += line.len();
    }
    text.get(..end).unwrap_or("")
}

fn parse_kind(line: &str) -> Option<(String, String, String)> {
    let (group_version, kind) = line.split_once(' ')?;
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    Some((group.to_owned(), version.to_owned(), kind.to_owned()))
}

fn finish(structs: Vec<LazyStruct>) -> &'static Catalogue {
    let structs: &'static [LazyStruct] = Vec::leak(structs);
    let mut kinds = Vec::with_capacity(800);
    let mut by_gvk = HashMap::with_capacity(800);
    let mut by_name = HashMap::with_capacity(structs.len());
    for (position, lazy) in structs.iter().enumerate() {
        by_name.insert(lazy.name.as_str(), position);
        for (group, version, kind) in &lazy.kinds {
            let key = (group.as_str(), version.as_str(), kind.as_str());
            by_gvk.insert(key, kinds.len());
            kinds.push(Kind {
                group: group.as_str().into(),
                version: version.as_str().into(),
                kind: kind.as_str().into(),
                ty: StructRef::Builtin(lazy),
            });
        }
    }
    Box::leak(Box::new(Catalogue { structs, by_name, kinds, by_gvk }))
}

/// Parses one struct. The text is part of the program and a test parses all of it, so what does
/// not fit is skipped here.
pub(super) fn parse_struct(lazy: &LazyStruct) -> Struct {
    let mut pointers = Vec::new();
    let fields = lazy
        .body
        .lines()
        .filter_map(|line| parse_field(lazy.package, line.trim_start(), &mut pointers))
        .collect();
    let mut made = Struct::new(lazy.name.clone(), fields);
    made.kinds.clone_from(&lazy.kinds);
    made.has_proto = true;
    for mark in lazy.header.split_whitespace() {
        match mark {
            "atomic" => made.atomic = true,
            "noproto" => made.has_proto = false,
            "form=bool" => made.form = Form::SchemaOrBool,
            "form=array" => made.form = Form::SchemaOrArray,
            "form=strings" => made.form = Form::SchemaOrStrings,
            _ => {}
        }
    }
    for path in pointers {
        mark_pointer(&mut made.proto, &path);
    }
    made
}

fn mark_pointer(nodes: &mut [ProtoNode], path: &[u32]) {
    let Some((tag, rest)) = path.split_first() else {
        return;
    };
    for node in nodes.iter_mut().filter(|n| n.tag == *tag) {
        if let ProtoKind::Embedded { nodes, pointer } = &mut node.kind {
            if rest.is_empty() {
                *pointer = true;
            } else {
                mark_pointer(nodes, rest);
            }
        }
    }
}

/// `pointers` receives the tag paths of embedded structs that are behind a pointer.
pub(super) fn parse_field(package: &str, line: &str, pointers: &mut Vec<Vec<u32>>) -> Option<Field> {
    let (line, default) = match line.split_once(" default=") {
        Some((line, default)) => (line, Some(default.into())),
        None => (line, None),
    };
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let mut field = Field::new(name, parse_type(package, words.next()?)?);
    field.omitempty = false;
    field.default = default;
    for word in words {
        parse_mark(&mut field, word, pointers)?;
    }
    Some(field)
}

fn parse_mark(field: &mut Field, word: &str, pointers: &mut Vec<Vec<u32>>) -> Option<()> {
    if let Some(path) = word.strip_prefix('#') {
        field.proto = parse_path(path, pointers)?;
        return Some(());
    }
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    match key {
        "*" => field.pointer = true,
        "omitempty" => field.omitempty = true,
        "omitzero" => field.omitzero = true,
        "required" => field.required = true,
        "items" => field.items_message = true,
        "list" => {
            field.list = match value {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                _ => {
                    let keys = value.strip_prefix("map:")?;
                    ListType::Map(keys.split(',').map(Into::into).collect())
                }
            }
        }
        "map" => field.map_atomic = value == "atomic",
        "struct" => {
            field.struct_atomic = value == "atomic";
            field.struct_granular = value == "granular";
        }
        "in" => field.go_embedded = value.into(),
        "go" => field.go_type = value.into(),
        "ps" => field.patch_strategy = value.into(),
        "pmk" => field.patch_merge_key = value.into(),
        "enum" => field.enum_values = value.split('|').map(|v| v.replace("%20", " ").into()).collect(),
        _ => return None,
    }
    Some(())
}

fn parse_path(path: &str, pointers: &mut Vec<Vec<u32>>) -> Option<SmallVec<[u32; 2]>> {
    let mut tags = SmallVec::new();
    for part in path.split('.') {
        let (number, pointer) = match part.strip_suffix('*') {
            Some(number) => (number, true),
            None => (part, false),
        };
        tags.push(number.parse().ok()?);
        if pointer {
            pointers.push(tags.to_vec());
        }
    }
    Some(tags)
}

fn parse_type(package: &str, text: &str) -> Option<Type> {
    if let Some(item) = text.strip_prefix("[]") {
        return Some(Type::List(Box::new(parse_type(package, item)?)));
    }
    if let Some(item) = text.strip_prefix("{}") {
        return Some(Type::Map(Box::new(parse_type(package, item)?)));
    }
    Some(match text {
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "uint32" => Type::Uint32,
        "uint64" => Type::Uint64,
        "float64" => Type::Float64,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "duration" => Type::Duration,
        "intorstring" => Type::IntOrString,
        "quantity" => Type::Quantity,
        "raw" => Type::Raw,
        "fieldsv1" => Type::FieldsV1,
        "any" => Type::Any,
        name => {
            let full = match name.strip_prefix('.') {
                Some(local) => format!("{package}.{local}"),
                None => name.to_owned(),
            };
            Type::Struct(super::builtin().type_named(&full)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses() {
        let catalogue = crate::builtin();
        let mut fields = 0;
        for lazy in catalogue.structs {
            for line in lazy.body.lines() {
                let parsed = parse_field(lazy.package, line.trim_start(), &mut Vec::new());
                assert!(parsed.is_some(), "{}: {line}", lazy.name);
                fields += 1;
            }
            assert_eq!(lazy.get().name, lazy.name);
        }
        assert!(catalogue.structs.len() > 1000 && fields > 4000);
        assert!(catalogue.kinds().count() > 700);
    }
}
