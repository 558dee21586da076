//! How a machine becomes a node: with a bootstrap token it asks for certificates, and keeps them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auth::kubeconfig::{self, Credential, Entry};
use auth::pki::join;
use k8s_openapi::api::core::v1::{ConfigMap, Node, NodeAddress};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kubelet::certificates::{Wanted, request};
use serde_json::json;
use tokio::net::TcpStream;

use crate::cluster::NodeSettings;
use crate::control_plane::NODE_SETTINGS;
use crate::node::Identity;

/// How long the cluster may take to issue a certificate.
const PATIENCE: Duration = Duration::from_secs(60);

/// A token that lets machines join: `ID.SECRET.HASH`. The first two are a bootstrap token of Kubernetes; the last is
/// the hash of the cluster's authority, so that nobody else can pose as the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// `ID.SECRET`
    pub bearer: String,
    /// SHA-256 of the authority's public key, in hexadecimal.
    pub hash: String,
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.trim().splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id), Some(secret), Some(hash))
                if id.len() == 6
                    && secret.len() == 16
                    && hash.len() == 64
                    && hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Self { bearer: format!("{id}.{secret}"), hash: hash.to_ascii_lowercase() })
            }
            _ => bail!(
                "the token is not of the form ID.SECRET.HASH: make one with `knarr token create` on the server"
            ),
        }
    }
}

/// Who wants to join, and where.
pub struct Joining<'a> {
    /// Such as `https://10.0.0.1:6443`.
    pub server: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its address of IPv6, if it has one.
    pub ip_v6: Option<std::net::Ipv6Addr>,
}

/// Where a server is.
///
/// # Errors
/// When it is no URL of HTTPS.
pub fn url(server: &str) -> Result<http::Uri> {
    let uri: http::Uri = server.parse().with_context(|| format!("--server {server:?} is no URL"))?;
    if uri.scheme_str() != Some("https") {
        bail!("--server {server:?} is no URL of the form https://HOST:PORT");
    }
    Ok(uri)
}

/// Fetches the authority that the token names, from the server itself.
///
/// # Errors
/// When the server cannot be reached, or shows another authority.
pub async fn authority(server: &str, hash: &str) -> Result<String> {
    let uri = url(server)?;
    let host = uri.host().with_context(|| format!("--server {server:?} names no host"))?;
    let port = uri.port_u16().unwrap_or(443);
    let connector = tokio_rustls::TlsConnector::from(join::pinned_config(hash)?);
    let stream = TcpStream::connect((host, port)).await.with_context(|| format!("connecting to {server}"))?;
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())?;
    let stream = connector.connect(name, stream).await.with_context(|| {
        format!("{server} is not the cluster that the token is of, or its certificate does not name {host}")
    })?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    join::find(shown, hash).with_context(|| format!("{server} shows no authority"))
}

/// A kubeconfig for one user of the cluster.
pub fn kubeconfig_of(server: &str, ca_pem: &str, credential: Credential<'_>) -> Result<String> {
    Ok(kubeconfig::render(&Entry { name: "knarr", server, ca_pem, credential })?)
}

/// What the cluster tells its nodes.
///
/// # Errors
/// Those of the API.
pub async fn settings(client: &kube::Client) -> Result<NodeSettings> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get(NODE_SETTINGS).await.context("reading what the cluster tells its nodes")?;
    let text = map.data.as_ref().and_then(|data| data.get("settings"));
    let text = text.with_context(|| format!("ConfigMap kube-system/{NODE_SETTINGS} holds no settings"))?;
    serde_json::from_str(text).with_context(|| format!("ConfigMap kube-system/{NODE_SETTINGS} is damaged"))
}

