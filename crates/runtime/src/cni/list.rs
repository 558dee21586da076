//! A network as its configuration says: which plugins, in which order, with what. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

/// A version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u8, u8, u8);

impl Version {
    /// From here on a DEL is told what the ADD gave, and there is CHECK.
    pub const WITH_CHECK: Self = Self(0, 4, 0);
    /// From here on addresses do not say their family.
    pub const WITHOUT_FAMILY: Self = Self(1, 0, 0);
    /// From here on there are STATUS and GC.
    pub const WITH_STATUS: Self = Self(1, 1, 0);
    /// From here on a result is a list of addresses.
    pub const WITH_LIST: Self = Self(0, 3, 0);
    /// Those that plugins may be called with.
    pub const KNOWN: [Self; 7] = [
        Self(0, 1, 0),
        Self(0, 2, 0),
        Self(0, 3, 0),
        Self(0, 3, 1),
        Self(0, 4, 0),
        Self(1, 0, 0),
        Self(1, 1, 0),
    ];

    /// Reads a version; none at all is the first.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let unknown = || ListError(format!("CNI version {text:?} is not supported"));
        if text.is_empty() {
            return Ok(Self(0, 1, 0));
        }
        Self::KNOWN.into_iter().find(|known| known.to_string() == text).ok_or_else(unknown)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ListError(String);

impl ListError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// The name of its program.
    pub kind: String,
    /// What it wants to be told at run time.
    pub capabilities: BTreeSet<String>,
    /// All of its configuration.
    pub config: Map<String, Value>,
}

/// A network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// Its name.
    pub name: String,
    /// With which version its plugins are called.
    pub version: Version,
    /// Nobody is to look whether pods are still connected.
    pub disable_check: bool,
    /// Nobody is to clear up after pods that are gone.
    pub disable_gc: bool,
    /// Further plugins are not in a folder beside the file.
    pub only_inlined: bool,
    /// Its plugins, in the order of ADD.
    pub plugins: Vec<Plugin>,
}

impl NetworkList {
    /// Reads a `.conflist`. It may be without plugins yet, where they are in a folder beside it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ListError> {
        let raw = object(bytes)?;
        let only_inlined = truth(&raw, "loadOnlyInlinedPlugins")?;
        let plugins = match raw.get("plugins") {
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                return Err(ListError::new("no plugins in list"));
            }
            Some(Value::Array(plugins)) => plugins
                .iter()
                .enumerate()
                .map(|(index, plugin)| {
                    Plugin::from_value(plugin).map_err(|why| ListError(format!("plugin {index}: {why}")))
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(ListError::new("\"plugins\" is no list")),
            None if only_inlined => {
                return Err(ListError::new(
                    "\"loadOnlyInlinedPlugins\" is true, and there is no \"plugins\"",
                ));
            }
            None => Vec::new(),
        };
        Ok(Self {
            name: network_name(&raw)?,
            version: best_version(&raw)?,
            disable_check: truth(&raw, "disableCheck")?,
            disable_gc: truth(&raw, "disableGC")?,
            only_inlined,
            plugins,
        })
    }

    /// Reads a `.conf` or `.json`, which is one plugin.
    pub fn parse_single(bytes: &[u8]) -> Result<Self, ListError> {
        let raw = object(bytes)?;
        let plugin = Plugin::from_value(&Value::Object(raw.clone()))?;
        Ok(Self {
            name: network_name(&raw)?,
            version: best_version(&raw)?,
            disable_check: false,
            disable_gc: false,
            only_inlined: true,
            plugins: vec![plugin],
        })
    }

    /// All of it in one piece, as [`Self::parse`] reads it.
    pub fn to_value(&self) -> Value {
        let plugins: Vec<_> =
            self.plugins.iter().map(|plugin| Value::Object(plugin.config.clone())).collect();
        json!({
            "cniVersion": self.version.to_string(), "name": self.name, "disableCheck": self.disable_check,
            "disableGC": self.disable_gc, "loadOnlyInlinedPlugins": true, "plugins": plugins,
        })
    }

    /// What a plugin reads from its standard input.
    pub fn input(&self, plugin: &Plugin, extra: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        let mut config = plugin.config.clone();
        config.insert("name".into(), self.name.clone().into());
        config.insert("cniVersion".into(), self.version.to_string().into());
        for (key, value) in extra {
            config.insert(key.to_owned(), value);
        }
        Value::Object(config)
    }
}

