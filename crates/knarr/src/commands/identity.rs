//! Who the nodes of a cluster on this machine are.

use std::time::Duration;

use anyhow::Result;
use auth::kubeconfig::{self, Credential, Entry};
use auth::pki::Pki;
use base::SystemClock;

use crate::cluster::{Settings, write_whole};
use crate::node::Identity;
use crate::paths::Paths;

/// Gives a node who it is. What it has is kept, until its certificates end soon.
pub fn give(pki: &Pki, paths: &Paths, settings: &Settings, node: &str, number: u32) -> Result<()> {
    let ip = settings.node_ip(number);
    let dir = paths.node(node);
    if let Some(identity) = Identity::find(&dir)?
        && !identity.ends_soon(SystemClock::shared().now())?
    {
        return Ok(());
    }
    let year = Duration::from_secs(365 * 24 * 3600);
    let server = format!("https://{}:{}", settings.advertise, settings.port);
    let kubeconfig_of = |certificate: &auth::pki::CertKey| {
        kubeconfig::render(&Entry {
            name: &settings.name,
            server: &server,
            ca_pem: pki.ca_pem(),
            credential: Credential::Certificate(certificate),
        })
    };
    let serving = pki.issue_server(
        &format!("system:node:{node}"),
        &["system:nodes"],
        &[node.to_owned(), ip.to_string()],
        year,
    )?;
    let identity = Identity {
        name: node.to_owned(),
        ip,
        ip_v6: settings.node_ip_v6(number),
        kubelet: kubeconfig_of(&pki.issue_kubelet_client(node, year)?)?,
        proxy: kubeconfig_of(&pki.issue_client("system:kube-proxy", &[], year)?)?,
        serving_cert: serving.cert_pem,
        serving_key: serving.key_pem,
        client_ca: pki.ca_pem().to_owned(),
    };
    identity.save(&dir)?;
    write_whole(&dir.join("name"), node.as_bytes())
}
