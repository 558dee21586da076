//! Who gives a pod its network.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use async_trait::async_trait;
use cri::v1::{DnsConfig, PortMapping};

use crate::sys::namespace;

/// The pod, as a network needs to know it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SandboxMeta {
    /// The sandbox's id.
    pub id: String,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID.
    pub uid: String,
    /// The pod's annotations, which may ask for bandwidth.
    pub annotations: Vec<(String, String)>,
    /// Ports of the node that are to lead to the pod's.
    pub ports: Vec<PortMapping>,
    /// How the pod resolves names.
    pub dns: Option<DnsConfig>,
    /// The pod's cgroup, as the kubelet names it; may be empty.
    pub cgroup_parent: String,
}

/// A pod's addresses, the primary one first. None for a pod that only has its loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIps(pub Vec<IpAddr>);

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
#[error("pod network: {message}")]
pub struct NetworkError {
    /// What failed.
    pub message: String,
    /// Why.
    pub source: Option<io::Error>,
}

impl NetworkError {
    /// One that needs no further reason.
    pub fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }
}

/// Gives pods their network, host ports included, and takes it away again. The namespace exists before `setup` and still
/// exists during `teardown`, except after a restart of the machine.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the namespace that is pinned at `netns`. Doing it again changes nothing.
    async fn setup(&self, netns: &Path, pod: &SandboxMeta) -> Result<PodIps, NetworkError>;

    /// Disconnects it and frees its addresses. Doing it again, or without `setup`, is no error.
    async fn teardown(&self, netns: &Path, pod: &SandboxMeta) -> Result<(), NetworkError>;

    /// The node's range of pod addresses, as the kubelet learnt it.
    fn set_pod_cidr(&self, cidr: &str);

    /// Whether pods can be connected; if not, why.
    async fn ready(&self) -> Result<(), String>;

    /// Looks whether a pod is still connected as it was.
    async fn check(&self, _netns: &Path, _pod: &SandboxMeta) -> Result<(), NetworkError> {
        Ok(())
    }

    /// Frees what sandboxes hold that are not among these. Called once, before any sandbox is made.
    async fn collect(&self, _sandboxes: &[String]) -> Result<(), NetworkError> {
        Ok(())
    }
}

/// Pods that only have their loopback.
#[derive(Debug, Default)]
pub struct Loopback;

#[async_trait]
impl PodNetwork for Loopback {
    async fn setup(&self, netns: &Path, _pod: &SandboxMeta) -> Result<PodIps, NetworkError> {
        loopback(netns).await?;
        Ok(PodIps::default())
    }

    async fn teardown(&self, _netns: &Path, _pod: &SandboxMeta) -> Result<(), NetworkError> {
        Ok(())
    }

    fn set_pod_cidr(&self, _cidr: &str) {}

    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Brings a pod's loopback up.
pub(crate) async fn loopback(netns: &Path) -> Result<(), NetworkError> {
    let netns = netns.to_owned();
    let done =
        tokio::task::spawn_blocking(move || namespace::in_network(&netns, namespace::loopback_up)).await;
    let failed = |source| NetworkError { message: "bringing loopback up".into(), source: Some(source) };
    done.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)
}
