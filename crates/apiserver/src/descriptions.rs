//! What types and fields are for, in upstream's sentences: they come from the ecosystem's types when this is built.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;
use serde_json::{Value, json};

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions"));

/// Writes the descriptions into schemas, which are known by the names of their types.
///
/// # Errors
/// When what was built in cannot be read.
pub fn describe(schemas: &mut BTreeMap<String, Value>) -> std::io::Result<()> {
    // Read anew each time: it is wanted seldom, and takes a megabyte.
    let mut text = String::new();
    DeflateDecoder::new(COMPRESSED).read_to_string(&mut text)?;
    let mut current = None;
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("T ", name)) => current = schemas.get_mut(name),
            Some(("D ", description)) => {
                if let Some(schema) = &mut current {
                    set(schema, description);
                }
            }
            Some(("F ", rest)) => {
                let Some((field, description)) = rest.split_once(' ') else { continue };
                let properties = current.as_mut().and_then(|schema| schema.get_mut("properties"));
                if let Some(property) = properties.and_then(|properties| properties.get_mut(field)) {
                    set(property, description);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn set(schema: &mut Value, description: &str) {
    // Beside a reference nothing else may stand.
    if schema.get("$ref").is_some() {
        *schema = json!({"allOf": [schema.take()]});
    }
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".to_owned(), description.replace("\\n", "\n").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_types_are_described() {
        let mut schemas = BTreeMap::new();
        let pod = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        schema::openapi::collect(&pod.ty, &mut schemas);
        describe(&mut schemas).unwrap();
        let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
        assert_eq!(spec["description"], "PodSpec is a description of a pod.");
        let containers = spec["properties"]["containers"]["description"].as_str().unwrap();
        assert!(containers.starts_with("List of containers belonging to the pod."), "{containers}");
        let undescribed: Vec<&String> = schemas
            .iter()
            .filter(|(_, schema)| schema.get("description").is_none())
            .map(|(name, _)| name)
            .collect();
        assert!(undescribed.is_empty(), "{undescribed:?}");
    }
}
