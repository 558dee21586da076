//! Where an API server is, and who we are to it, as a kubeconfig tells.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_yaml_ng::Value;

/// An API server and our certificate for it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS with our client certificate, HTTP/2 only.
    pub tls: Arc<ClientConfig>,
}

/// The current context of a kubeconfig.
///
/// # Errors
/// When it has none, or no client certificate, or lies elsewhere in files that cannot be read.
pub(super) fn load(path: &Path) -> Result<Endpoint> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let file: Value =
        serde_yaml_ng::from_str(&text).with_context(|| format!("{} as YAML", path.display()))?;
    let read = || -> Result<Endpoint> {
        let current = text_of(&file, "current-context")?;
        let context = named(&file, "contexts", current)?.get("context").context("the context")?;
        let cluster =
            named(&file, "clusters", text_of(context, "cluster")?)?.get("cluster").context("cluster")?;
        let user = named(&file, "users", text_of(context, "user")?)?.get("user").context("the user")?;
        let (host, port) = address(text_of(cluster, "server")?)?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&data(cluster, "certificate-authority", path)?) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&data(user, "client-certificate", path)?)
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&data(user, "client-key", path)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Endpoint { host, port, tls: Arc::new(tls) })
    };
    read().with_context(|| format!("the kubeconfig {}", path.display()))
}

fn text_of<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.get(key).and_then(Value::as_str).with_context(|| format!("it has no {key}"))
}

fn named<'a>(file: &'a Value, list: &str, name: &str) -> Result<&'a Value> {
    let entries = file.get(list).and_then(Value::as_sequence).with_context(|| format!("it has no {list}"))?;
    let found = entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
    found.with_context(|| format!("its {list} have no {name:?}"))
}

/// What stands under `KEY-data`, or in the file that `KEY` names.
fn data(value: &Value, key: &str, kubeconfig: &Path) -> Result<Vec<u8>> {
    if let Some(encoded) = value.get(format!("{key}-data")).and_then(Value::as_str) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
        return decoded.with_context(|| format!("its {key}-data is no base64"));
    }
    let path = kubeconfig.parent().unwrap_or(Path::new(".")).join(text_of(value, key)?);
    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
}

/// Host and port of `https://HOST:PORT`.
fn address(server: &str) -> Result<(String, u16)> {
    let Some(rest) = server.strip_prefix("https://") else {
        bail!("its server {server} is no https address")
    };
    let rest = rest.split('/').next().unwrap_or_default();
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "443"));
    let port = port.parse().with_context(|| format!("the port of its server {server}"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(address("https://127.0.0.1:6443").unwrap(), ("127.0.0.1".to_owned(), 6443));
        assert_eq!(address("https://[::1]:1/path").unwrap(), ("::1".to_owned(), 1));
        assert_eq!(address("https://example.com/").unwrap(), ("example.com".to_owned(), 443));
        assert!(address("http://example.com").is_err());
        assert!(address("https://example.com:x").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let file: Value = serde_yaml_ng::from_str("contexts: [{name: a}]").unwrap();
        assert!(named(&file, "contexts", "a").is_ok());
        assert!(named(&file, "contexts", "b").unwrap_err().to_string().contains("contexts"));
        assert!(named(&file, "users", "b").unwrap_err().to_string().contains("users"));
    }
}
