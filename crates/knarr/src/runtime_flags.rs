//! Where a runtime's images come from, and which programs run pods of a RuntimeClass: of `knarr runtime`, and of the
//! runtimes of this machine's nodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cluster::write_whole;

/// Beside a node's files.
const FILE: &str = "runtime.json";

/// Flags of a runtime, as each of its command lines has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeFlags {
    /// A folder of HOST/hosts.toml files, as containerd's certs.d, which say who is asked for a registry's images
    #[arg(long, value_name = "DIR")]
    registry_config_dir: Option<PathBuf>,
    /// A registry, by host and port, that speaks plain HTTP; may be given several times
    #[arg(long, value_name = "HOST")]
    plain_http_registry: Vec<String>,
    /// An OCI program, as runc or crun, for the pods of a RuntimeClass; may be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = handler)]
    runtime_handler: Vec<(String, PathBuf)>,
}

fn handler(text: &str) -> Result<(String, PathBuf)> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.to_owned(), path.into())),
        _ => bail!("{text:?} is not NAME=/path/to/program"),
    }
}

impl RuntimeFlags {
    /// Tells the runtime.
    pub fn settle(&self, config: &mut runtime::Config) {
        config.handlers = self.runtime_handler.iter().cloned().collect();
        config.registries.config_dir.clone_from(&self.registry_config_dir);
        config.registries.plain_http.clone_from(&self.plain_http_registry);
    }

    /// The same, wherever the process is that reads the folder.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn absolute(&self) -> Result<Self> {
        let absolute =
            |dir: &PathBuf| std::path::absolute(dir).with_context(|| format!("finding {}", dir.display()));
        let registry_config_dir = self.registry_config_dir.as_ref().map(absolute).transpose()?;
        Ok(Self { registry_config_dir, ..self.clone() })
    }

    /// The same flags again, for a process that is started.
    pub fn arguments(&self) -> Vec<String> {
        let dir =
            self.registry_config_dir.iter().map(|dir| format!("--registry-config-dir={}", dir.display()));
        let hosts = self.plain_http_registry.iter().map(|host| format!("--plain-http-registry={host}"));
        let handlers = self.runtime_handler.iter();
        let handlers = handlers.map(|(name, path)| format!("--runtime-handler={name}={}", path.display()));
        dir.chain(hosts).chain(handlers).collect()
    }

    /// Keeps the flags with the node: whoever removes its pods when it is gone needs their programs.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn remember(&self, node: &Path) -> Result<()> {
        write_whole(&node.join(FILE), &serde_json::to_vec(self)?)
    }

    /// The flags that the node had last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn remembered(node: &Path) -> Result<Self> {
        let path = node.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: RuntimeFlags,
    }

    fn parse(line: &[&str]) -> Result<RuntimeFlags, clap::Error> {
        Line::try_parse_from(["x"].iter().chain(line)).map(|line| line.flags)
    }

    #[test]
    fn a_process_that_is_started_gets_the_same_flags() {
        let flags = parse(&[
            "--registry-config-dir=/etc/certs.d",
            "--plain-http-registry=a:5000",
            "--plain-http-registry=b",
            "--runtime-handler=runc=/usr/sbin/runc",
            "--runtime-handler=odd=/opt/a=b",
        ])
        .unwrap();
        let arguments = flags.arguments();
        assert_eq!(parse(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap(), flags);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RuntimeFlags::remembered(dir.path()).unwrap(), RuntimeFlags::default());
        flags.remember(dir.path()).unwrap();
        assert_eq!(RuntimeFlags::remembered(dir.path()).unwrap(), flags);
        let mut config = runtime::Config::new("/root", "/run");
        flags.settle(&mut config);
        assert_eq!(config.registries.config_dir.as_deref(), Some(Path::new("/etc/certs.d")));
        assert_eq!(config.registries.plain_http, ["a:5000", "b"]);
        assert_eq!(config.handlers["odd"], Path::new("/opt/a=b"));
        assert_eq!(parse(&[]).unwrap(), RuntimeFlags::default());
        assert!(parse(&["--runtime-handler=runc"]).is_err() && parse(&["--runtime-handler=a=b"]).is_err());
    }
}
