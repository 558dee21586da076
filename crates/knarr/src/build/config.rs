//! The configuration of an image that is being made. Pure.

use serde_json::{Map, Value, json};

use super::fault::Fault;

/// An OCI image configuration, whole, as the base has it and instructions change it.
#[derive(Debug, Clone)]
pub struct Config {
    image: Map<String, Value>,
    /// What instructions change.
    config: Map<String, Value>,
    history: Vec<Value>,
    diffs: Vec<Value>,
    created: String,
}

fn taken<T: serde::de::DeserializeOwned + Default>(
    map: &mut Map<String, Value>,
    key: &str,
) -> Result<T, Fault> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_json::from_value(value)
            .map_err(|error| Fault::Syntax(format!("the base's configuration has a strange {key}: {error}"))),
    }
}

/// What this machine is in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Config {
    /// From the base's configuration; `None` for scratch. `created` is a time in RFC 3339.
    pub fn new(base: Option<Value>, created: String) -> Result<Self, Fault> {
        let Value::Object(mut image) =
            base.unwrap_or_else(|| json!({"architecture": architecture(), "os": "linux"}))
        else {
            return Err(Fault::syntax("the base's configuration is not an object"));
        };
        let config = taken(&mut image, "config")?;
        let history = taken(&mut image, "history")?;
        let mut root: Map<String, Value> = taken(&mut image, "rootfs")?;
        let diffs = taken(&mut root, "diff_ids")?;
        let this = Self { image, config, history, diffs, created };
        if this.config.get("OnBuild").and_then(Value::as_array).is_some_and(|steps| !steps.is_empty()) {
            let instead = "begin from another image, and write those instructions into this file";
            return Err(Fault::Unsupported { what: "a base with ONBUILD instructions".into(), instead });
        }
        Ok(this)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.diffs.len()
    }

    /// A setting.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key)
    }

    /// Changes a setting.
    pub fn set(&mut self, key: &str, value: Value) {
        self.config.insert(key.to_owned(), value);
    }

    /// Takes a setting away.
    pub fn remove(&mut self, key: &str) {
        self.config.remove(key);
    }

    /// Adds to a setting that is a set or a map.
    pub fn insert(&mut self, key: &str, name: String, value: Value) {
        match self.config.get_mut(key) {
            Some(Value::Object(map)) => {
                map.insert(name, value);
            }
            _ => self.set(key, json!({name: value})),
        }
    }

    /// Who made it.
    pub fn set_author(&mut self, author: String) {
        self.image.insert("author".into(), author.into());
    }

    /// Where relative paths begin.
    pub fn folder(&self) -> &str {
        self.get("WorkingDir").and_then(Value::as_str).filter(|folder| !folder.is_empty()).unwrap_or("/")
    }

    fn environment(&self) -> impl Iterator<Item = &str> {
        self.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// An environment variable.
    pub fn variable(&self, name: &str) -> Option<String> {
        let mut pairs = self.environment().filter_map(|pair| pair.split_once('='));
        pairs.find(|(have, _)| *have == name).map(|(_, value)| value.to_owned())
    }

    /// Sets an environment variable, at its old place if it has one.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        let mut all: Vec<String> = self.environment().map(str::to_owned).collect();
        match all.iter_mut().find(|have| have.split_once('=').is_some_and(|(have, _)| have == name)) {
            Some(old) => *old = pair,
            None => all.push(pair),
        }
        self.set("Env", all.into());
    }

    /// A command in shell form, as it is run.
    pub fn in_shell(&self, command: &str) -> Vec<String> {
        let shell = self.get("Shell").and_then(Value::as_array);
        let shell = shell.map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let mut words: Vec<String> = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        words.push(command.to_owned());
        words
    }

    /// Writes down an instruction, with the digest of its layer if it made one.
    pub fn record(&mut self, instruction: &str, layer: Option<&str>) {
        let (created, created_by) = (&self.created, instruction);
        let entry = match layer {
            Some(_) => json!({"created": created, "created_by": created_by}),
            None => json!({"created": created, "created_by": created_by, "empty_layer": true}),
        };
        self.diffs.extend(layer.map(Value::from));
        self.history.push(entry);
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        self.image.insert("created".into(), self.created.into());
        self.image.insert("config".into(), self.config.into());
        self.image.insert("rootfs".into(), json!({"type": "layers", "diff_ids": self.diffs}));
        self.image.insert("history".into(), self.history.into());
        Value::Object(self.image).to_string().into_bytes()
    }
}
