//! Who is asked for a registry's images: `hosts.toml` files, laid out as containerd's, read at each pull.
//!
//! `<folder>/<host>/hosts.toml` names the mirrors of one registry, `<folder>/_default/hosts.toml`
//! those of every other one. The registry itself comes last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ImageError;
use crate::config::Registries;

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Content by its digest.
    pub pull: bool,
    /// What a tag stands for, which only a trusted host may say.
    pub resolve: bool,
}

/// One host that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://mirror.local:5000/v2`, without a slash at the end.
    pub base: String,
    /// Host and port of `base`.
    pub host: String,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// Files with certificates of its authorities.
    pub authorities: Vec<PathBuf>,
    /// Files with our certificate and its key; the key may be in the same file.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Its certificate is not looked at.
    pub skip_verify: bool,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// The registry itself rather than a mirror of it: it gets the pull secret.
    pub is_origin: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Table {
    server: Option<String>,
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany<String>>,
    client: Option<Client>,
    skip_verify: bool,
    header: toml::Table,
    override_path: bool,
    host: toml::Table,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// `"both.pem"`, `["a.pem", "b.pem"]` or `[["cert.pem", "key.pem"], …]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// Everybody who may be asked for images of `registry`, in order.
pub fn endpoints(registries: &Registries, registry: &str) -> Result<Vec<Endpoint>, ImageError> {
    let Some(folder) = &registries.config_dir else { return Ok(vec![origin(registries, registry)]) };
    for name in [registry, "_default"] {
        let path = folder.join(name).join("hosts.toml");
        match fs::read_to_string(&path) {
            Ok(text) => return parse(&text, &path, registries, registry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ImageError::Store { what: format!("reading {}", path.display()), source });
            }
        }
    }
    Ok(vec![origin(registries, registry)])
}

fn parse(
    text: &str,
    path: &Path,
    registries: &Registries,
    registry: &str,
) -> Result<Vec<Endpoint>, ImageError> {
    let malformed = |reason: String| ImageError::Malformed { what: path.display().to_string(), reason };
    let top: Table = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut list = Vec::new();
    for (url, value) in &top.host {
        let table: Table = value.clone().try_into().map_err(|e| malformed(format!("host {url:?}: {e}")))?;
        list.push(endpoint(url, table, folder).map_err(|e| malformed(format!("host {url:?}: {e}")))?);
    }
    let mut own = origin(registries, registry);
    let url = top.server.clone().unwrap_or_else(|| own.base.clone());
    let settings = endpoint(&url, top, folder).map_err(|e| malformed(format!("server {url:?}: {e}")))?;
    own = Endpoint { is_origin: settings.host == own.host || own.base == settings.base, ..settings };
    list.push(own);
    Ok(list)
}

fn endpoint(url: &str, table: Table, folder: &Path) -> Result<Endpoint, String> {
    let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("{scheme} is neither http nor https"));
    }
    let host = rest.split('/').next().unwrap_or_default().to_owned();
    if host.is_empty() {
        return Err("it has no host".into());
    }
    let mut base = url.trim_end_matches('/').to_owned();
    if !table.override_path && !base.ends_with("/v2") {
        base.push_str("/v2");
    }
    let at = |file: &String| folder.join(file);
    let client = match table.client {
        None => Vec::new(),
        Some(Client::One(file)) => vec![(at(&file), None)],
        Some(Client::Files(files)) => files.iter().map(|file| (at(file), None)).collect(),
        Some(Client::Pairs(pairs)) => {
            let pair = |pair: &Vec<String>| match pair.as_slice() {
                [both] => Ok((at(both), None)),
                [certificate, key] if key.is_empty() => Ok((at(certificate), None)),
                [certificate, key] => Ok((at(certificate), Some(at(key)))),
                _ => Err("client: a pair is a certificate and its key".to_owned()),
            };
            pairs.iter().map(pair).collect::<Result<_, _>>()?
        }
    };
    let may = |what: &str| {
        table.capabilities.as_ref().is_none_or(|list| list.iter().any(|c| c.eq_ignore_ascii_case(what)))
    };
    Ok(Endpoint {
        host,
        base,
        capabilities: Capabilities { pull: may("pull"), resolve: may("resolve") },
        authorities: table.ca.map(OneOrMany::into_list).unwrap_or_default().iter().map(at).collect(),
        client,
        skip_verify: table.skip_verify,
        headers: headers(&table.header)?,
        is_origin: false,
    })
}

