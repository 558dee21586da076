//! Fields of a KubeletConfiguration that change nothing here although upstream's kubelet does something with them, and
//! values of others that this one does not know how to follow: whoever writes them is told.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Whatever is written in them.
const FIELDS: &[&str] = &[
    "enableContentionProfiling",
    "volumeStatsAggPeriod",
    "cgroupsPerQOS",
    "volumePluginDir",
    "kernelMemcgNotification",
    "tracing",
    "containerLogMaxWorkers",
    "showHiddenMetricsForVersion",
];

/// Whose one value is all that there is.
fn followed() -> [(&'static str, Value, &'static str); 1] {
    [("enableControllerAttachDetach", json!(true), "volumes are attached by the cluster's controller")]
}

/// Parts of `logging`.
const LOGGING: [&str; 2] = ["vmodule", "options"];

/// Whether a value says what upstream has anyhow: whoever writes down what a kubelet told of itself asks for nothing.
fn is_usual(name: &str, value: &Value) -> bool {
    let field = super::fields::FIELDS.iter().find(|field| field.name == name);
    let default = field.and_then(|field| serde_json::from_str::<Value>(field.default).ok());
    let nothing = [json!(""), json!(false), json!([]), json!({}), Value::Null];
    default.map_or_else(|| nothing.contains(value), |default| default == *value)
}

/// Says so.
pub fn tell(object: &Map<String, Value>, path: &Path, warnings: &mut Vec<String>) {
    let path = path.display();
    let asks = |name: &&&str| object.get(**name).is_some_and(|value| !is_usual(name, value));
    let mut idle: Vec<String> = FIELDS.iter().filter(asks).map(|name| (*name).to_owned()).collect();
    let parts = object.get("logging").and_then(Value::as_object);
    let parts =
        parts.into_iter().flat_map(|logging| LOGGING.iter().filter(|name| logging.contains_key(**name)));
    idle.extend(parts.map(|name| format!("logging.{name}")));
    if !idle.is_empty() {
        warnings.push(format!("{path}: these fields have no effect here: {}", idle.join(", ")));
    }
    for (name, value, why) in followed() {
        if object.get(name).is_some_and(|given| *given != value && *given != json!("")) {
            warnings.push(format!("{path}: {name} stays {value}: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(object: Value) -> Vec<String> {
        let (Value::Object(object), mut warnings) = (object, Vec::new()) else { panic!("an object") };
        tell(&object, Path::new("/k"), &mut warnings);
        warnings
    }

    #[test]
    fn whoever_writes_what_changes_nothing_is_told() {
        assert_eq!(
            told(
                json!({"enableControllerAttachDetach": false, "logging": {"format": "json", "vmodule": []}, "volumePluginDir": "/x"})
            ),
            [
                "/k: these fields have no effect here: volumePluginDir, logging.vmodule",
                "/k: enableControllerAttachDetach stays true: volumes are attached by the cluster's controller",
            ]
        );
        assert_eq!(
            told(
                json!({"cgroupDriver": "cgroupfs", "hairpinMode": "none", "cgroupsPerQOS": true, "showHiddenMetricsForVersion": ""})
            ),
            [""; 0]
        );
    }

    #[test]
    fn every_field_is_one() {
        let followed = followed();
        let names = FIELDS.iter().chain(followed.iter().map(|(name, ..)| name));
        for name in names {
            assert!(super::super::fields::FIELDS.iter().any(|field| field.name == *name), "{name}");
        }
    }
}
