//! `knarr kubelet`, also as `kubelet`: pods of one node over any CRI runtime.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auth::pki::{CertKey, join};
use base::{Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;

use super::read;
use crate::api;

/// `knarr kubelet`
#[derive(Debug, Args)]
pub struct Kubelet {
    /// How the API server is reached, and as whom
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The container runtime
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    container_runtime_endpoint: String,
    /// The node's name [default: the host's]
    #[arg(long)]
    hostname_override: Option<String>,
    /// The node's address [default: the machine's]
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Where pods' volumes are
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Where containers' logs are
    #[arg(long, default_value = "/var/log/pods")]
    pod_logs_dir: PathBuf,
    /// The cgroup under which those of pods are
    #[arg(long, default_value = "/")]
    cgroup_root: String,
    /// Where the kubelet's own API listens
    #[arg(long, default_value = "0.0.0.0")]
    address: IpAddr,
    /// Its port
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// What that API serves with
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Whose client certificates that API trusts [default: the kubeconfig's authority]
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// The cluster's DNS servers
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Labels of the node: key=value,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// The most pods
    #[arg(long, default_value_t = 110)]
    max_pods: u32,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Kubelet {
    /// Runs pods until the process is told to stop. They go on.
    ///
    /// # Errors
    /// What keeps it from running, by name.
    pub async fn run(self) -> Result<()> {
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let kubeconfig = read(&self.kubeconfig)?;
        let client = super::connect(&self.kubeconfig).await?;
        let config = self.config(&kubeconfig)?;
        let run = kubelet::run(config, client, &tasks);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended?,
            ended = super::wait_for_end(&shutdown) => ended?,
        }
        shutdown.trigger();
        tasks.stop().await;
        Ok(())
    }

    fn config(self, kubeconfig: &str) -> Result<kubelet::Config> {
        let node_name = match &self.hostname_override {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let node_ip = self.node_ip.unwrap_or_else(|| IpAddr::V4(api::primary_address()));
        let server_cert = self.serving(&node_name, node_ip)?;
        let client_ca_pem = match &self.client_ca_file {
            Some(path) => read(path)?,
            None => auth::kubeconfig::authority(kubeconfig).context(
                "the kubeconfig embeds no certificate-authority-data: name it with --client-ca-file",
            )?,
        };
        if self.max_pods == 0 {
            bail!("--max-pods must be at least 1");
        }
        Ok(kubelet::Config {
            hostname: node_name.clone(),
            node_name,
            root_dir: self.root_dir,
            log_dir: self.pod_logs_dir,
            cri_endpoint: self.container_runtime_endpoint,
            node_ip,
            listen: SocketAddr::from((self.address, self.port)),
            server_cert,
            client_ca_pem,
            cluster_dns: self.cluster_dns,
            cluster_domain: self.cluster_domain,
            cgroup_root: self.cgroup_root,
            capacity: None,
            max_pods: self.max_pods,
            labels: self.node_labels.into_iter().collect::<BTreeMap<_, _>>(),
            eviction: kubelet::EvictionSettings::default(),
            logs: kubelet::LogRotation::default(),
            static_pod_dir: None,
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
        })
    }

    /// What is given, or else a certificate that the kubelet signs itself, as upstream's does.
    fn serving(&self, node: &str, ip: IpAddr) -> Result<CertKey> {
        if let (Some(cert), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            return Ok(CertKey { cert_pem: read(cert)?, key_pem: read(key)? });
        }
        let year = Duration::from_secs(365 * 24 * 3600);
        let names = [node.to_owned(), ip.to_string()];
        Ok(join::self_signed(node, &names, SystemClock::shared().now(), year)?)
    }
}
