//! Where kubelets are, and how they are spoken to.

use std::sync::Arc;

use rustls::ClientConfig;
use schema::{Object, Value};

use crate::https::{self, CallError, Connection};

/// Connects to kubelets as the API server.
#[derive(Clone)]
pub struct KubeletClient {
    tls: Arc<ClientConfig>,
}

/// The address and port at which a node's kubelet listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletAddress {
    /// An IP address or host name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl KubeletAddress {
    /// `HOST:PORT`, with brackets around an address of IPv6.
    pub fn host_port(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl KubeletClient {
    /// A client that shows the certificate of `tls` and trusts its roots.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    /// Connects to a kubelet.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn connect(&self, address: &KubeletAddress) -> Result<Connection, CallError> {
        https::connect(&address.host_port(), &address.host, self.tls.clone()).await
    }
}

/// Reads the address off a node's status: the internal one first, as upstream's
/// `--kubelet-preferred-address-types` has it for a cluster of one network.
pub fn address_of(node: &Object) -> Option<KubeletAddress> {
    let port = node.int_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(10250);
    let addresses = node.list_at(&["status", "addresses"])?;
    let of_type = |wanted: &str| {
        addresses.iter().find_map(|address| {
            let text = |field| address.child(field).and_then(Value::as_str);
            (text("type") == Some(wanted)).then(|| text("address")).flatten()
        })
    };
    let host = ["InternalIP", "Hostname", "ExternalIP"].into_iter().find_map(of_type)?;
    Some(KubeletAddress { host: host.to_owned(), port: u16::try_from(port).ok()? })
}
