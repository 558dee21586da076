use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::core::Core;
use apiserver::security::Security;
use apiserver::server::Local;
use auth::pki::Pki;
use auth::user::User;
use base::{SharedRandom, Shutdown, TaskGroup};
use store::Store;
use tokio::net::TcpListener;

use super::Options;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// One API server of a cluster.
pub struct Server {
    core: Arc<Core>,
    address: SocketAddr,
    shutdown: Shutdown,
    listening: TaskGroup,
}

impl Server {
    pub(super) async fn start(
        store: Arc<dyn Store>,
        options: &Options,
        pki: &Pki,
        random: &SharedRandom,
        port: u16,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shutdown = Shutdown::new();
        let security = Security::new(pki, ISSUER, &options.clock, random)?;
        let year = Duration::from_secs(365 * 24 * 3600);
        let kubelet_client = pki.issue_client("kube-apiserver-kubelet-client", &["system:masters"], year)?;
        let core = apiserver::start::start(apiserver::start::Config {
            store,
            prefix: options.prefix.clone(),
            clock: options.clock.clone(),
            random: random.clone(),
            service_cidr: "10.96.0.0/16".to_owned(),
            node_ports: 30000..=32767,
            issuer: ISSUER.to_owned(),
            advertise: (IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
            security,
            kubelet_tls: auth::pki::client_config(pki.ca_pem(), Some(&kubelet_client))?,
            serve_all: false,
            max_in_flight: options.max_in_flight,
            gates: options.gates,
            initial_objects: Vec::new(),
            shutdown: shutdown.clone(),
        })
        .await?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let serving = pki.issue_server("kube-apiserver", &[], &names, year)?;
        let tls = tokio_rustls::TlsAcceptor::from(auth::pki::server_config(&serving, Some(pki.ca_pem()))?);
        let listening = TaskGroup::new(&shutdown);
        listening.spawn_graceful(apiserver::server::listen(core.clone(), listener, tls, shutdown.clone()));
        Ok(Self { core, address, shutdown, listening })
    }

    /// What it consists of.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A client in this process who may do everything.
    pub fn admin(&self) -> kube::Client {
        local(&self.core, User::known("admin", &[auth::user::MASTERS]))
    }

    pub(super) async fn stop(&mut self) {
        self.shutdown.trigger();
        self.listening.stop().await;
        self.core.tasks.stop().await;
    }
}

pub(super) fn local(core: &Arc<Core>, user: User) -> kube::Client {
    client::connect::local(Local::new(core.clone(), user))
}

pub(super) fn run_controllers(
    core: &Arc<Core>,
    options: &Options,
    pki: &Pki,
    random: &SharedRandom,
    tasks: &TaskGroup,
) {
    let settings = controllers::context::Settings {
        cluster_cidr: "10.244.0.0/16".to_owned(),
        node_cidr_bits: 24,
        node_cidr_bits_v6: 64,
        root_ca: pki.ca_pem().to_owned(),
        node_grace_seconds: options.node_grace_seconds,
        terminated_pods: options.terminated_pods,
        signer: None,
    };
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    let account =
        |name: &str| local(core, User::known(format!("system:serviceaccount:kube-system:{name}"), &groups));
    let manager = local(core, User::known("system:kube-controller-manager", &[]));
    let made = controllers::clients::Clients::new(manager, |name| Ok::<_, Infallible>(account(name)));
    let clients = match made {
        Ok(clients) => clients,
        Err(never) => match never {},
    };
    let (clock, random, managed) = (options.clock.clone(), random.clone(), tasks.clone());
    tasks.spawn(async move {
        controllers::run(clients, clock, random, settings, &managed).await;
    });
}
