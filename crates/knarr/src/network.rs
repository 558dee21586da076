//! The built-in network of pods, as container runtimes ask for it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use cri::v1::{PortMapping, Protocol};
use net::pod::{PodLinks, Wish};
use net::ports::plan as ports;
use net::shape::{Limit, Limits};
use runtime::{Bandwidth, NetworkError, PodIps, PodNetwork, SandboxMeta};

/// Pods by routed links.
pub struct Network(PodLinks);

impl Network {
    /// What pods have is remembered in `dir`.
    ///
    /// # Errors
    /// When what is remembered there cannot be read.
    pub fn new(dir: PathBuf) -> anyhow::Result<Self> {
        Ok(Self(PodLinks::new(dir)?))
    }
}

fn failed(error: net::error::NetError) -> NetworkError {
    NetworkError::because(error.to_string())
}

fn wish(netns: &Path, pod: &SandboxMeta) -> Result<Wish, NetworkError> {
    let Bandwidth { ingress, egress } = Bandwidth::of(&pod.annotations)?;
    let ports = pod.ports.iter().filter(|port| port.host_port > 0).map(host_port);
    Ok(Wish {
        netns: netns.to_owned(),
        owner: pod.id.clone(),
        interface: "eth0".to_owned(),
        ports: ports.collect::<Result<_, _>>()?,
        limits: Limits { ingress: ingress.map(Limit::of), egress: egress.map(Limit::of) },
    })
}

fn host_port(mapping: &PortMapping) -> Result<ports::HostPort, NetworkError> {
    let invalid =
        |what: &str| NetworkError::because(format!("host port {}: its {what} is none", mapping.host_port));
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    let address = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("address"))?),
    };
    Ok(ports::HostPort {
        protocol: match mapping.protocol() {
            Protocol::Tcp => ports::Protocol::Tcp,
            Protocol::Udp => ports::Protocol::Udp,
            Protocol::Sctp => ports::Protocol::Sctp,
        },
        address,
        port: number(mapping.host_port).ok_or_else(|| invalid("number"))?,
        target: number(mapping.container_port).ok_or_else(|| invalid("container port"))?,
    })
}

#[async_trait]
impl PodNetwork for Network {
    async fn setup(&self, netns: &Path, pod: &SandboxMeta) -> Result<PodIps, NetworkError> {
        self.0.setup(&wish(netns, pod)?).await.map(PodIps).map_err(failed)
    }

    async fn teardown(&self, _: &Path, pod: &SandboxMeta) -> Result<(), NetworkError> {
        self.0.teardown(&pod.id).await.map_err(failed)
    }

    fn set_pod_cidr(&self, cidr: &str) {
        if let Err(error) = self.0.set_cidr(cidr) {
            tracing::error!(%error, "the node's pod network was not taken over");
        }
    }

    async fn ready(&self) -> Result<(), String> {
        if self.0.has_cidr() { Ok(()) } else { Err("the node has no pod network yet".to_owned()) }
    }

    async fn check(&self, netns: &Path, pod: &SandboxMeta) -> Result<(), NetworkError> {
        self.0.check(&wish(netns, pod)?).await.map_err(failed)
    }

    async fn collect(&self, sandboxes: &[String]) -> Result<(), NetworkError> {
        self.0.keep(sandboxes).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_wants_is_taken_from_its_sandbox() {
        let mapping = |host_port, container_port, host_ip: &str| PortMapping {
            protocol: Protocol::Sctp as i32,
            container_port,
            host_port,
            host_ip: host_ip.into(),
        };
        let pod = SandboxMeta {
            id: "a".into(),
            annotations: vec![("kubernetes.io/egress-bandwidth".into(), "1M".into())],
            ports: vec![mapping(0, 80, ""), mapping(8080, 80, "127.0.0.1")],
            ..SandboxMeta::default()
        };
        let wish = wish(Path::new("/n"), &pod).unwrap();
        assert_eq!(wish.limits, Limits { ingress: None, egress: Some(Limit::of(1_000_000)) });
        let address = Some("127.0.0.1".parse().unwrap());
        let port = ports::HostPort { protocol: ports::Protocol::Sctp, address, port: 8080, target: 80 };
        assert_eq!(wish.ports, [port]);
        for bad in [mapping(70_000, 80, ""), mapping(80, 0, ""), mapping(80, 80, "here")] {
            assert!(host_port(&bad).is_err(), "{bad:?}");
        }
    }
}
