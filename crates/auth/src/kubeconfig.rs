//! kubeconfig files, with everything embedded, or with certificates in files that are replaced.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_yaml_ng::{Mapping, Value};

use crate::pki::CertKey;

/// How a user shows who they are.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// By certificate.
    Certificate(&'a CertKey),
    /// By token.
    Token(&'a str),
}

/// One cluster and one of its users.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name of the context, and of its cluster and user.
    pub name: &'a str,
    /// Such as `https://127.0.0.1:6443`.
    pub server: &'a str,
    /// Whom the server's certificate is from.
    pub ca_pem: &'a str,
    /// Who connects.
    pub credential: Credential<'a>,
}

/// A file that cannot be merged into.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// It is no YAML.
    #[error("the kubeconfig is no YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// It is YAML, but no kubeconfig.
    #[error("the kubeconfig's {0} is not what it should be: mend the file, or name another one")]
    Form(&'static str),
    /// A file that it names cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A file with this entry alone.
///
/// # Errors
/// Never, as far as is known.
pub fn render(entry: &Entry<'_>) -> Result<String, KubeconfigError> {
    merge(None, entry)
}

/// The file with this entry in it, in the place of one of the same name, and as the current context.
/// Everything else stays.
///
/// # Errors
/// When the file is no kubeconfig.
pub fn merge(existing: Option<&str>, entry: &Entry<'_>) -> Result<String, KubeconfigError> {
    let mut file = parse(existing)?;
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        file.entry(key.into()).or_insert_with(|| value.into());
    }
    let encoded = |pem: &str| Value::from(STANDARD.encode(pem));
    let cluster =
        mapping([("certificate-authority-data", encoded(entry.ca_pem)), ("server", entry.server.into())]);
    let user = match entry.credential {
        Credential::Token(token) => mapping([("token", token.into())]),
        Credential::Certificate(cert) => mapping([
            ("client-certificate-data", encoded(&cert.cert_pem)),
            ("client-key-data", encoded(&cert.key_pem)),
        ]),
    };
    let context = mapping([("cluster", entry.name.into()), ("user", entry.name.into())]);
    for (list, key, value) in
        [("clusters", "cluster", cluster), ("users", "user", user), ("contexts", "context", context)]
    {
        let entries = entries(&mut file, list)?;
        entries.retain(|known| !is_named(known, entry.name));
        entries.push(Value::Mapping(mapping_of([("name", entry.name.into()), (key, value)])));
    }
    file.insert("current-context".into(), entry.name.into());
    Ok(serde_yaml_ng::to_string(&file)?)
}

/// The file without the context, cluster and user of this name.
///
/// # Errors
/// When the file is no kubeconfig.
pub fn remove(existing: &str, name: &str) -> Result<String, KubeconfigError> {
    let mut file = parse(Some(existing))?;
    for list in ["clusters", "users", "contexts"] {
        entries(&mut file, list)?.retain(|known| !is_named(known, name));
    }
    if file.get("current-context").and_then(Value::as_str) == Some(name) {
        file.insert("current-context".into(), "".into());
    }
    Ok(serde_yaml_ng::to_string(&file)?)
}

