//! What drivers of dynamic resources are asked, in either version.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::{dra_v1, dra_v1beta1};
use dra_v1::dra_plugin_client::DraPluginClient;
use dra_v1beta1::dra_plugin_client::DraPluginClient as OldClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::state::Device;

/// Upstream's limit of a call.
const CALL: Duration = Duration::from_secs(45);

/// How a driver is spoken with.
#[derive(Clone)]
pub enum Driver {
    V1(DraPluginClient<Channel>),
    V1Beta1(OldClient<Channel>),
}

/// A claim as drivers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub namespace: String,
    pub uid: String,
    pub name: String,
}

/// What came of each claim, by its uid.
pub type Answers<T> = BTreeMap<String, Result<T, String>>;

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

fn result<T>(value: T, error: String) -> Result<T, String> {
    if error.is_empty() { Ok(value) } else { Err(error) }
}

/// Claims in the words of a version; both are the same but in name.
macro_rules! asked {
    ($wire:ident, $claims:expr) => {{
        let claim = |asked: &Asked| $wire::Claim {
            namespace: asked.namespace.clone(),
            uid: asked.uid.clone(),
            name: asked.name.clone(),
        };
        $claims.iter().map(claim).collect::<Vec<_>>()
    }};
}

impl Driver {
    /// Speaks the newer version, or the older one.
    pub fn new(channel: Channel, is_v1: bool) -> Self {
        match is_v1 {
            true => Self::V1(DraPluginClient::new(channel)),
            false => Self::V1Beta1(OldClient::new(channel)),
        }
    }

    /// The version that it speaks.
    pub fn version(&self) -> &'static str {
        match self {
            Self::V1(_) => "v1",
            Self::V1Beta1(_) => "v1beta1",
        }
    }

    /// Has claims prepared; their devices.
    pub async fn prepare(&mut self, claims: &[Asked]) -> Result<Answers<Vec<Device>>, Status> {
        match self {
            Self::V1(client) => {
                let claims = asked!(dra_v1, claims);
                let message = within(dra_v1::NodePrepareResourcesRequest { claims });
                let answer = client.node_prepare_resources(message).await?.into_inner();
                let device = |one: dra_v1::Device| Device {
                    pool: one.pool_name,
                    name: one.device_name,
                    share: one.share_id,
                    requests: one.request_names,
                    cdi: one.cdi_device_ids,
                };
                let one = |(uid, of): (String, dra_v1::NodePrepareResourceResponse)| {
                    (uid, result(of.devices.into_iter().map(device).collect(), of.error))
                };
                Ok(answer.claims.into_iter().map(one).collect())
            }
            Self::V1Beta1(client) => {
                let claims = asked!(dra_v1beta1, claims);
                let message = within(dra_v1beta1::NodePrepareResourcesRequest { claims });
                let answer = client.node_prepare_resources(message).await?.into_inner();
                let device = |one: dra_v1beta1::Device| Device {
                    pool: one.pool_name,
                    name: one.device_name,
                    share: None,
                    requests: one.request_names,
                    cdi: one.cdi_device_ids,
                };
                let one = |(uid, of): (String, dra_v1beta1::NodePrepareResourceResponse)| {
                    (uid, result(of.devices.into_iter().map(device).collect(), of.error))
                };
                Ok(answer.claims.into_iter().map(one).collect())
            }
        }
    }

    /// Gives claims back.
    pub async fn unprepare(&mut self, claims: &[Asked]) -> Result<Answers<()>, Status> {
        match self {
            Self::V1(client) => {
                let claims = asked!(dra_v1, claims);
                let message = within(dra_v1::NodeUnprepareResourcesRequest { claims });
                let answer = client.node_unprepare_resources(message).await?.into_inner();
                Ok(answer.claims.into_iter().map(|(uid, of)| (uid, result((), of.error))).collect())
            }
            Self::V1Beta1(client) => {
                let claims = asked!(dra_v1beta1, claims);
                let message = within(dra_v1beta1::NodeUnprepareResourcesRequest { claims });
                let answer = client.node_unprepare_resources(message).await?.into_inner();
                Ok(answer.claims.into_iter().map(|(uid, of)| (uid, result((), of.error))).collect())
            }
        }
    }
}
