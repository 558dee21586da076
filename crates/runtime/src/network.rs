//! Who gives a pod its network.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use async_trait::async_trait;

use crate::sys::namespace;

/// The pod, as a network needs to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// Gives pods their network and takes it away again. The namespace exists before `setup` and still
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
    fn ready(&self) -> Result<(), String>;
}

/// Pods that only have their loopback.
#[derive(Debug, Default)]
pub struct Loopback;

#[async_trait]
impl PodNetwork for Loopback {
    async fn setup(&self, netns: &Path, _pod: &SandboxMeta) -> Result<PodIps, NetworkError> {
        let netns = netns.to_owned();
        let done =
            tokio::task::spawn_blocking(move || namespace::in_network(&netns, namespace::loopback_up)).await;
        let failed = |source| NetworkError { message: "bringing loopback up".into(), source: Some(source) };
        done.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)?;
        Ok(PodIps::default())
    }

    async fn teardown(&self, _netns: &Path, _pod: &SandboxMeta) -> Result<(), NetworkError> {
        Ok(())
    }

    fn set_pod_cidr(&self, _cidr: &str) {}

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
