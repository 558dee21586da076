//! The records of the cluster. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses.
    A(Vec<Ipv4Addr>),
    /// Another name.
    Cname(String),
    /// Ports: priority 0, weight, port, target.
    Srv(Vec<(u16, String)>),
    /// A name, for an address.
    Ptr(String),
    /// The name exists, but not with this type.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Not ours: somebody else is asked.
    Foreign,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// IPv4 addresses.
    A,
    /// Ports.
    Srv,
    /// A name.
    Ptr,
    /// Anything else.
    Other,
}

/// Everything that names are made of.
pub trait Source {
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// Whether a namespace has any Service.
    fn has_namespace(&self, namespace: &str) -> bool;
    /// The slices of a Service.
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// The Service with this cluster IP.
    fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)>;
}

/// Answers a question; `name` is in lower case without the last dot.
pub fn answer(source: &dyn Source, domain: &str, name: &str, ask: Ask) -> Answer {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        return pointer(source, domain, reversed, ask);
    }
    let Some(rest) =
        name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.').or((rest.is_empty()).then_some("")))
    else {
        return Answer::Foreign;
    };
    let mut labels: Vec<&str> = rest.split('.').filter(|label| !label.is_empty()).collect();
    match labels.pop() {
        None => Answer::NoData,
        Some("svc") => service(source, domain, &labels, ask),
        Some("pod") => pod(source, &labels, ask),
        Some(_) => Answer::NxDomain,
    }
}

fn pointer(source: &dyn Source, domain: &str, reversed: &str, ask: Ask) -> Answer {
    let mut octets: Vec<&str> = reversed.split('.').collect();
    octets.reverse();
    let Some((namespace, name)) = octets.join(".").parse().ok().and_then(|ip| source.by_ip(ip)) else {
        return Answer::Foreign;
    };
    if ask == Ask::Ptr { Answer::Ptr(format!("{name}.{namespace}.svc.{domain}")) } else { Answer::NoData }
}

fn pod(source: &dyn Source, labels: &[&str], ask: Ask) -> Answer {
    let [ip, namespace] = labels else { return Answer::NxDomain };
    let Ok(ip) = ip.replace('-', ".").parse::<Ipv4Addr>() else { return Answer::NxDomain };
    if !source.has_namespace(namespace) {
        return Answer::NxDomain;
    }
    if ask == Ask::A { Answer::A(vec![ip]) } else { Answer::NoData }
}

/// Names of an endpoint below a headless Service, with its address: its hostname, or one made of the address.
fn endpoints(slices: &[Arc<EndpointSlice>], publish: bool) -> Vec<(String, Ipv4Addr)> {
    let mut found = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<Ipv4Addr>().ok()) else {
                continue;
            };
            if ready || publish {
                let name = endpoint.hostname.clone().unwrap_or_else(|| ip.to_string().replace('.', "-"));
                found.insert((name, ip), ());
            }
        }
    }
    found.into_keys().collect()
}

