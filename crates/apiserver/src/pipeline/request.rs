//! What a request is about, read off its method, path and query: `apiserver/pkg/endpoints/request.RequestInfo`.

use http::Method;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about API resources; otherwise only `path` and `verb` say anything.
    pub is_resource: bool,
    /// The whole path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; elsewhere the method in lower case.
    pub verb: &'static str,
    /// The API group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace, also for the object `namespaces/NAME` itself, as upstream has it for authorization.
    pub namespace: String,
    /// The resource, such as `pods`.
    pub resource: String,
    /// What lies below the object, such as `status`.
    pub subresource: String,
    /// The object's name; for lists the one that a field selector `metadata.name=` names.
    pub name: String,
    /// What follows the subresource (`proxy` paths).
    pub rest: Vec<String>,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
}

impl RequestInfo {
    /// Reads a request line.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Self {
        let query = query.map(parse_query).unwrap_or_default();
        let mut info = Self { path: path.to_owned(), query, verb: plain_verb(method), ..Self::default() };
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = resource_verb(method);
        let rest = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => {
                info.verb = "watch";
                rest
            }
            _ => rest,
        };
        info.read_parts(rest);
        if info.verb == "get" && info.name.is_empty() {
            info.verb = if info.flag("watch") { "watch" } else { "list" };
        } else if info.verb == "delete" && info.name.is_empty() {
            info.verb = "deletecollection";
        }
        info.name_from_selector();
        info
    }

    fn read_parts(&mut self, parts: &[&str]) {
        let decoded: Vec<String> = parts.iter().map(|part| percent_decode(part, false)).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let rest: &[&str] = match parts.as_slice() {
            // `namespaces/NAME`, and its own subresources, are about the namespace itself.
            ["namespaces", name, sub @ ("finalize" | "status"), ..] => {
                self.namespace = (*name).to_owned();
                &["namespaces", name, sub][..]
            }
            ["namespaces", name] => {
                self.namespace = (*name).to_owned();
                &["namespaces", name][..]
            }
            ["namespaces", namespace, rest @ ..] => {
                self.namespace = (*namespace).to_owned();
                rest
            }
            rest => rest,
        };
        let mut rest = rest.iter();
        self.resource = rest.next().map(|part| (*part).to_owned()).unwrap_or_default();
        self.name = rest.next().map(|part| (*part).to_owned()).unwrap_or_default();
        self.subresource = rest.next().map(|part| (*part).to_owned()).unwrap_or_default();
        self.rest = rest.map(|part| (*part).to_owned()).collect();
    }

    fn name_from_selector(&mut self) {
        if !self.name.is_empty() || !matches!(self.verb, "list" | "watch" | "deletecollection") {
            return;
        }
        let exact = self.param("fieldSelector").and_then(|selector| {
            selector.split(',').find_map(|term| {
                let value = term.strip_prefix("metadata.name=")?;
                Some(value.strip_prefix('=').unwrap_or(value).to_owned())
            })
        });
        self.name = exact.unwrap_or_default();
    }

    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a query parameter is true; `?watch` alone counts as true.
    pub fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// `/status` and the like for messages: `pods` or `pods/status`.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The pairs of a query string, decoded.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key, true), percent_decode(value, true))
        })
        .collect()
}

/// Undoes percent-encoding; `plus` turns `+` into a space, as forms do.
pub fn percent_decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut ahead = bytes.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        out.push((high * 16 + low) as u8);
                        bytes = ahead;
                    }
                    _ => out.push(b'%'),
                }
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, target: &str) -> RequestInfo {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        RequestInfo::parse(method, path, query)
    }

    /// A request line; then verb, group, namespace, resource, subresource and name.
    type Case = (Method, &'static str, [&'static str; 6]);

    #[test]
    fn request_lines() {
        let cases: &[Case] = &[
            (Method::GET, "/api/v1/pods", ["list", "", "", "pods", "", ""]),
            (Method::GET, "/api/v1/pods?watch=true", ["watch", "", "", "pods", "", ""]),
            (Method::GET, "/api/v1/namespaces/a/pods/b", ["get", "", "a", "pods", "", "b"]),
            (Method::GET, "/api/v1/namespaces/a", ["get", "", "a", "namespaces", "", "a"]),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                ["update", "", "a", "namespaces", "finalize", "a"],
            ),
            (Method::POST, "/api/v1/namespaces/a/pods/b/exec?x=1", ["create", "", "a", "pods", "exec", "b"]),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                ["deletecollection", "apps", "a", "deployments", "", ""],
            ),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dx", ["list", "", "", "pods", "", "x"]),
            (Method::GET, "/api/v1/watch/pods", ["watch", "", "", "pods", "", ""]),
        ];
        for (method, target, expected) in cases {
            let info = parse(method, target);
            assert!(info.is_resource, "{target}");
            let got =
                [info.verb, &info.group, &info.namespace, &info.resource, &info.subresource, &info.name];
            assert_eq!(&got, expected, "{target}");
        }
    }

    #[test]
    fn paths_that_are_no_resources() {
        for target in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz"] {
            let info = parse(&Method::GET, target);
            assert!(!info.is_resource && info.verb == "get", "{target}");
        }
    }
}
