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

/// The longest that a driver's sentence about a device may be, in bytes.
const LONGEST: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    health: &'static str,
    /// A sentence about it; empty for none.
    message: String,
    until: Duration,
}

/// A sentence that is too long ends in dots.
fn shortened(mut message: String) -> String {
    const DOTS: &str = "...";
    if message.len() > LONGEST {
        let mut end = LONGEST - DOTS.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(DOTS);
    }
    message
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
            let message = shortened(one.message);
            if self.of(driver, &pool, &name, now) != (health, message.as_str()) {
                changed.insert((pool.clone(), name.clone()));
            }
            self.0.insert((driver.to_owned(), pool, name), Word { health, message, until });
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

    /// How a device is, and the sentence about it.
    fn of(&self, driver: &str, pool: &str, device: &str, now: Duration) -> (&'static str, &str) {
        let key = (driver.to_owned(), pool.to_owned(), device.to_owned());
        let word = self.0.get(&key).filter(|word| now <= word.until);
        word.map_or(("Unknown", ""), |word| (word.health, word.message.as_str()))
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
                let (health, message) = self.of(&driver, &device.pool, &device.name, now);
                let message = Some(message.to_owned()).filter(|message| !message.is_empty());
                let plain = format!("{driver}/{}/{}", device.pool, device.name);
                let id = device.cdi.first().cloned().unwrap_or(plain);
                let health = Some(health.to_owned());
                (id.clone(), ResourceHealth { resource_id: id, health, message })
            };
            let all: BTreeMap<String, ResourceHealth> = devices.into_iter().map(health).collect();
            Some(ResourceStatus { name, resources: Some(all.into_values().collect()) })
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
            (health.of("x", "p", "d", at(50)).0, health.of("x", "p", "d", at(51)).0),
            ("Healthy", "Unknown")
        );
        assert_eq!(health.told("x", vec![told(wire::HealthStatus::Unhealthy, 100)], at(60)).len(), 1);
        assert_eq!(
            (health.of("x", "p", "d", at(160)).0, health.of("y", "p", "d", at(60)).0),
            ("Unhealthy", "Unknown")
        );
        assert_eq!(health.forget("x").len(), 1);
        assert_eq!(health.of("x", "p", "d", at(60)), ("Unknown", ""));
    }

    #[test]
    fn another_sentence_is_a_change_and_a_long_one_is_cut() {
        let told = |message: &str| wire::DeviceHealth {
            device: Some(wire::DeviceIdentifier { pool_name: "p".into(), device_name: "d".into() }),
            health: wire::HealthStatus::Unhealthy.into(),
            message: message.to_owned(),
            ..Default::default()
        };
        let at = Duration::from_secs;
        let mut health = Health::default();
        assert_eq!(health.told("x", vec![told("hot: 90 °C")], at(0)).len(), 1);
        assert_eq!(health.told("x", vec![told("hot: 90 °C")], at(1)).len(), 0);
        assert_eq!(health.of("x", "p", "d", at(1)), ("Unhealthy", "hot: 90 °C"));
        let long = "°".repeat(600);
        assert_eq!(health.told("x", vec![told(&long)], at(2)).len(), 1);
        let (_, cut) = health.of("x", "p", "d", at(2));
        assert!(cut.len() <= LONGEST && cut.ends_with("°..."), "{cut}");
    }
}