fn service(source: &dyn Source, domain: &str, labels: &[&str], ask: Ask) -> Answer {
    let (host, name, namespace) = match labels {
        [] => return Answer::NoData,
        [namespace] => {
            return if source.has_namespace(namespace) { Answer::NoData } else { Answer::NxDomain };
        }
        [rest @ .., name, namespace] => (rest, *name, *namespace),
    };
    let Some(found) = source.service(namespace, name) else { return Answer::NxDomain };
    let Some(spec) = &found.spec else { return Answer::NoData };
    if spec.type_.as_deref() == Some("ExternalName") {
        return match (host, &spec.external_name) {
            ([], Some(target)) => Answer::Cname(target.trim_end_matches('.').to_lowercase()),
            _ => Answer::NxDomain,
        };
    }
    let own = format!("{name}.{namespace}.svc.{domain}");
    let cluster_ip = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let publish = spec.publish_not_ready_addresses == Some(true);
    let behind = || endpoints(&source.slices(namespace, name), publish);
    match host {
        [] => match (ask, cluster_ip) {
            (Ask::A, Some(ip)) => Answer::A(vec![ip]),
            (Ask::A, None) => Answer::A(behind().into_iter().map(|(_, ip)| ip).collect()),
            (Ask::Srv, _) => ports(&found, None, cluster_ip, &own, &behind),
            _ => Answer::NoData,
        },
        [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => match ask {
            Ask::Srv => ports(&found, Some((port, protocol)), cluster_ip, &own, &behind),
            _ => Answer::NoData,
        },
        [host] if cluster_ip.is_none() => {
            let ips: Vec<Ipv4Addr> =
                behind().into_iter().filter(|(name, _)| name == host).map(|(_, ip)| ip).collect();
            match (ips.is_empty(), ask) {
                (true, _) => Answer::NxDomain,
                (false, Ask::A) => Answer::A(ips),
                (false, _) => Answer::NoData,
            }
        }
        _ => Answer::NxDomain,
    }
}

fn ports(
    service: &Service,
    only: Option<(&str, &str)>,
    cluster_ip: Option<Ipv4Addr>,
    own: &str,
    behind: &dyn Fn() -> Vec<(String, Ipv4Addr)>,
) -> Answer {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let wanted = ports.filter(|port| {
        only.is_none_or(|(name, protocol)| {
            name.strip_prefix('_') == port.name.as_deref()
                && protocol.strip_prefix('_') == port.protocol.as_deref().map(str::to_lowercase).as_deref()
        })
    });
    let numbers: Vec<u16> = wanted.filter_map(|port| u16::try_from(port.port).ok()).collect();
    if numbers.is_empty() {
        return Answer::NxDomain;
    }
    let targets = match cluster_ip {
        Some(_) => vec![own.to_owned()],
        None => behind().into_iter().map(|(name, _)| format!("{name}.{own}")).collect(),
    };
    let records = targets.iter().flat_map(|target| numbers.iter().map(move |&port| (port, target.clone())));
    Answer::Srv(records.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<Arc<Service>>, Vec<Arc<EndpointSlice>>);

    impl Source for Fixed {
        fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
            let is = |service: &&Arc<Service>| {
                service.metadata.name.as_deref() == Some(name)
                    && service.metadata.namespace.as_deref() == Some(namespace)
            };
            self.0.iter().find(is).cloned()
        }

        fn has_namespace(&self, namespace: &str) -> bool {
            self.0.iter().any(|service| service.metadata.namespace.as_deref() == Some(namespace))
        }

        fn slices(&self, _: &str, _: &str) -> Vec<Arc<EndpointSlice>> {
            self.1.clone()
        }

        fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)> {
            (ip == Ipv4Addr::new(10, 96, 0, 9)).then(|| ("n".to_owned(), "web".to_owned()))
        }
    }

    fn ask(name: &str, ask: Ask) -> Answer {
        let service = |name: &str, spec: serde_json::Value| {
            Arc::new(
                serde_json::from_value(
                    serde_json::json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}),
                )
                .unwrap(),
            )
        };
        let slice = serde_json::json!({"metadata": {"name": "s"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.0.5"], "hostname": "db-0"}, {"addresses": ["10.244.0.6"], "conditions": {"ready": false}}]});
        let source = Fixed(
            vec![
                service(
                    "web",
                    serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
                ),
                service(
                    "db",
                    serde_json::json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}),
                ),
                service("out", serde_json::json!({"type": "ExternalName", "externalName": "example.com."})),
            ],
            vec![Arc::new(serde_json::from_value(slice).unwrap())],
        );
        answer(&source, "cluster.local", name, ask)
    }

    #[test]
    fn names_of_the_specification() {
        let web = Ipv4Addr::new(10, 96, 0, 9);
        let db = Ipv4Addr::new(10, 244, 0, 5);
        let text = |text: &str| text.to_owned();
        let cases = [
            ("web.n.svc.cluster.local", Ask::A, Answer::A(vec![web])),
            ("db.n.svc.cluster.local", Ask::A, Answer::A(vec![db])),
            ("db-0.db.n.svc.cluster.local", Ask::A, Answer::A(vec![db])),
            (
                "_http._tcp.web.n.svc.cluster.local",
                Ask::Srv,
                Answer::Srv(vec![(80, text("web.n.svc.cluster.local"))]),
            ),
            (
                "_sql._tcp.db.n.svc.cluster.local",
                Ask::Srv,
                Answer::Srv(vec![(5432, text("db-0.db.n.svc.cluster.local"))]),
            ),
            ("out.n.svc.cluster.local", Ask::A, Answer::Cname(text("example.com"))),
            ("10-244-0-5.n.pod.cluster.local", Ask::A, Answer::A(vec![db])),
            ("9.0.96.10.in-addr.arpa", Ask::Ptr, Answer::Ptr(text("web.n.svc.cluster.local"))),
            ("web.n.svc.cluster.local", Ask::Other, Answer::NoData),
            ("none.n.svc.cluster.local", Ask::A, Answer::NxDomain),
            ("web.other.svc.cluster.local", Ask::A, Answer::NxDomain),
            ("example.com", Ask::A, Answer::Foreign),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(name, kind), expected, "{name}");
        }
    }
}
