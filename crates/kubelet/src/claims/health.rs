//! How the devices of claims are, as their drivers tell (KEP-4680).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cri::dra_health as wire;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceHealth, ResourceStatus};
use tonic::Code;
use tonic::transport::Channel;
use wire::dra_resource_health_client::DraResourceHealthClient;

use super::state::{Device, State};
use super::{Claims, names};
use crate::pods::spec::PodExt;

/// How long a driver's word holds, if it says nothing else.
const HOLDS: Duration = Duration::from_secs(30);
/// Between attempts to listen to a driver.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    health: &'static str,
    until: Duration,
}

/// What drivers told last: by driver, pool and device.
#[derive(Debug, Default)]
pub struct Health(BTreeMap<(String, String, String), Word>);

impl Health {
    /// A driver tells how all of its devices are; those that are different now, by pool and name.
    fn told(
        &mut self,
        driver: &str,
        devices: Vec<wire::DeviceHealth>,
        now: Duration,
    ) -> BTreeSet<(String, String)> {
        let mut changed = BTreeSet::new();
        for one in devices {
            let Some(device) = one.device else { continue };
            let health = match wire::HealthStatus::try_from(one.health) {
                Ok(wire::HealthStatus::Healthy) => "Healthy",
                Ok(wire::HealthStatus::Unhealthy) => "Unhealthy",
                _ => "Unknown",
            };
            let holds = u64::try_from(one.health_check_timeout_seconds).ok().filter(|seconds| *seconds > 0);
            let until = now.saturating_add(holds.map_or(HOLDS, Duration::from_secs));
            let (pool, name) = (device.pool_name, device.device_name);
            let known = self.of(driver, &pool, &name, now);
            if known != health {
                changed.insert((pool.clone(), name.clone()));
            }
            self.0.insert((driver.to_owned(), pool, name), Word { health, until });
        }
        changed
    }

    /// Nobody tells how a driver's devices are any more; which they are.
    fn forget(&mut self, driver: &str) -> BTreeSet<(String, String)> {
        let of_driver = self.0.keys().filter(|(known, ..)| known == driver);
        let gone = of_driver.map(|(_, pool, name)| (pool.clone(), name.clone())).collect();
        self.0.retain(|(known, ..), _| known != driver);
        gone
    }

    fn of(&self, driver: &str, pool: &str, device: &str, now: Duration) -> &'static str {
        let key = (driver.to_owned(), pool.to_owned(), device.to_owned());
        self.0.get(&key).filter(|word| now <= word.until).map_or("Unknown", |word| word.health)
    }

    /// What the status of a container says of its claims.
    pub fn of_container(
        &self,
        state: &State,
        pod: &Pod,
        container: &Container,
        now: Duration,
    ) -> Vec<ResourceStatus> {
        let asked = container.resources.iter().flat_map(|resources| resources.claims.iter().flatten());
        let one = |ask: &k8s_openapi::api::core::v1::ResourceClaim| {
            let object = names::of_claim(pod, &ask.name)?;
            let request = ask.request.clone().unwrap_or_default();
            let devices = state.get(pod.namespace(), &object)?.prepared(&request).devices;
            let name = match request.is_empty() {
                true => format!("claim:{}", ask.name),
                false => format!("claim:{}/{request}", ask.name),
            };
            let health = |(driver, device): (String, Device)| {
                let health = self.of(&driver, &device.pool, &device.name, now).to_owned();
                let plain = format!("{driver}/{}/{}", device.pool, device.name);
                let id = device.cdi.first().cloned().unwrap_or(plain);
                (id, health)
            };
            let all: BTreeMap<String, String> = devices.into_iter().map(health).collect();
            let resources = all.into_iter().map(|(resource_id, health)| ResourceHealth {
                resource_id,
                health: Some(health),
                ..ResourceHealth::default()
            });
            Some(ResourceStatus { name, resources: Some(resources.collect()) })
        };
        asked.filter_map(one).collect()
    }
}

/// Listens to a driver, if it tells how its devices are.
pub async fn listen(claims: Arc<Claims>, driver: String, channel: Channel) {
    let mut client = DraResourceHealthClient::new(channel);
    loop {
        match client.node_watch_resources(wire::NodeWatchResourcesRequest {}).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                while let Ok(Some(told)) = stream.message().await {
                    let now = claims.meter.clock.monotonic();
                    let changed = claims.health.lock().told(&driver, told.devices, now);
                    claims.concern(&driver, &changed);
                }
                let gone = claims.health.lock().forget(&driver);
                claims.concern(&driver, &gone);
            }
            // Most do not.
            Err(status) if status.code() == Code::Unimplemented => return,
            Err(status) => tracing::debug!(driver, %status, "a driver does not tell how its devices are"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_for_a_while() {
        let told = |health: wire::HealthStatus, seconds| wire::DeviceHealth {
            device: Some(wire::DeviceIdentifier { pool_name: "p".into(), device_name: "d".into() }),
            health: health.into(),
            health_check_timeout_seconds: seconds,
            ..Default::default()
        };
        let at = Duration::from_secs;
        let mut health = Health::default();
        assert_eq!(health.told("x", vec![told(wire::HealthStatus::Healthy, 0)], at(0)).len(), 1);
        assert_eq!(health.told("x", vec![told(wire::HealthStatus::Healthy, 0)], at(20)).len(), 0);
        assert_eq!(
            (health.of("x", "p", "d", at(50)), health.of("x", "p", "d", at(51))),
            ("Healthy", "Unknown")
        );
        assert_eq!(health.told("x", vec![told(wire::HealthStatus::Unhealthy, 100)], at(60)).len(), 1);
        assert_eq!(
            (health.of("x", "p", "d", at(160)), health.of("y", "p", "d", at(60))),
            ("Unhealthy", "Unknown")
        );
        assert_eq!(health.forget("x").len(), 1);
        assert_eq!(health.of("x", "p", "d", at(60)), "Unknown");
    }
}
