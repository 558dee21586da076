use super::location::Asked;
use super::rest;
use super::rewrite::Prefix;

#[test]
fn names_with_schemes_and_ports() {
    let asked = |tls, name, port| Some(Asked { tls, name, port });
    for (id, wanted) in [
        ("web", asked(false, "web", "")),
        ("web:80", asked(false, "web", "80")),
        ("web:http", asked(false, "web", "http")),
        ("https:web:443", asked(true, "web", "443")),
        ("http:web:", asked(false, "web", "")),
        (":web:80", asked(false, "web", "80")),
        ("ftp:web:80", None),
        ("a:b:c:d", None),
        (":80", None),
        ("", None),
    ] {
        assert_eq!(Asked::parse(id), wanted, "{id}");
    }
}

#[test]
fn what_follows_the_proxy_in_a_path() {
    for (path, wanted) in [
        ("/api/v1/namespaces/a/pods/b/proxy", ""),
        ("/api/v1/namespaces/a/pods/b/proxy/", "/"),
        ("/api/v1/namespaces/a/services/https:b:1/proxy/x%2Fy/", "/x%2Fy/"),
        ("/api/v1/nodes/n/proxy/healthz", "/healthz"),
        ("/api/v1/nodes/n/proxy", ""),
    ] {
        assert_eq!(rest(path), wanted, "{path}");
    }
}

#[test]
fn locations_lead_back_through_the_proxy() {
    let prefix = Prefix { host: "api:6443".to_owned(), path: "/api/v1/namespaces/a/pods/b/proxy".to_owned() };
    let backend = "10.0.0.1:80";
    for (location, wanted) in [
        ("/login", "/api/v1/namespaces/a/pods/b/proxy/login"),
        ("/login/?a=b", "/api/v1/namespaces/a/pods/b/proxy/login/?a=b"),
        ("login", "login"),
        ("http://10.0.0.1:80/login", "/api/v1/namespaces/a/pods/b/proxy/login"),
        ("http://api:6443/login", "http://api:6443/api/v1/namespaces/a/pods/b/proxy/login"),
        ("//api:6443/login", "//api:6443/api/v1/namespaces/a/pods/b/proxy/login"),
        ("https://example.com/login", "https://example.com/login"),
        ("/api/v1/namespaces/a/pods/b/proxy/x", "/api/v1/namespaces/a/pods/b/proxy/x"),
        ("/?next=http://x/", "/api/v1/namespaces/a/pods/b/proxy/?next=http://x/"),
    ] {
        assert_eq!(prefix.rewrite(location, backend), wanted, "{location}");
    }
}