/// A file for the same cluster as the current context's of `existing`, whose user shows the certificate and key in
/// the file `pem`: what a kubelet writes once it has been told by a bootstrap kubeconfig where the cluster is.
/// Relative paths are meant from `dir`.
///
/// # Errors
/// When `existing` is no kubeconfig, or names no current cluster.
pub fn with_certificate_file(existing: &str, dir: &Path, pem: &Path) -> Result<String, KubeconfigError> {
    let mut cluster =
        current(existing, "cluster")?.ok_or(KubeconfigError::Form("current context's cluster"))?;
    if let Some(Value::String(authority)) = cluster.get_mut("certificate-authority")
        && !authority.is_empty()
    {
        *authority = dir.join(&*authority).display().to_string();
    }
    let pem = Value::from(pem.display().to_string());
    let user = mapping([("client-certificate", pem.clone()), ("client-key", pem)]);
    let context = mapping([
        ("cluster", "default-cluster".into()),
        ("namespace", "default".into()),
        ("user", "default-auth".into()),
    ]);
    let list = |name: &str, key: &str, value: Value| {
        Value::Sequence(vec![Value::Mapping(mapping_of([("name", name.into()), (key, value)]))])
    };
    let file = mapping_of([
        ("apiVersion", "v1".into()),
        ("kind", "Config".into()),
        ("clusters", list("default-cluster", "cluster", cluster)),
        ("contexts", list("default-context", "context", context)),
        ("current-context", "default-context".into()),
        ("users", list("default-auth", "user", user)),
    ]);
    Ok(serde_yaml_ng::to_string(&file)?)
}

/// The authority (PEM) that the current context's cluster embeds, if it does.
pub fn authority(file: &str) -> Option<String> {
    let cluster = current(file, "cluster").ok()??;
    let encoded = cluster.get("certificate-authority-data")?.as_str()?.to_owned();
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// The certificate and its key (PEM) that the current context's user shows, if it does: embedded, or in files.
/// Relative paths are meant from `dir`.
///
/// # Errors
/// When the file is no kubeconfig, or what it embeds or names cannot be read.
pub fn certificate(file: &str, dir: &Path) -> Result<Option<CertKey>, KubeconfigError> {
    let Some(user) = current(file, "user")? else { return Ok(None) };
    let part = |name: &'static str| -> Result<Option<String>, KubeconfigError> {
        let text = |key: &str| user.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(data) = text(&format!("{name}-data")) {
            let bytes = STANDARD.decode(data).map_err(|_| KubeconfigError::Form(name))?;
            return String::from_utf8(bytes).map(Some).map_err(|_| KubeconfigError::Form(name));
        }
        let Some(path) = text(name).map(|path| dir.join(path)) else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KubeconfigError::Read { path, source }),
        }
    };
    let found = part("client-certificate")?.zip(part("client-key")?);
    Ok(found.map(|(cert_pem, key_pem)| CertKey { cert_pem, key_pem }))
}

/// The cluster or the user of the current context.
fn current(file: &str, kind: &str) -> Result<Option<Value>, KubeconfigError> {
    let file = parse(Some(file))?;
    let named = |list: &str, name: Option<&Value>| {
        let entries = file.get(list)?.as_sequence()?;
        entries.iter().find(|entry| entry.get("name") == name).cloned()
    };
    let context = named("contexts", file.get("current-context"));
    let context = context.as_ref().and_then(|context| context.get("context"));
    let name = context.and_then(|context| context.get(kind));
    let entry = name.and_then(|name| named(&format!("{kind}s"), Some(name)));
    Ok(entry.and_then(|entry| entry.get(kind).cloned()))
}

fn parse(existing: Option<&str>) -> Result<Mapping, KubeconfigError> {
    match existing.map(serde_yaml_ng::from_str).transpose()? {
        None | Some(Value::Null) => Ok(Mapping::new()),
        Some(Value::Mapping(file)) => Ok(file),
        Some(_) => Err(KubeconfigError::Form("content")),
    }
}

fn entries<'a>(file: &'a mut Mapping, list: &'static str) -> Result<&'a mut Vec<Value>, KubeconfigError> {
    let value = file.entry(list.into()).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Sequence(Vec::new());
    }
    value.as_sequence_mut().ok_or(KubeconfigError::Form(list))
}

fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