impl Plugin {
    /// Reads one plugin's configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ListError> {
        object(bytes).and_then(|raw| Self::from_value(&Value::Object(raw)))
    }

    fn from_value(value: &Value) -> Result<Self, ListError> {
        let config = value.as_object().ok_or_else(|| ListError::new("it is no object"))?;
        let kind = config.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind.is_empty() {
            return Err(ListError::new("missing \"type\""));
        }
        let wants = config.get("capabilities").and_then(Value::as_object);
        let wanted = wants.into_iter().flatten().filter(|(_, on)| on.as_bool() == Some(true));
        Ok(Self {
            kind: kind.to_owned(),
            capabilities: wanted.map(|(name, _)| name.clone()).collect(),
            config: config.clone(),
        })
    }

    /// How messages call it.
    pub fn described(&self) -> String {
        match self.config.get("name").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => format!("type={:?} name={name:?}", self.kind),
            _ => format!("type={:?}", self.kind),
        }
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ListError> {
    serde_json::from_slice(bytes).map_err(|error| ListError(error.to_string()))
}

fn network_name(raw: &Map<String, Value>) -> Result<String, ListError> {
    let name = raw.get("name").and_then(Value::as_str).unwrap_or_default();
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match name.chars().next() {
        None => Err(ListError::new("no name")),
        Some(first) if first.is_ascii_alphanumeric() && name.chars().all(inner) => Ok(name.to_owned()),
        Some(_) => Err(ListError(format!("invalid characters found in network name {name:?}"))),
    }
}

/// The newest version among `cniVersion` and `cniVersions` that is known here.
fn best_version(raw: &Map<String, Value>) -> Result<Version, ListError> {
    let single = raw.get("cniVersion").map(|version| version.as_str().unwrap_or("?"));
    let Some(Value::Array(several)) = raw.get("cniVersions") else {
        return Version::parse(single.unwrap_or_default());
    };
    let several = several.iter().filter_map(Value::as_str).chain(single);
    let known = several.filter_map(|version| Version::parse(version).ok()).max();
    known.ok_or_else(|| ListError::new("none of its \"cniVersions\" is supported"))
}

/// A boolean, which people also write as text.
fn truth(raw: &Map<String, Value>, key: &str) -> Result<bool, ListError> {
    match raw.get(key) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(ListError(format!("invalid value {other} for {key}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<NetworkList, String> {
        NetworkList::parse(value.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_survives_being_written_down() {
        let list = parse(json!({"cniVersion": "1.0.0", "name": "n", "disableCheck": "TRUE",
            "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}},
                        {"type": "portmap", "capabilities": {"portMappings": true, "dns": false}}]}))
        .unwrap();
        assert!(list.disable_check && !list.disable_gc);
        assert_eq!(list.plugins[1].capabilities, BTreeSet::from(["portMappings".to_owned()]));
        let again = NetworkList::parse(list.to_value().to_string().as_bytes()).unwrap();
        assert_eq!(again, NetworkList { only_inlined: true, ..list });
    }

    #[test]
    fn the_newest_known_version_is_used() {
        let version = |value: Value| parse(value).map(|list| list.version.to_string());
        let plugins = json!([{"type": "x"}]);
        assert_eq!(version(json!({"name": "n", "plugins": plugins})).unwrap(), "0.1.0");
        let several = json!({"name": "n", "cniVersion": "0.4.0", "cniVersions": ["1.0.0", "9.0.0", "1.1.0"],
            "plugins": plugins});
        assert_eq!(version(several).unwrap(), "1.1.0");
        let error = version(json!({"name": "n", "cniVersion": "2.0.0", "plugins": plugins})).unwrap_err();
        assert_eq!(error, "CNI version \"2.0.0\" is not supported");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            (json!({"plugins": [{"type": "x"}]}), "no name"),
            (
                json!({"name": "a/b", "plugins": [{"type": "x"}]}),
                "invalid characters found in network name \"a/b\"",
            ),
            (json!({"name": "n", "plugins": []}), "no plugins in list"),
            (json!({"name": "n", "plugins": [{"kind": "x"}]}), "plugin 0: missing \"type\""),
            (
                json!({"name": "n", "disableGC": "perhaps", "plugins": [{"type": "x"}]}),
                "invalid value \"perhaps\" for disableGC",
            ),
            (
                json!({"name": "n", "loadOnlyInlinedPlugins": true}),
                "\"loadOnlyInlinedPlugins\" is true, and there is no \"plugins\"",
            ),
        ];
        for (value, message) in table {
            assert_eq!(parse(value).unwrap_err(), message);
        }
        // A list in a file for one plugin.
        let error = NetworkList::parse_single(br#"{"name":"n","plugins":[]}"#).unwrap_err();
        assert_eq!(error.to_string(), "missing \"type\"");
    }
}
