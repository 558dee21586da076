//! The built-in network as a CNI plugin, <https://www.cni.dev/docs/spec/> up to 1.1.0, for other container runtimes.
//!
//! Each call is a process of its own: what pods have is in files (see [`crate::leases`] and [`crate::ports`]), and a
//! process that is killed at any point leaves nothing that the DEL of the same pod does not find.

mod config;
mod loopback;
mod result;

use std::path::PathBuf;
use std::{fs, io};

use serde_json::{Value, json};

use crate::error::{Doing, NetError};
use crate::pod::{PodLinks, Wish, link_name};
use config::Config;

/// What a runtime says in the environment.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

/// What goes wrong, with the specification's codes.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Of the specification, not one that is known here.
    #[error("incompatible CNI versions; config is {0:?}, plugin supports {known:?}", known = config::VERSIONS)]
    Version(String),
    /// The environment lacks something.
    #[error("required env variables [{0}] missing")]
    Environment(String),
    /// The configuration is no JSON.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// The plugin is not able to connect pods.
    #[error("{0}")]
    NotReady(String),
    /// The kernel refused, or the pod is not as it should be.
    #[error(transparent)]
    Network(#[from] NetError),
}

impl PluginError {
    fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment(_) => 4,
            Self::Unreadable(_) => 6,
            Self::Config(_) => 7,
            Self::NotReady(_) => 50,
            Self::Network(_) => 100,
        }
    }

    /// As it is to stand on the standard output.
    pub fn to_value(&self) -> Value {
        json!({"cniVersion": config::NEWEST, "code": self.code(), "msg": self.to_string()})
    }
}

type Result<T> = std::result::Result<T, PluginError>;

/// Carries a call out. What it gives is to stand on the standard output.
///
/// # Errors
/// What is to stand there instead, in a process that fails.
pub async fn run(call: &Call, stdin: &[u8]) -> Result<Option<Value>> {
    if call.command == "VERSION" {
        return Ok(Some(json!({"cniVersion": config::NEWEST, "supportedVersions": config::VERSIONS})));
    }
    let config = Config::parse(stdin)?;
    if config.kind == "loopback" {
        return loopback::run(call, &config.version).await;
    }
    let links = PodLinks::new(config.data_dir())?;
    match call.command.as_str() {
        "ADD" => add(call, &config, &links).await.map(Some),
        "DEL" => {
            links.teardown(&call.owner()?).await?;
            Ok(None)
        }
        "CHECK" => {
            let wish = call.wish(&config)?;
            links.check(&wish).await?;
            Ok(None)
        }
        "STATUS" => match networks(&config) {
            Ok(_) => Ok(None),
            Err(error) => Err(PluginError::NotReady(error.to_string())),
        },
        "GC" => {
            let valid = config.valid_attachments()?;
            let owners = valid.iter().map(|(container, interface)| owner(container, interface));
            links.keep(&owners.collect::<Vec<_>>()).await?;
            Ok(None)
        }
        other => Err(PluginError::Environment(format!("CNI_COMMAND {other:?} is not known"))),
    }
}

async fn add(call: &Call, config: &Config, links: &PodLinks) -> Result<Value> {
    let wish = call.wish(config)?;
    links.set_cidr(&networks(config)?)?;
    match links.setup(&wish).await {
        Ok(ips) => Ok(result::added(&config.version, &link_name(&wish.owner), call, &ips)),
        Err(error) => {
            // A runtime may forget to undo what failed.
            if let Err(left) = links.teardown(&wish.owner).await {
                tracing::warn!(error = %left, "undoing what failed");
            }
            Err(error.into())
        }
    }
}

/// The node's networks, with what the agent may have written.
fn networks(config: &Config) -> Result<String> {
    let in_file = match config.pod_cidr_file.as_ref().map(|path| (path, fs::read_to_string(path))) {
        None => String::new(),
        Some((_, Ok(text))) => text,
        Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Some((path, read)) => read.doing(|| format!("reading {}", path.display()))?,
    };
    config.networks(&in_file)
}

/// One pod may be connected more than once.
fn owner(container: &str, interface: &str) -> String {
    if interface == "eth0" { container.to_owned() } else { format!("{container}.{interface}") }
}

impl Call {
    fn owner(&self) -> Result<String> {
        let missing: Vec<&str> = [("CNI_CONTAINERID", &self.container), ("CNI_IFNAME", &self.interface)]
            .into_iter()
            .filter(|(_, value)| value.is_empty())
            .map(|(name, _)| name)
            .collect();
        if !missing.is_empty() {
            return Err(PluginError::Environment(missing.join(",")));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !self.container.chars().all(plain) || !self.interface.chars().all(plain) {
            return Err(PluginError::Environment(
                "CNI_CONTAINERID or CNI_IFNAME with strange letters".into(),
            ));
        }
        Ok(owner(&self.container, &self.interface))
    }

    fn wish(&self, config: &Config) -> Result<Wish> {
        if self.netns.is_empty() {
            return Err(PluginError::Environment("CNI_NETNS".into()));
        }
        Ok(Wish {
            netns: PathBuf::from(&self.netns),
            owner: self.owner()?,
            interface: self.interface.clone(),
            ports: config.ports()?,
            limits: config.limits(),
        })
    }
}

#[cfg(test)]
mod tests;
