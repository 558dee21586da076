//! `knarr apiserver`, also as `kube-apiserver`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use auth::pki::{CertKey, Pki};
use base::{SharedClock, Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;
use store::Store;
use store::etcd::EtcdTls;

use super::read;
use crate::api::{self, Api};
use crate::feature_gates::FeatureGates;

/// `knarr apiserver`
#[derive(Debug, Args)]
pub struct ApiServer {
    #[command(flatten)]
    pub logging: super::Logging,
    /// The members of an etcd cluster
    #[arg(long, value_delimiter = ',', required_unless_present = "data_dir", conflicts_with = "data_dir")]
    etcd_servers: Vec<String>,
    /// Keep objects in a store of its own in this directory, instead of an etcd
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The prefix of all keys in etcd
    #[arg(long, default_value = "/registry")]
    etcd_prefix: String,
    /// The authority of the etcd members
    #[arg(long)]
    etcd_cafile: Option<PathBuf>,
    /// What is shown to the etcd members
    #[arg(long, requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// Where the cluster's keys and certificates are; what is missing is made
    #[arg(long, default_value = "/var/run/kubernetes")]
    cert_dir: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// The port
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Where others reach this API server [default: the machine's address]
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// The range of cluster IPs
    #[arg(long, default_value = "10.0.0.0/24")]
    service_cluster_ip_range: String,
    /// The range of node ports
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    service_node_port_range: RangeInclusive<u16>,
    /// The issuer of service account tokens
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: String,
    /// What to serve with [default: a certificate of the cluster's authority]
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Whose client certificates are trusted [default: the cluster's authority]
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// What is shown to kubelets
    #[arg(long, requires = "kubelet_client_key")]
    kubelet_client_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "kubelet_client_certificate")]
    kubelet_client_key: Option<PathBuf>,
    /// The authority of the kubelets
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
    /// `api/all=true` serves alpha and beta versions too
    #[arg(long)]
    runtime_config: Option<String>,
    /// How many requests that change nothing may be under way
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: usize,
    /// How many requests that change something may be under way
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: usize,
    #[command(flatten)]
    features: FeatureGates,
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match parsed {
        Some((from, to)) if 0 < from && from <= to => Ok(from..=to),
        _ => Err(format!("{text:?} is no range of ports such as 30000-32767")),
    }
}

fn pair(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<CertKey>> {
    cert.zip(key).map(|(cert, key)| Ok(CertKey { cert_pem: read(cert)?, key_pem: read(key)? })).transpose()
}

impl ApiServer {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// What keeps it from serving, by name.
    pub async fn run(self) -> Result<()> {
        let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let store = self.store(&clock).await?;
        let pki = Arc::new(Pki::load_or_create(&self.cert_dir, clock.clone(), random.clone())?);
        self.write_admin(&pki)?;
        let api = self.api(store.clone(), pki)?;
        let core = api.start(clock, random, &tasks, &shutdown).await?;
        tracing::info!(port = self.secure_port, "serving");
        super::wait_for_end(&shutdown).await?;
        shutdown.trigger();
        tasks.stop().await;
        core.tasks.stop().await;
        store.close().await?;
        Ok(())
    }

    async fn store(&self, clock: &SharedClock) -> Result<Arc<dyn Store>> {
        if let Some(dir) = &self.data_dir {
            return api::embedded(&dir.join("store"), clock);
        }
        let identity = match (&self.etcd_certfile, &self.etcd_keyfile) {
            (Some(cert), Some(key)) => Some((read(cert)?.into_bytes(), read(key)?.into_bytes())),
            _ => None,
        };
        let tls = match &self.etcd_cafile {
            Some(ca) => Some(EtcdTls { ca_pem: read(ca)?.into_bytes(), identity, server_name: None }),
            None if identity.is_some() => bail!("--etcd-certfile needs --etcd-cafile"),
            None => None,
        };
        api::etcd(&self.etcd_servers, tls).await
    }

    fn api(&self, store: Arc<dyn Store>, pki: Arc<Pki>) -> Result<Api> {
        let advertise = self.advertise_address.unwrap_or_else(|| match self.bind_address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(api::primary_address()),
            address => address,
        });
        let serve_all = match self.runtime_config.as_deref() {
            None | Some("" | "api/all=false") => false,
            Some("api/all=true") => true,
            Some(other) => bail!("--runtime-config={other}: only api/all=true and api/all=false are known"),
        };
        let tls = (
            pair(self.tls_cert_file.as_deref(), self.tls_private_key_file.as_deref())?,
            self.client_ca_file.as_deref().map(read).transpose()?,
        );
        let kubelets = (
            pair(self.kubelet_client_certificate.as_deref(), self.kubelet_client_key.as_deref())?,
            self.kubelet_certificate_authority.as_deref().map(read).transpose()?,
        );
        Ok(Api {
            store,
            prefix: format!("{}/", self.etcd_prefix.trim_end_matches('/')),
            pki,
            service_cidr: self.service_cluster_ip_range.clone(),
            node_ports: self.service_node_port_range.clone(),
            issuer: self.service_account_issuer.clone(),
            advertise: (advertise, self.secure_port),
            listen: vec![SocketAddr::from((self.bind_address, self.secure_port))],
            tls,
            kubelets,
            serve_all,
            max_in_flight: (self.max_mutating_requests_inflight, self.max_requests_inflight),
            gates: self.features.gates()?,
            initial_objects: Vec::new(),
        })
    }

    /// Leaves kubeconfigs beside the keys: nobody else could make the first user.
    fn write_admin(&self, pki: &Pki) -> Result<()> {
        let server = format!("https://127.0.0.1:{}", self.secure_port);
        for (file, user, groups) in [
            ("admin.conf", "kubernetes-admin", &["system:masters"][..]),
            ("controller-manager.conf", "system:kube-controller-manager", &[]),
            ("scheduler.conf", "system:kube-scheduler", &[]),
        ] {
            let path = self.cert_dir.join(file);
            if path.exists() {
                continue;
            }
            let certificate =
                pki.issue_client(user, groups, std::time::Duration::from_secs(365 * 24 * 3600))?;
            let text = auth::kubeconfig::render(&auth::kubeconfig::Entry {
                name: "kubernetes",
                server: &server,
                ca_pem: pki.ca_pem(),
                credential: auth::kubeconfig::Credential::Certificate(&certificate),
            })?;
            auth::pki::write_private(&path, &text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}
