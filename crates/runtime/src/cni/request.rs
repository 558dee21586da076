//! What plugins are told of a pod, as containerd tells them. Pure.

use cri::v1::{PortMapping, Protocol};
use serde_json::{Map, Value, json};

use crate::bandwidth::Bandwidth;
use crate::network::{NetworkError, SandboxMeta};

/// The value of `CNI_ARGS`.
pub fn args(pod: &SandboxMeta) -> Vec<(String, String)> {
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.id),
        ("K8S_POD_UID", &pod.uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// As it stands in the environment.
pub fn joined(args: &[(String, String)]) -> String {
    args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}

/// What plugins get that declare the capability of the name.
pub fn capabilities(pod: &SandboxMeta, cidrs: &[String]) -> Result<Map<String, Value>, NetworkError> {
    let mut given = Map::new();
    let ports: Vec<Value> = pod.ports.iter().filter(|port| port.host_port > 0).map(port_mapping).collect();
    if !ports.is_empty() {
        given.insert("portMappings".into(), ports.into());
    }
    let bandwidth = Bandwidth::of(&pod.annotations)?;
    if bandwidth != Bandwidth::default() {
        given.insert("bandwidth".into(), bandwidth_of(bandwidth));
    }
    if let Some(dns) = &pod.dns {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        given.insert("dns".into(), dns);
    }
    if !cidrs.is_empty() {
        let ranges: Vec<Value> = cidrs.iter().map(|cidr| json!([{"subnet": cidr}])).collect();
        given.insert("ipRanges".into(), ranges.into());
    }
    if !pod.cgroup_parent.is_empty() {
        given.insert("cgroupPath".into(), pod.cgroup_parent.clone().into());
    }
    let annotations: Map<String, Value> =
        pod.annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    given.insert("io.kubernetes.cri.pod-annotations".into(), annotations.into());
    Ok(given)
}

fn port_mapping(port: &PortMapping) -> Value {
    let protocol = match port.protocol() {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    json!({"hostPort": port.host_port, "containerPort": port.container_port, "protocol": protocol,
        "hostIP": port.host_ip})
}

fn bandwidth_of(bandwidth: Bandwidth) -> Value {
    let mut value = Map::new();
    // The burst is that of containerd: in practice none at all is held back.
    for (name, rate) in [("ingress", bandwidth.ingress), ("egress", bandwidth.egress)] {
        if let Some(rate) = rate {
            value.insert(format!("{name}Rate"), rate.into());
            value.insert(format!("{name}Burst"), u32::MAX.into());
        }
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_told_what_containerd_tells_them() {
        let pod = SandboxMeta {
            id: "i".into(),
            name: "web".into(),
            namespace: "shop".into(),
            uid: "u".into(),
            annotations: vec![("kubernetes.io/ingress-bandwidth".into(), "1M".into())],
            ports: vec![
                PortMapping { host_port: 80, container_port: 8080, ..PortMapping::default() },
                PortMapping { container_port: 9, ..PortMapping::default() },
            ],
            cgroup_parent: "/kubepods/pod1".into(),
            ..SandboxMeta::default()
        };
        assert_eq!(
            joined(&args(&pod)),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=i;K8S_POD_UID=u"
        );
        let given = capabilities(&pod, &["10.1.0.0/24".into(), "fd00::/64".into()]).unwrap();
        assert_eq!(
            Value::Object(given),
            json!({
                "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": ""}],
                "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": u32::MAX},
                "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]],
                "cgroupPath": "/kubepods/pod1",
                "io.kubernetes.cri.pod-annotations": {"kubernetes.io/ingress-bandwidth": "1M"},
            })
        );
    }
}
