//! Addresses inside a proxied answer, so that they lead back through the proxy
//! (`apimachinery/pkg/util/proxy.Transport`).

use http::request::Parts;

/// Where the client sees what is proxied.
#[derive(Clone)]
pub(super) struct Prefix {
    /// The host that the client asked.
    pub host: String,
    /// The path up to what the backend sees: `/api/v1/namespaces/NS/pods/NAME/proxy`.
    pub path: String,
}

impl Prefix {
    /// Of a request whose backend is asked for `path`.
    pub fn new(parts: &Parts, path: &str) -> Self {
        let header = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = header.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        let whole = parts.uri.path();
        Self {
            host: host.unwrap_or_default().to_owned(),
            path: whole.strip_suffix(path).unwrap_or(whole).to_owned(),
        }
    }

    /// An address, in a page or a `Location`, as the client must see it; `backend` is `HOST:PORT` of who answered.
    pub fn rewrite(&self, location: &str, backend: &str) -> String {
        let (scheme, rest) = match location.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => (Some(scheme), rest),
            _ => match location.strip_prefix("//") {
                Some(rest) => (Some(""), rest),
                None => (None, location),
            },
        };
        let (host, path) = match scheme {
            None => ("", rest),
            Some(_) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        };
        let elsewhere = !host.is_empty() && host != backend && host != self.host;
        // What is relative leads on from where the client is already.
        if elsewhere || !path.starts_with('/') {
            return location.to_owned();
        }
        // Who is asked by the client's own name for us may be asked so again, and by whatever way the client came; by
        // the backend's name nobody outside finds anything.
        let ours = match scheme {
            Some("") if host == self.host => format!("//{host}"),
            Some(scheme) if host == self.host => format!("{scheme}://{host}"),
            _ => String::new(),
        };
        if path.starts_with(&self.path) {
            return format!("{ours}{path}");
        }
        format!("{ours}{}{path}", self.path)
    }
}