fn mapping_of<const N: usize>(pairs: [(&str, Value); N]) -> Mapping {
    pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

fn mapping<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Mapping(mapping_of(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(name: &'a str, server: &'a str) -> Entry<'a> {
        Entry { name, server, ca_pem: "ca", credential: Credential::Token("secret") }
    }

    #[test]
    fn the_authority_of_the_current_context_is_found() {
        let file = merge(None, &Entry { ca_pem: "one", ..entry("a", "https://a") }).unwrap();
        let file = merge(Some(&file), &Entry { ca_pem: "two", ..entry("b", "https://b") }).unwrap();
        assert_eq!(authority(&file).as_deref(), Some("two"));
        assert_eq!(authority("apiVersion: v1"), None);
    }

    #[test]
    fn a_rendered_file_reads_as_kubectl_expects() {
        let cert = CertKey { cert_pem: "cert".into(), key_pem: "key".into() };
        let entry =
            Entry { credential: Credential::Certificate(&cert), ..entry("knarr", "https://127.0.0.1:6443") };
        assert_eq!(
            render(&entry).unwrap(),
            "apiVersion: v1\nkind: Config\nclusters:\n- name: knarr\n  cluster:\n    certificate-authority-data: Y2E=\n    \
             server: https://127.0.0.1:6443\nusers:\n- name: knarr\n  user:\n    client-certificate-data: Y2VydA==\n    \
             client-key-data: a2V5\ncontexts:\n- name: knarr\n  context:\n    cluster: knarr\n    user: knarr\n\
             current-context: knarr\n"
        );
    }

    #[test]
    fn what_others_wrote_stays() {
        let theirs = "apiVersion: v1\nkind: Config\npreferences: {colors: true}\nclusters:\n\
                      - {name: prod, cluster: {server: https://prod}}\nusers: null\ncurrent-context: prod\n";
        let merged = merge(Some(theirs), &entry("a", "https://one")).unwrap();
        let merged = merge(Some(&merged), &entry("a", "https://two")).unwrap();
        let file: Value = serde_yaml_ng::from_str(&merged).unwrap();
        assert_eq!(file["preferences"]["colors"], Value::Bool(true));
        assert_eq!(file["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(file["clusters"][1]["cluster"]["server"].as_str(), Some("https://two"));
        assert_eq!(file["current-context"].as_str(), Some("a"));
        let left: Value = serde_yaml_ng::from_str(&remove(&merged, "a").unwrap()).unwrap();
        assert_eq!(left["clusters"].as_sequence().unwrap().len(), 1);
        assert_eq!(left["current-context"].as_str(), Some(""));
    }

    #[test]
    fn what_a_kubelet_writes_names_the_cluster_and_its_own_certificate() {
        let bootstrap = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- {name: c, context: {cluster: k, user: b}}\n\
                         clusters:\n- {name: k, cluster: {server: https://one, certificate-authority: pki/ca.crt, tls-server-name: api}}\n\
                         users:\n- {name: b, user: {token: secret}}\n";
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("kubelet-client-current.pem");
        assert_eq!(certificate(bootstrap, dir.path()).unwrap(), None);
        let written = with_certificate_file(bootstrap, Path::new("/etc/kubernetes"), &pem).unwrap();
        assert!(written.contains("certificate-authority: /etc/kubernetes/pki/ca.crt"), "{written}");
        assert!(written.contains("tls-server-name: api") && !written.contains("secret"), "{written}");
        assert_eq!(certificate(&written, dir.path()).unwrap(), None, "not there yet");
        std::fs::write(&pem, "both").unwrap();
        let both = CertKey { cert_pem: "both".to_owned(), key_pem: "both".to_owned() };
        assert_eq!(certificate(&written, Path::new("/")).unwrap(), Some(both));
        assert!(with_certificate_file("apiVersion: v1", dir.path(), &pem).is_err());
    }

    #[test]
    fn something_else_is_not_overwritten() {
        for text in ["- a list", "just text", "clusters: {a: b}", "a: [unclosed"] {
            assert!(merge(Some(text), &entry("a", "https://one")).is_err(), "{text}");
        }
        assert!(merge(Some(""), &entry("a", "https://one")).is_ok());
    }
}
