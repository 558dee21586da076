//! A JSON schema as it stands in a definition, and what it demands of values.

use std::sync::Arc;

use regex::Regex;

use crate::map::Map;
use crate::types::{ListType, Type};
use crate::value::Value;

/// How deep schemas may be nested.
const MAX_DEPTH: usize = 100;

/// One schema, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Props {
    pub type_: String,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub properties: Vec<(String, Props)>,
    pub additional: Option<Box<Props>>,
    /// `additionalProperties: true`.
    pub additional_any: bool,
    pub items: Option<Box<Props>>,
    pub list: ListType,
    pub map_atomic: bool,
    /// As JSON text.
    pub default: Option<String>,
    pub enum_values: Vec<Value>,
    pub required: Vec<String>,
    pub validation: Arc<Validation>,
}

/// What a schema demands of a value.
#[derive(Debug, Default)]
pub struct Validation {
    pub(super) types: Vec<&'static str>,
    pub(super) nullable: bool,
    pub(super) format: String,
    pub(super) pattern: Option<Pattern>,
    pub(super) enum_values: Vec<Value>,
    pub(super) minimum: Option<Bound>,
    pub(super) maximum: Option<Bound>,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) unique_items: bool,
    pub(super) min_properties: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) required: Vec<String>,
    /// By name.
    pub(super) properties: Vec<(String, Arc<Validation>)>,
    pub(super) additional: Option<Arc<Validation>>,
    pub(super) items: Option<Arc<Validation>>,
    pub(super) list: ListType,
    pub(super) all_of: Vec<Arc<Validation>>,
    pub(super) any_of: Vec<Arc<Validation>>,
    pub(super) one_of: Vec<Arc<Validation>>,
    pub(super) not: Option<Arc<Validation>>,
}

#[derive(Debug)]
pub(super) struct Pattern {
    pub text: String,
    /// Or why it is none.
    pub regex: Result<Regex, String>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

fn type_name(name: &str) -> Option<&'static str> {
    ["object", "array", "string", "integer", "number", "boolean"].into_iter().find(|known| *known == name)
}

fn size(map: &Map, key: &str) -> Option<usize> {
    map.get(key)?.as_int().and_then(|i| usize::try_from(i).ok())
}

fn flag(map: &Map, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'m>(map: &'m Map, key: &str) -> &'m str {
    map.get_str(key).unwrap_or("")
}

fn strings(map: &Map, key: &str) -> Vec<String> {
    let list = map.get(key).and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn list_type(map: &Map) -> ListType {
    match text(map, "x-kubernetes-list-type") {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => {
            let keys = strings(map, "x-kubernetes-list-map-keys");
            ListType::Map(keys.into_iter().map(Into::into).collect())
        }
        _ => ListType::None,
    }
}

struct Reader<'e> {
    errors: &'e mut Vec<String>,
    depth: usize,
}

impl Props {
    pub fn read(tree: Option<&Value>, path: &str, errors: &mut Vec<String>) -> Self {
        let mut reader = Reader { errors, depth: 0 };
        reader.props(tree, path)
    }
}

