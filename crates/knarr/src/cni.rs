//! The flags about CNI plugins, which every way to run a container runtime has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use runtime::CniSettings;
use serde::{Deserialize, Serialize};

use crate::cluster::write_whole;

/// Where container runtimes look for configurations.
pub const CONF_DIR: &str = "/etc/cni/net.d";
/// Where they look for plugins.
const BIN_DIR: &str = "/opt/cni/bin";
/// Longer than plugins take, shorter than a kubelet waits.
const TIMEOUT: &str = "60s";

/// Who connects pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNetworkKind {
    /// CNI plugins while there is a configuration, the built-in network while there is none
    #[default]
    Auto,
    /// CNI plugins: until there is a configuration, the node is not ready
    Cni,
    /// The built-in network, whatever configurations there are
    Builtin,
}

/// Who connects pods, and where CNI's files are.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cni {
    /// Who connects pods
    #[arg(long, value_enum, default_value = "auto")]
    pod_network: PodNetworkKind,
    /// Where CNI configurations are, of which the first by name counts
    #[arg(long, alias = "cni-config-dir", value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are; may be given several times [default: /opt/cni/bin]
    #[arg(long, alias = "cni-plugin-dir", value_name = "DIR", value_delimiter = ',')]
    cni_bin_dir: Vec<PathBuf>,
    /// How long a CNI plugin may take
    #[arg(long, value_name = "DURATION", default_value = TIMEOUT, value_parser = crate::component::go_duration)]
    cni_timeout: Duration,
}

impl Cni {
    /// What the runtime is told. Without a folder of its own it uses `conf_dir`, if it is to look at any.
    pub fn settings(&self, conf_dir: Option<&Path>, cache_dir: PathBuf) -> Option<CniSettings> {
        let required = self.pod_network == PodNetworkKind::Cni;
        let fallback = conf_dir.or(required.then_some(Path::new(CONF_DIR))).map(Path::to_owned);
        let conf_dir = self.cni_conf_dir.clone().or(fallback)?;
        let bin_dirs = match self.cni_bin_dir.as_slice() {
            [] => vec![PathBuf::from(BIN_DIR)],
            dirs => dirs.to_vec(),
        };
        (self.pod_network != PodNetworkKind::Builtin).then_some(CniSettings {
            conf_dir,
            bin_dirs,
            cache_dir,
            required,
            timeout: self.cni_timeout,
        })
    }

    /// Whether nodes wait for plugins that somebody installs once there is a cluster.
    pub fn waits_for_plugins(&self) -> bool {
        self.pod_network == PodNetworkKind::Cni
    }

    /// The same flags again, for a process that is started.
    pub fn arguments(&self) -> Vec<String> {
        let kind = self.pod_network.to_possible_value();
        let mut all = vec![format!("--pod-network={}", kind.as_ref().map_or("auto", |kind| kind.get_name()))];
        all.extend(self.cni_conf_dir.iter().map(|dir| format!("--cni-conf-dir={}", dir.display())));
        all.extend(self.cni_bin_dir.iter().map(|dir| format!("--cni-bin-dir={}", dir.display())));
        all.push(format!("--cni-timeout={}ms", self.cni_timeout.as_millis()));
        all
    }

    /// Keeps the flags with the node: whoever removes its pods when it is gone needs its plugins.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn remember(&self, node: &Path) -> Result<()> {
        write_whole(&node.join("cni.json"), &serde_json::to_vec(self)?)
    }

    /// The flags that the node had last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn remembered(node: &Path) -> Result<Self> {
        let path = node.join("cni.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The same with a folder of configurations, where it has none.
    pub fn or_conf_dir(mut self, dir: &Path) -> Self {
        self.cni_conf_dir.get_or_insert_with(|| dir.to_owned());
        self
    }
}

impl Default for Cni {
    fn default() -> Self {
        let cni_timeout = crate::component::go_duration(TIMEOUT).unwrap_or(Duration::from_secs(60));
        Self { pod_network: PodNetworkKind::Auto, cni_conf_dir: None, cni_bin_dir: Vec::new(), cni_timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        cni: Cni,
    }

    fn parse(line: &[&str]) -> Cni {
        Line::try_parse_from(["x"].iter().chain(line)).unwrap().cni
    }

    #[test]
    fn a_process_that_is_started_gets_the_same_flags() {
        let cni = parse(&["--cni-config-dir=/a", "--cni-plugin-dir", "/b,/c", "--cni-timeout=1m30s"]);
        let arguments = cni.arguments();
        assert_eq!(parse(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), cni);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cni::remembered(dir.path()).unwrap(), Cni::default());
        cni.remember(dir.path()).unwrap();
        assert_eq!(Cni::remembered(dir.path()).unwrap(), cni);
        let settings = cni.settings(None, "/cache".into()).unwrap();
        assert_eq!(settings.bin_dirs, [Path::new("/b"), Path::new("/c")]);
        assert_eq!(settings.timeout, Duration::from_secs(90));
        assert_eq!(parse(&[]), Cni::default());
    }

    #[test]
    fn folders_are_looked_at_where_they_are_wanted() {
        let of = |line: &[&str], dir: Option<&str>| {
            let settings = parse(line).settings(dir.map(Path::new), "/cache".into());
            settings.map(|settings| (settings.conf_dir.display().to_string(), settings.required))
        };
        // A cluster on a developer's machine must not take up what belongs to the machine's own runtime.
        assert_eq!(of(&[], None), None);
        assert_eq!(of(&[], Some("/etc/x")), Some(("/etc/x".into(), false)));
        assert_eq!(of(&["--pod-network=cni"], None), Some((CONF_DIR.into(), true)));
        assert_eq!(of(&["--pod-network=builtin"], Some("/etc/x")), None);
        assert_eq!(of(&["--cni-conf-dir=/own"], Some("/etc/x")), Some(("/own".into(), false)));
    }
}
