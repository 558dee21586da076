//! How a machine becomes a node: with a bootstrap token it asks for certificates, and keeps them.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auth::kubeconfig::{self, Credential, Entry};
use auth::pki::CertKey;
use auth::pki::join::{self, NewRequest};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
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

/// Fetches the authority that the token names, from the server itself.
///
/// # Errors
/// When the server cannot be reached, or shows another authority.
pub async fn authority(server: &str, hash: &str) -> Result<String> {
    let uri: http::Uri = server.parse().with_context(|| format!("--server {server:?} is no URL"))?;
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
    let user = format!("system:node:{}", joining.node);
    let request = join::new_request(&user, &["system:nodes"], &[])?;
    let certificate =
        issue(client, "kubernetes.io/kube-apiserver-client-kubelet", "client auth", request).await?;
    let kubelet = kubeconfig_of(joining.server, ca_pem, Credential::Certificate(&certificate))?;
    let own = client::connect::kubeconfig(&kubelet).await?;
    announce(&own, joining).await?;
    let sans = [joining.node.to_owned(), joining.ip.to_string()];
    let request = join::new_request(&user, &["system:nodes"], &sans)?;
    let serving = issue(&own, "kubernetes.io/kubelet-serving", "server auth", request).await?;
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

/// Asks for a certificate and waits for it.
async fn issue(client: &kube::Client, signer: &str, usage: &str, request: NewRequest) -> Result<CertKey> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let usages = ["digital signature", "key encipherment", usage];
    let asked = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.csr_pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages.iter().map(|&usage| usage.to_owned()).collect()),
            ..Default::default()
        },
        ..Default::default()
    };
    let made = requests.create(&PostParams::default(), &asked).await;
    let name = made.with_context(|| format!("asking {signer} for a certificate"))?.metadata.name;
    let name = name.context("a certificate request without a name")?;
    let since = Instant::now();
    loop {
        let status = requests.get(&name).await?.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            let cert_pem = String::from_utf8(certificate.0).context("the certificate is no PEM")?;
            return Ok(CertKey { cert_pem, key_pem: request.key_pem });
        }
        let refused =
            status.conditions.iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
        if let Some(condition) = refused {
            bail!("{name}: {}: {}", condition.type_, condition.message.as_deref().unwrap_or_default());
        }
        if since.elapsed() > PATIENCE {
            bail!("{name} was not answered within {PATIENCE:?}: look with `kubectl describe csr {name}`");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
