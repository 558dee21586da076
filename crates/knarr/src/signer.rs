//! The cluster's authority for the controllers that sign certificate requests.

use std::sync::Arc;
use std::time::Duration;

use auth::pki::{CertificateAuthority, Pki, Usage};
use base::SharedClock;
use controllers::certificates::{Requested, Signer};

/// The authority of the cluster's own PKI.
pub struct OfCluster(pub Arc<Pki>);

/// An authority that was given as files.
pub struct FromFiles {
    /// The authority.
    pub authority: CertificateAuthority,
    /// The time.
    pub clock: SharedClock,
}

fn usages(client: bool, server: bool) -> Vec<Usage> {
    let chosen = [(client, Usage::Client), (server, Usage::Server)];
    chosen.into_iter().filter_map(|(wanted, usage)| wanted.then_some(usage)).collect()
}

fn read(pem: &str) -> Result<Requested, String> {
    let asked = auth::pki::requested(pem).map_err(|error| error.to_string())?;
    let auth::pki::Requested { name, groups, sans, other_names } = asked;
    Ok(Requested { name, groups, sans, other_names })
}

impl Signer for OfCluster {
    fn read(&self, pem: &str) -> Result<Requested, String> {
        read(pem)
    }

    fn sign(&self, pem: &str, client: bool, server: bool, ttl: Duration) -> Result<String, String> {
        self.0.sign_request(pem, &usages(client, server), ttl).map_err(|error| error.to_string())
    }
}

impl Signer for FromFiles {
    fn read(&self, pem: &str) -> Result<Requested, String> {
        read(pem)
    }

    fn sign(&self, pem: &str, client: bool, server: bool, ttl: Duration) -> Result<String, String> {
        let usages = usages(client, server);
        self.authority.sign(pem, &usages, self.clock.now(), ttl).map_err(|error| error.to_string())
    }
}