impl Reader<'_> {
    fn props(&mut self, tree: Option<&Value>, path: &str) -> Props {
        let Some(map) = tree.and_then(Value::as_map) else {
            return Props::default();
        };
        if self.depth > MAX_DEPTH {
            self.errors.push(format!("{path}: Invalid value: schema is nested too deeply"));
            return Props::default();
        }
        self.depth += 1;
        let mut props = Props {
            type_: text(map, "type").to_owned(),
            nullable: flag(map, "nullable"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(map, "x-kubernetes-embedded-resource"),
            list: list_type(map),
            map_atomic: text(map, "x-kubernetes-map-type") == "atomic",
            required: strings(map, "required"),
            ..Props::default()
        };
        if let Some(default) = map.get("default").filter(|d| **d != Value::Null) {
            let mut out = Vec::new();
            crate::json::encode_value(&Type::Any, default, &mut out);
            props.default = String::from_utf8(out).ok();
        }
        self.check_type(&props, path);
        self.children(map, path, &mut props);
        props.enum_values = map.get("enum").and_then(Value::as_list).unwrap_or_default().to_vec();
        props.validation = Arc::new(self.validation(map, path, &props));
        self.depth -= 1;
        props
    }

    fn check_type(&mut self, props: &Props, path: &str) {
        if !props.type_.is_empty() && type_name(&props.type_).is_none() {
            self.errors.push(format!(
                "{path}.type: Unsupported value: {:?}: supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
                props.type_
            ));
        }
    }

    fn children(&mut self, map: &Map, path: &str, props: &mut Props) {
        let properties = map.get("properties").and_then(Value::as_map);
        for (name, child) in properties.into_iter().flat_map(Map::iter) {
            let path = format!("{path}.properties[{name}]");
            let child = self.props(Some(child), &path);
            if child.type_.is_empty() && !child.int_or_string && !child.preserve_unknown {
                self.errors.push(format!(
                    "{path}.type: Required value: must not be empty for specified object fields"
                ));
            }
            props.properties.push((name.to_owned(), child));
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(any)) => props.additional_any = *any,
            Some(schema @ Value::Map(_)) => {
                let path = format!("{path}.additionalProperties");
                let child = self.props(Some(schema), &path);
                props.additional = Some(Box::new(child));
            }
            _ => {}
        }
        match map.get("items") {
            Some(schema @ Value::Map(_)) => {
                let child = self.props(Some(schema), &format!("{path}.items"));
                props.items = Some(Box::new(child));
            }
            Some(Value::List(_)) => self
                .errors
                .push(format!("{path}.items: Forbidden: items must be a schema object and not an array")),
            _ => {}
        }
    }

    fn validation(&mut self, map: &Map, path: &str, props: &Props) -> Validation {
        let mut many = |key: &str| -> Vec<Arc<Validation>> {
            let list = map.get(key).and_then(Value::as_list).unwrap_or_default();
            let each = list.iter().enumerate();
            each.map(|(at, schema)| self.nested(schema, &format!("{path}.{key}[{at}]"))).collect()
        };
        let (all_of, any_of, one_of) = (many("allOf"), many("anyOf"), many("oneOf"));
        let not = map.get("not").map(|schema| self.nested(schema, &format!("{path}.not")));
        let bound = |key: &str, exclusive: &str| {
            let value = map.get(key)?.as_float()?;
            Some(Bound { value, exclusive: flag(map, exclusive) })
        };
        let types = match (props.int_or_string, type_name(&props.type_)) {
            (true, _) => vec!["integer", "string"],
            (false, Some(name)) => vec![name],
            (false, None) => Vec::new(),
        };
        let children = props.properties.iter();
        Validation {
            types,
            nullable: props.nullable,
            format: super::formats::known(text(map, "format")).to_owned(),
            pattern: self.pattern(map, path),
            enum_values: props.enum_values.clone(),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: map.get("multipleOf").and_then(Value::as_float),
            min_length: size(map, "minLength"),
            max_length: size(map, "maxLength"),
            min_items: size(map, "minItems"),
            max_items: size(map, "maxItems"),
            unique_items: flag(map, "uniqueItems"),
            min_properties: size(map, "minProperties"),
            max_properties: size(map, "maxProperties"),
            required: props.required.clone(),
            properties: children.map(|(name, child)| (name.clone(), child.validation.clone())).collect(),
            additional: props.additional.as_ref().map(|a| a.validation.clone()),
            items: props.items.as_ref().map(|i| i.validation.clone()),
            list: props.list.clone(),
            all_of,
            any_of,
            one_of,
            not,
        }
    }

    /// A schema inside `allOf`, `anyOf`, `oneOf` or `not`, which need not say its type.
    fn nested(&mut self, schema: &Value, path: &str) -> Arc<Validation> {
        let mut ignored = Vec::new();
        let mut reader = Reader { errors: &mut ignored, depth: self.depth };
        reader.props(Some(schema), path).validation
    }

    fn pattern(&mut self, map: &Map, path: &str) -> Option<Pattern> {
        let text = map.get_str("pattern").filter(|p| !p.is_empty())?;
        let regex = Regex::new(text).map_err(|e| e.to_string());
        if let Err(error) = &regex {
            self.errors.push(format!(
                "{path}.pattern: Invalid value: {text:?}: must be a valid regular expression, but isn't: {error}"
            ));
        }
        Some(Pattern { text: text.to_owned(), regex })
    }
}
