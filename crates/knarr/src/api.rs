//! An API server of this process: started, and listening.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::core::Core;
use apiserver::security::Security;
use apiserver::server::Local;
use auth::pki::{CertKey, Pki};
use auth::user::User;
use base::{SharedClock, SharedRandom, Shutdown, TaskGroup};
use store::Store;
use tokio::net::TcpListener;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What an API server of this process is made of.
pub struct Api {
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// The cluster's prefix in the store, with a slash at its end.
    pub prefix: String,
    /// The cluster's keys.
    pub pki: Arc<Pki>,
    /// The range of cluster IPs.
    pub service_cidr: String,
    /// The range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// The `iss` of service account tokens.
    pub issuer: String,
    /// Where others reach it.
    pub advertise: (IpAddr, u16),
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// What it serves with, and the authority whose client certificates it trusts, where they are not the PKI's.
    pub tls: (Option<CertKey>, Option<String>),
    /// What it shows to kubelets, and the authority of theirs, where they are not the PKI's.
    pub kubelets: (Option<CertKey>, Option<String>),
    /// Whether alpha and beta versions are served.
    pub serve_all: bool,
    /// How many requests may be under way: those that change something, and others.
    pub max_in_flight: (usize, usize),
    /// Which features are on.
    pub gates: kinds::gates::Gates,
    /// Objects that the cluster begins with: path of the collection, and JSON.
    pub initial_objects: Vec<(String, serde_json::Value)>,
}

impl Api {
    /// Starts to serve. Listeners end with `tasks`.
    ///
    /// # Errors
    /// What keeps it from starting, by name.
    pub async fn start(
        self,
        clock: SharedClock,
        random: SharedRandom,
        tasks: &TaskGroup,
        shutdown: &Shutdown,
    ) -> Result<Arc<Core>> {
        let names = names(&self.advertise.0, &self.service_cidr);
        let mut listeners = Vec::new();
        for address in &self.listen {
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!(
                    "the API server cannot listen on {address}: free the port, or choose another with --port"
                )
            })?;
            listeners.push(listener);
        }
        let security = Security::new(&self.pki, &self.issuer, &clock, &random)?;
        let kubelet_client = match self.kubelets.0 {
            Some(given) => given,
            None => self.pki.issue_client("kube-apiserver-kubelet-client", &["system:masters"], YEAR)?,
        };
        let kubelet_ca = self.kubelets.1.as_deref().unwrap_or_else(|| self.pki.ca_pem());
        let client_ca = self.tls.1.unwrap_or_else(|| self.pki.ca_pem().to_owned());
        let mut initial_objects = self.initial_objects;
        initial_objects.push(authentication(&client_ca));
        let core = apiserver::start::start(apiserver::start::Config {
            store: self.store,
            prefix: self.prefix,
            clock,
            random,
            service_cidr: self.service_cidr,
            node_ports: self.node_ports,
            issuer: self.issuer,
            advertise: self.advertise,
            security,
            kubelet_tls: auth::pki::client_config(kubelet_ca, Some(&kubelet_client))?,
            serve_all: self.serve_all,
            max_in_flight: self.max_in_flight,
            gates: self.gates,
            initial_objects,
            shutdown: shutdown.clone(),
        })
        .await?;
        let mut serving = match self.tls.0 {
            Some(given) => given,
            None => self.pki.apiserver_cert(&names)?,
        };
        // The authority is shown as well: a machine that joins knows it by its hash.
        serving.cert_pem.push_str(self.pki.ca_pem());
        let config = auth::pki::server_config(&serving, Some(&client_ca))?;
        for listener in listeners {
            let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
            tasks.spawn_graceful(apiserver::server::listen(
                core.clone(),
                listener,
                acceptor,
                shutdown.clone(),
            ));
        }
        Ok(core)
    }
}

/// What servers beside this one need to know of authentication: schedulers, aggregated API servers.
fn authentication(client_ca: &str) -> (String, serde_json::Value) {
    let map = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": client_ca},
    });
    ("/api/v1/namespaces/kube-system/configmaps".to_owned(), map)
}

/// The names that clients know the API server by.
fn names(advertise: &IpAddr, service_cidr: &str) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
    ]
    .iter()
    .map(|&name| name.to_owned())
    .collect();
    names.push(advertise.to_string());
    let first = service_cidr.split('/').next().and_then(|base| base.parse::<std::net::Ipv4Addr>().ok());
    names.extend(first.map(|base| std::net::Ipv4Addr::from(u32::from(base) + 1).to_string()));
    names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    names
}

/// A client in this process that is `name`.
pub fn local(core: &Arc<Core>, name: &str, groups: &[&str]) -> kube::Client {
    client::connect::local(Local::new(core.clone(), User::known(name, groups)))
}

/// A client in this process that is a service account of `kube-system`.
pub fn account(core: &Arc<Core>, name: &str) -> kube::Client {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    local(core, &format!("system:serviceaccount:kube-system:{name}"), &groups)
}

/// Opens a store of its own in a directory.
///
/// # Errors
/// When it cannot be opened: it is another process's, damaged, or of a newer version.
pub fn embedded(dir: &Path, clock: &SharedClock) -> Result<Arc<dyn Store>> {
    let options = store::embedded::EmbeddedOptions { clock: clock.clone(), ..Default::default() };
    Ok(Arc::new(store::embedded::Embedded::open(dir, options)?))
}

/// Connects to an etcd.
///
/// # Errors
/// When none of its members answers.
pub async fn etcd(urls: &[String], tls: Option<store::etcd::EtcdTls>) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::etcd::Etcd::connect(urls, tls, store::etcd::EtcdOptions::default()).await?))
}

/// Whether this machine has the address.
pub fn is_own(address: std::net::Ipv4Addr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The address from which this machine reaches others, or loopback where it has none.
pub fn primary_address() -> std::net::Ipv4Addr {
    // An address of the range that is kept for documentation: everybody's default route.
    address_towards("192.0.2.1:9").unwrap_or(std::net::Ipv4Addr::LOCALHOST)
}

/// The address from which this machine reaches `host:port`.
pub fn address_towards(target: &str) -> Option<std::net::Ipv4Addr> {
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(target).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
