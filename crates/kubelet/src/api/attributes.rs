//! What a request to the kubelet asks of the node's object (`pkg/kubelet/server/auth.go`, KEP-2862). Pure.

use http::Method;

/// The verb of a request.
pub fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The subresources of `nodes` of which one has to be allowed; the finest comes first.
pub fn subresources(path: &str) -> Vec<&'static str> {
    let fine = [
        ("/pods", "pods"),
        ("/healthz", "healthz"),
        ("/configz", "configz"),
        ("/runningpods", "pods"),
        ("/allocatedPods", "pods"),
    ];
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(root, _)| is_below(path, root)).map(|(_, subresource)| *subresource)
    };
    find(&fine).into_iter().chain([find(&coarse).unwrap_or("proxy")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_upstreams_subresources() {
        for (path, wanted) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/allocatedPods/a/b", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/logs/", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/statusz", &["statusz"]),
            ("/flagz", &["configz"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/podsy", &["proxy"]),
        ] {
            assert_eq!(subresources(path), wanted, "{path}");
        }
        assert_eq!((verb(&Method::POST), verb(&Method::HEAD)), ("create", ""));
    }
}
