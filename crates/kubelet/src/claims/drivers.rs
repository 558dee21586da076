//! Drivers of dynamic resources: who is there, and what they are asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::{dra_v1, dra_v1beta1};
use dra_v1::dra_plugin_client::DraPluginClient;
use dra_v1beta1::dra_plugin_client::DraPluginClient as OldClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::state::Device;
use super::{Claims, PrepareError, slices};
use crate::plugins::Handler;

/// Upstream's limit of a call.
const CALL: Duration = Duration::from_secs(45);
/// The services that are spoken, the better one first.
const SERVICES: [&str; 2] = ["v1.DRAPlugin", "v1beta1.DRAPlugin"];

/// How a driver is spoken with.
#[derive(Clone)]
pub enum Driver {
    V1(DraPluginClient<Channel>),
    V1Beta1(OldClient<Channel>),
}

/// Those that have registered, by name; the newest last.
#[derive(Default)]
pub struct Drivers(BTreeMap<String, Vec<(PathBuf, Driver)>>);

impl Drivers {
    /// The driver of a name.
    ///
    /// # Errors
    /// When it has not registered.
    pub fn get(&self, name: &str) -> Result<Driver, PrepareError> {
        let newest = self.0.get(name).and_then(|list| list.last());
        newest.map(|(_, driver)| driver.clone()).ok_or_else(|| PrepareError::NoDriver(name.to_owned()))
    }

    /// Whether anybody has registered under a name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
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

fn choose(versions: &[String]) -> Result<&'static str, String> {
    if versions.is_empty() {
        return Err("empty list of supported gRPC services (aka supported versions)".to_owned());
    }
    let known = SERVICES.into_iter().find(|service| versions.iter().any(|version| version == service));
    known.ok_or_else(|| {
        format!(
            "none of the DRA gRPC services supported by the kubelet ({}) is in [{}]",
            SERVICES.join(", "),
            versions.join(" ")
        )
    })
}

/// Takes drivers that register.
pub struct Registered(pub Arc<Claims>);

#[tonic::async_trait]
impl Handler for Registered {
    fn validate(&self, name: &str, versions: &[String]) -> Result<(), String> {
        let wrong = |why| format!("invalid supported gRPC versions of DRA driver plugin {name}: {why}");
        choose(versions).map(drop).map_err(wrong)
    }

    async fn register(&self, name: &str, endpoint: &Path, versions: &[String]) -> Result<(), String> {
        let service = choose(versions)?;
        let channel = cri::channel(&format!("unix://{}", endpoint.display())).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let driver = match service == SERVICES[0] {
            true => Driver::V1(DraPluginClient::new(channel)),
            false => Driver::V1Beta1(OldClient::new(channel)),
        };
        let mut drivers = self.0.drivers.lock();
        let list = drivers.0.entry(name.to_owned()).or_default();
        list.retain(|(known, _)| known != endpoint);
        list.push((endpoint.to_owned(), driver));
        drop(drivers);
        // Whoever is over may have waited for it.
        self.0.left.notify_one();
        Ok(())
    }

    fn deregister(&self, name: &str, endpoint: &Path) {
        let mut drivers = self.0.drivers.lock();
        let Some(list) = drivers.0.get_mut(name) else { return };
        list.retain(|(known, _)| known != endpoint);
        if list.is_empty() {
            drivers.0.remove(name);
            drop(drivers);
            let (claims, name) = (self.0.clone(), name.to_owned());
            self.0.tasks.spawn(async move { slices::wipe_later(&claims, &name).await });
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_best_service_is_chosen() {
        let choose = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|&name| name.to_owned()).collect();
            super::choose(&list)
        };
        assert_eq!(choose(&["v1beta1.DRAPlugin", "v1.DRAPlugin"]).unwrap(), "v1.DRAPlugin");
        assert_eq!(choose(&["v1beta1.DRAPlugin"]).unwrap(), "v1beta1.DRAPlugin");
        assert!(choose(&["1.0.0"]).is_err() && choose(&[]).is_err());
    }
}
