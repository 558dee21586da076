//! The environment of containers, and the expansion of `$(NAME)`. Pure: what is referred to was fetched before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Secret};
use serde::Deserialize;

use super::env_file;
use super::fields::{FieldError, Surroundings};

/// What of a Service stands in environments.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    pub metadata: ServiceMeta,
    pub spec: ServiceSpec,
}

/// Its name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceMeta {
    pub name: String,
    pub namespace: String,
}

/// Its address.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub ports: Vec<ServicePort>,
}

/// One of its ports.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    pub name: String,
    pub port: i32,
    pub protocol: String,
}

/// The objects that a container's environment refers to; `None` when there is none of that name.
#[derive(Default)]
pub struct Sources {
    pub config_maps: HashMap<String, Option<Arc<ConfigMap>>>,
    pub secrets: HashMap<String, Option<Arc<Secret>>>,
    /// The text of environment files by volume and path; `None` for one that is not there.
    pub files: HashMap<(String, String), Option<String>>,
}

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvError {
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {object}")]
    Key { key: String, kind: &'static str, object: String },
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("couldn't parse env file: {0}")]
    File(#[from] env_file::EnvFileError),
    #[error("couldn't parse env file: {0:?} does not exist")]
    NoFile(String),
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoKey { key: String, path: String },
    #[error("environment variable {0} has an unsupported source")]
    Source(String),
}

/// The names of the config maps and secrets that a container's environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.iter().map(|source| source.name.clone()));
        secrets.extend(from.secret_key_ref.iter().map(|source| source.name.clone()));
    }
    (maps, secrets)
}

/// The variables of the services that a pod may know, in the form of Docker links.
pub fn services(services: &[Arc<ServiceView>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let is_master = |s: &ServiceView| s.metadata.namespace == "default" && s.metadata.name == "kubernetes";
    let wanted = services.iter().filter(|s| is_master(s) || (links && s.metadata.namespace == namespace));
    // A service of the pod's own namespace goes before the master of the same name.
    let mut sorted: Vec<_> = wanted.collect();
    sorted.sort_by_key(|service| service.metadata.namespace == namespace);
    for service in sorted {
        let ip = &service.spec.cluster_ip;
        let Some(first) = service.spec.ports.first().filter(|_| !ip.is_empty() && ip != "None") else {
            continue;
        };
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        let prefix = upper(&service.metadata.name);
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        env.insert(format!("{prefix}_SERVICE_HOST"), ip.clone());
        env.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        let scheme = |port: &ServicePort| {
            if port.protocol.is_empty() { "tcp".to_owned() } else { port.protocol.to_lowercase() }
        };
        env.insert(format!("{prefix}_PORT"), format!("{}://{host}:{}", scheme(first), first.port));
        for port in &service.spec.ports {
            if !port.name.is_empty() {
                env.insert(format!("{prefix}_SERVICE_PORT_{}", upper(&port.name)), port.port.to_string());
            }
            let proto = scheme(port);
            let link = format!("{prefix}_PORT_{}_{}", port.port, proto.to_uppercase());
            env.insert(link.clone(), format!("{proto}://{host}:{}", port.port));
            env.insert(format!("{link}_PROTO"), proto);
            env.insert(format!("{link}_PORT"), port.port.to_string());
            env.insert(format!("{link}_ADDR"), ip.clone());
        }
    }
    env
}

/// The variables of a container, in order.
pub fn build(
    container: &Container,
    surroundings: &Surroundings<'_>,
    sources: &Sources,
    services: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            let map =
                present("configmap", &source.name, source.optional, sources.config_maps.get(&source.name))?;
            for (key, value) in map.iter().flat_map(|map| map.data.iter().flatten()) {
                env.set(format!("{prefix}{key}"), value.clone());
            }
        }
        if let Some(source) = &from.secret_ref {
            let secret = present("secret", &source.name, source.optional, sources.secrets.get(&source.name))?;
            for (key, value) in secret.iter().flat_map(|secret| secret.data.iter().flatten()) {
                env.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                Some(expand(value, |name| env.get(name).or_else(|| services.get(name).cloned())))
            }
            (_, Some(from)) => referred(&variable.name, from, container, surroundings, sources)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if env.get(name).is_none() {
            env.set(name.clone(), value.clone());
        }
    }
    Ok(env.list)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }
}

fn present<'s, T>(
    kind: &'static str,
    name: &str,
    optional: Option<bool>,
    found: Option<&'s Option<Arc<T>>>,
) -> Result<Option<&'s Arc<T>>, EnvError> {
    match found {
        Some(Some(object)) => Ok(Some(object)),
        _ if optional == Some(true) => Ok(None),
        _ => Err(EnvError::Missing { kind, name: name.to_owned() }),
    }
}

fn referred(
    name: &str,
    from: &EnvVarSource,
    container: &Container,
    surroundings: &Surroundings<'_>,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &from.field_ref {
        return Ok(Some(surroundings.field(&field.field_path)?));
    }
    if let Some(resource) = &from.resource_field_ref {
        return Ok(Some(surroundings.resource(Some(container), resource)?));
    }
    let namespaced = |object: &str| {
        format!("{}/{object}", surroundings.pod.metadata.namespace.as_deref().unwrap_or_default())
    };
    if let Some(source) = &from.config_map_key_ref {
        let map = present("configmap", &source.name, source.optional, sources.config_maps.get(&source.name))?;
        let value = map.and_then(|map| map.data.as_ref()?.get(&source.key).cloned());
        let missing =
            || EnvError::Key { key: source.key.clone(), kind: "ConfigMap", object: namespaced(&source.name) };
        return if value.is_none() && source.optional != Some(true) { Err(missing()) } else { Ok(value) };
    }
    if let Some(source) = &from.secret_key_ref {
        let secret = present("secret", &source.name, source.optional, sources.secrets.get(&source.name))?;
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&source.key));
        let value = value.map(|value| String::from_utf8_lossy(&value.0).into_owned());
        let missing =
            || EnvError::Key { key: source.key.clone(), kind: "Secret", object: namespaced(&source.name) };
        return if value.is_none() && source.optional != Some(true) { Err(missing()) } else { Ok(value) };
    }
    if let Some(source) = &from.file_key_ref {
        let file = (source.volume_name.clone(), source.path.clone());
        let text = sources.files.get(&file).and_then(Option::as_deref);
        let optional = source.optional == Some(true);
        let value = match text {
            Some(text) => env_file::lookup(text, &source.key)?,
            None if optional => return Ok(None),
            None => return Err(EnvError::NoFile(source.path.clone())),
        };
        return match value.is_empty() {
            true if optional => Ok(None),
            true => Err(EnvError::NoKey { key: source.key.clone(), path: source.path.clone() }),
            false => Ok(Some(value)),
        };
    }
    Err(EnvError::Source(name.to_owned()))
}

/// Replaces `$(NAME)` where `NAME` is known; `$$` is a dollar sign.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after_name)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after_name;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}