fn headers(table: &toml::Table) -> Result<Vec<(String, String)>, String> {
    let mut list = Vec::new();
    for (name, value) in table {
        let values: OneOrMany<String> =
            value.clone().try_into().map_err(|_| format!("header {name}: neither text nor a list of it"))?;
        list.extend(values.into_list().into_iter().map(|value| (name.clone(), value)));
    }
    Ok(list)
}

/// The registry itself, as it is without any file.
fn origin(registries: &Registries, registry: &str) -> Endpoint {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let plain = is_loopback(host) || registries.plain_http.iter().any(|plain| plain == host);
    Endpoint {
        base: format!("{}://{host}/v2", if plain { "http" } else { "https" }),
        host: host.to_owned(),
        capabilities: Capabilities { pull: true, resolve: true },
        authorities: Vec::new(),
        client: Vec::new(),
        skip_verify: false,
        headers: Vec::new(),
        is_origin: true,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, registry: &str) -> Result<Vec<Endpoint>, ImageError> {
        parse(text, Path::new("/certs.d/x/hosts.toml"), &Registries::default(), registry)
    }

    #[test]
    fn mirrors_come_in_the_files_order_and_the_registry_last() {
        let list = read(
            r#"
            server = "https://registry.k8s.io"
            [host."https://b.local"]
              capabilities = ["pull"]
              ca = "b.pem"
              client = [["c.pem", "k.pem"], ["both.pem", ""]]
              [host."https://b.local".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://a.local:5000/mirror"]
              override_path = true
              skip_verify = true
            "#,
            "registry.k8s.io",
        )
        .unwrap();
        let bases: Vec<_> = list.iter().map(|e| e.base.as_str()).collect();
        assert_eq!(bases, ["https://b.local/v2", "http://a.local:5000/mirror", "https://registry.k8s.io/v2"]);
        let [b, a, own] = list.as_slice() else { panic!() };
        assert_eq!(b.capabilities, Capabilities { pull: true, resolve: false });
        assert_eq!(b.authorities, [Path::new("/certs.d/x/b.pem")]);
        assert_eq!(b.client[0].1.as_deref(), Some(Path::new("/certs.d/x/k.pem")));
        assert_eq!(b.client[1].1, None);
        assert_eq!(b.headers.len(), 3);
        assert!(a.skip_verify && a.capabilities.resolve && a.host == "a.local:5000" && !a.is_origin);
        assert!(own.is_origin);
    }

    #[test]
    fn another_server_is_not_given_the_registrys_secrets() {
        let list = read("server = \"https://cache.local\"", "registry.k8s.io").unwrap();
        assert_eq!((list.len(), list[0].is_origin), (1, false));
        let list = read("", "docker.io").unwrap();
        assert_eq!(list[0].base, "https://registry-1.docker.io/v2");
        assert!(list[0].is_origin);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_an_error() {
        for text in
            ["host = 3", "[host.\"ftp://x\"]", "[host.\"https://x\"]\nclient = [[\"a\", \"b\", \"c\"]]"]
        {
            let error = read(text, "x").unwrap_err().to_string();
            assert!(error.contains("hosts.toml"), "{error}");
        }
    }

    #[test]
    fn loopback_may_speak_plain_http_and_others_by_name() {
        let registries = Registries { plain_http: vec!["plain:5000".into()], ..Registries::default() };
        for (host, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("plain:5000", true),
            ("plain:5001", false),
            ("example.com", false),
        ] {
            assert_eq!(origin(&registries, host).base.starts_with("http:"), plain, "{host}");
        }
    }
}
