//! A KubeletConfiguration for the nodes of this machine (`--kubelet-config`), over what they have by themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use kubelet::{Configuration, CredentialProviders};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::feature_gates::FeatureGates;

/// Fields that a node of a cluster has from the cluster.
const FIXED: [&str; 11] = [
    "address",
    "port",
    "clusterDNS",
    "clusterDomain",
    "containerRuntimeEndpoint",
    "cgroupRoot",
    "staticPodPath",
    "podLogsDir",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "registerNode",
];

/// Where it is.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubeletFiles {
    /// A KubeletConfiguration for this machine's nodes, read whenever one starts
    #[arg(long = "kubelet-config", value_name = "FILE")]
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Further ones: its *.conf files, in the order of their names, win over --kubelet-config
    #[arg(long = "kubelet-config-dir", value_name = "DIR")]
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Which programs know the nodes' credentials at registries: a CredentialProviderConfig, or a folder of them
    #[arg(long = "image-credential-provider-config", value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<PathBuf>,
    /// Where these programs are
    #[arg(long = "image-credential-provider-bin-dir", value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
}

/// The programs that know credentials at registries.
///
/// # Errors
/// What is wrong with them.
pub fn providers(config: Option<&Path>, programs: Option<&Path>) -> Result<CredentialProviders> {
    match (config, programs) {
        (Some(config), Some(programs)) => {
            CredentialProviders::load(config, programs).context("failed to register CRI auth plugins")
        }
        (None, None) => Ok(CredentialProviders::default()),
        _ => bail!(
            "--image-credential-provider-config and --image-credential-provider-bin-dir belong together: give both or none"
        ),
    }
}

impl KubeletFiles {
    /// The same, wherever the process is that reads them.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn absolute(&self) -> Result<Self> {
        let absolute = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::path::absolute(path).with_context(|| format!("finding {}", path.display())))
                .transpose()
        };
        Ok(Self {
            file: absolute(&self.file)?,
            folder: absolute(&self.folder)?,
            providers: absolute(&self.providers)?,
            programs: absolute(&self.programs)?,
        })
    }

    /// See [`providers`].
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn providers(&self) -> Result<CredentialProviders> {
        providers(self.providers.as_deref(), self.programs.as_deref())
    }

    /// Reads them. What the cluster says stands in `fixed`, and wins; `max_pods` is for where they do not say it.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(
        &self,
        max_pods: u32,
        features: &FeatureGates,
        fixed: Map<String, Value>,
    ) -> Result<Configuration> {
        let (file, folder) = (self.file.as_deref(), self.folder.as_deref());
        let own = own(max_pods, features)?;
        let (configuration, warnings) = Configuration::load_over(own, file, folder, fixed)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        for name in FIXED.iter().filter(|name| configuration.named.contains(**name)) {
            tracing::warn!("{name} is set by the cluster: what a KubeletConfiguration says of it is ignored");
        }
        Ok(configuration)
    }
}

/// What a node of a cluster has other than upstream's defaults: pods do not wait for each other's images, and the disk,
/// which is the machine's, is its owner's to watch.
fn own(max_pods: u32, features: &FeatureGates) -> Result<Map<String, Value>> {
    let mut own = Map::from_iter([
        ("maxPods".to_owned(), json!(max_pods)),
        ("serializeImagePulls".to_owned(), json!(false)),
        ("evictionHard".to_owned(), json!({"memory.available": "100Mi"})),
        ("imageGCHighThresholdPercent".to_owned(), json!(100)),
    ]);
    if !features.is_empty() {
        own.insert("featureGates".to_owned(), json!(features.said()?));
    }
    Ok(own)
}

/// What a node has from its cluster, as `/configz` shows it.
pub fn fixed(config: &Fixed<'_>) -> Map<String, Value> {
    let path = |path: &Path| json!(path.display().to_string());
    Map::from_iter([
        ("address".to_owned(), json!(config.address.to_string())),
        ("port".to_owned(), json!(config.port)),
        ("clusterDNS".to_owned(), json!([config.dns.to_string()])),
        ("clusterDomain".to_owned(), json!(config.domain)),
        ("containerRuntimeEndpoint".to_owned(), json!(config.runtime)),
        ("cgroupRoot".to_owned(), json!(config.cgroup)),
        ("staticPodPath".to_owned(), path(config.manifests)),
        ("podLogsDir".to_owned(), path(config.logs)),
        ("registerNode".to_owned(), json!(true)),
    ])
}

/// See [`fixed`].
pub struct Fixed<'a> {
    /// Where the kubelet listens.
    pub address: std::net::IpAddr,
    /// Its port.
    pub port: u16,
    /// The cluster's DNS.
    pub dns: std::net::IpAddr,
    /// Its domain.
    pub domain: &'a str,
    /// The container runtime.
    pub runtime: &'a str,
    /// The node's cgroup.
    pub cgroup: &'a str,
    /// Where manifests of static pods are.
    pub manifests: &'a Path,
    /// Where containers' logs are.
    pub logs: &'a Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&str>, drop_in: Option<&str>) -> Result<Configuration> {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: Option<&str>| {
            let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
            text.map(|text| std::fs::write(dir.path().join(name), format!("{head}{text}")).unwrap())
        };
        let files = KubeletFiles {
            file: write("kubelet.yaml", file).map(|()| dir.path().join("kubelet.yaml")),
            folder: write("10.conf", drop_in).map(|()| dir.path().to_owned()),
            ..KubeletFiles::default()
        };
        files.load(110, &FeatureGates::default(), Map::from_iter([("port".to_owned(), json!(10250))]))
    }

    #[test]
    fn nodes_have_their_own_defaults_until_a_file_says_otherwise() {
        let none = load(None, None).unwrap().fields;
        assert!(!none.serialize_image_pulls);
        assert_eq!(none.eviction_hard.keys().collect::<Vec<_>>(), ["memory.available"]);
        assert_eq!((none.image_gc_high_threshold_percent, none.max_pods), (100, 110));
        let some = load(
            Some("maxPods: 7\nevictionHard:\n  nodefs.available: 10%\nport: 1\n"),
            Some("maxPods: 8\nserializeImagePulls: true\n"),
        );
        let some = some.unwrap().fields;
        assert_eq!((some.max_pods, some.port, some.serialize_image_pulls), (8, 10250, true));
        let hard: Vec<_> = some.eviction_hard.keys().collect();
        assert_eq!(hard, ["nodefs.available"], "as a whole, in place of our own");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = load(Some("maxPods: many\n"), None).unwrap_err().to_string();
        assert!(error.contains("KubeletConfiguration.maxPods of type int32"), "{error}");
        let gates = FeatureGates::default();
        let files = KubeletFiles { file: Some("/none/at/all".into()), ..KubeletFiles::default() };
        assert!(files.load(110, &gates, Map::new()).unwrap_err().to_string().contains("/none/at/all"));
        let half = KubeletFiles { providers: Some("/none/at/all".into()), ..KubeletFiles::default() };
        assert!(half.providers().unwrap_err().to_string().contains("belong together"));
    }
}