/// Gets the node its certificates; `client` may ask for the first one.
///
/// # Errors
/// When the cluster refuses, or does not answer in time.
pub async fn join(joining: &Joining<'_>, client: &kube::Client, ca_pem: &str) -> Result<Identity> {
    let certificate = match request(client, &Wanted::client(joining.node), PATIENCE).await {
        Err(error) if error.is_unauthorized() => bail!(
            "the server does not know the token, or it has expired: make another with `knarr token create` on the server"
        ),
        other => other?,
    };
    let kubelet = kubeconfig_of(joining.server, ca_pem, Credential::Certificate(&certificate))?;
    let own = client::connect::kubeconfig(&kubelet).await?;
    not_taken(&own, joining).await?;
    announce(&own, joining).await?;
    let sans = vec![joining.node.to_owned(), joining.ip.to_string()];
    let serving = request(&own, &Wanted::serving(joining.node, sans), PATIENCE).await?;
    Ok(Identity {
        name: joining.node.to_owned(),
        ip: joining.ip,
        ip_v6: joining.ip_v6,
        proxy: kubelet.clone(),
        kubelet,
        serving_cert: serving.cert_pem,
        serving_key: serving.key_pem,
        client_ca: ca_pem.to_owned(),
    })
}

/// Refuses a name that a node with another address has, and is ready under: two machines would be one node, and each
/// would end what the other runs. `kubeadm join` asks the same.
async fn not_taken(client: &kube::Client, joining: &Joining<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get_opt(joining.node).await.context("looking for a node of that name")?;
    match node.as_ref().and_then(|node| elsewhere(node, joining.ip)) {
        Some(address) => bail!(
            "a node with name {:?} and status \"Ready\" already exists in the cluster, at {address}: delete it with \
             `kubectl delete node {}`, or give this machine another name with --node-name",
            joining.node,
            joining.node
        ),
        None => Ok(()),
    }
}

/// The address of a node that is ready, if it has one and it is not this.
fn elsewhere(node: &Node, ip: Ipv4Addr) -> Option<&str> {
    let status = node.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let internal = |one: &&NodeAddress| one.type_ == "InternalIP" && one.address.parse::<Ipv4Addr>().is_ok();
    let address = status.addresses.iter().flatten().find(internal)?.address.as_str();
    (ready && address != ip.to_string()).then_some(address)
}

/// Tells the cluster of the node and its addresses: it may serve under no others.
async fn announce(client: &kube::Client, joining: &Joining<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = Node {
        metadata: ObjectMeta { name: Some(joining.node.to_owned()), ..Default::default() },
        ..Default::default()
    };
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other.context("making the node")?),
    }
    let addresses = json!([
        {"type": "InternalIP", "address": joining.ip}, {"type": "Hostname", "address": joining.node},
    ]);
    let patch = Patch::Strategic(json!({"status": {"addresses": addresses}}));
    nodes
        .patch_status(joining.node, &PatchParams::default(), &patch)
        .await
        .context("telling the node's addresses")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_its_scheme() {
        assert_eq!(url("https://10.0.0.1:6443").unwrap().port_u16(), Some(6443));
        for wrong in ["10.0.0.1:6443", "10.0.0.1", "http://10.0.0.1:6443", "https://", ""] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_taken_by_a_ready_node_elsewhere() {
        let node = |ready: &str, address: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "m1"}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": "m1"}, {"type": "InternalIP", "address": address}],
            }}))
            .unwrap()
        };
        let ip = Ipv4Addr::new(10, 0, 0, 2);
        assert_eq!(elsewhere(&node("True", "10.0.0.1"), ip), Some("10.0.0.1"));
        assert_eq!(elsewhere(&node("True", "10.0.0.2"), ip), None);
        assert_eq!(elsewhere(&node("Unknown", "10.0.0.1"), ip), None);
        assert_eq!(elsewhere(&Node::default(), ip), None);
    }

    #[test]
    fn a_token_has_three_parts() {
        let hash = "a".repeat(64);
        let token = Token::parse(&format!("abcdef.0123456789abcdef.{hash}")).unwrap();
        assert_eq!(token, Token { bearer: "abcdef.0123456789abcdef".to_owned(), hash });
        for wrong in ["", "abcdef.0123456789abcdef", "abcdef.0123456789abcdef.zz"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
