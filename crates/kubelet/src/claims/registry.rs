//! Which drivers are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use tokio::task::AbortHandle;

use super::drivers::Driver;
use super::{Claims, PrepareError, health, slices};
use crate::plugins::Handler;

/// The services that are spoken, the better one first.
const SERVICES: [&str; 2] = ["v1.DRAPlugin", "v1beta1.DRAPlugin"];
/// Between attempts to reach a driver that does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Those that have registered, by name; the newest last.
#[derive(Default)]
pub struct Drivers(BTreeMap<String, Vec<Endpoint>>);

struct Endpoint {
    path: PathBuf,
    driver: Driver,
    /// Whether anybody serves there, as far as is known.
    answers: bool,
    tasks: [AbortHandle; 2],
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drivers {
    /// The driver of a name; one that answers, if there are several.
    ///
    /// # Errors
    /// When none has registered.
    pub fn get(&self, name: &str) -> Result<Driver, PrepareError> {
        let list = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        let best = list.iter().rfind(|endpoint| endpoint.answers).or(list.last());
        best.map(|endpoint| endpoint.driver.clone()).ok_or_else(|| PrepareError::NoDriver(name.to_owned()))
    }

    /// Whether anybody serves under a name.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|list| list.iter().any(|endpoint| endpoint.answers))
    }

    fn add(&mut self, name: &str, endpoint: Endpoint) {
        let list = self.0.entry(name.to_owned()).or_default();
        list.retain(|known| known.path != endpoint.path);
        list.push(endpoint);
    }

    fn remove(&mut self, name: &str, path: &Path) {
        if let Some(list) = self.0.get_mut(name) {
            list.retain(|known| known.path != path);
        }
        self.0.retain(|_, list| !list.is_empty());
    }

    /// Notes whether anybody serves at an endpoint.
    fn note(&mut self, name: &str, path: &Path, answers: bool) {
        let list = self.0.get_mut(name).into_iter().flatten();
        list.filter(|endpoint| endpoint.path == path).for_each(|endpoint| endpoint.answers = answers);
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
        // It may begin to serve only once it is registered.
        let channel = cri::later(endpoint);
        let driver = Driver::new(channel.clone(), service == SERVICES[0]);
        let watch = tokio::spawn(watch(self.0.clone(), name.to_owned(), endpoint.to_owned()));
        let health = tokio::spawn(health::listen(self.0.clone(), name.to_owned(), channel));
        let (path, tasks) = (endpoint.to_owned(), [watch.abort_handle(), health.abort_handle()]);
        self.0.drivers.lock().add(name, Endpoint { path, driver, answers: true, tasks });
        // Whoever is over may have waited for it.
        self.0.left.notify_one();
        Ok(())
    }

    fn deregister(&self, name: &str, endpoint: &Path) {
        self.0.drivers.lock().remove(name, endpoint);
        gone(&self.0, name);
    }
}

/// Somebody does not serve under a name any more; perhaps nobody does.
fn gone(claims: &Arc<Claims>, name: &str) {
    if !claims.drivers.lock().has(name) {
        let (claims, name, tasks) = (claims.clone(), name.to_owned(), claims.tasks.clone());
        tasks.spawn(async move { slices::wipe_later(&claims, &name).await });
    }
}

/// Notices when a driver dies and leaves its socket behind: whoever dies closes his connections.
async fn watch(claims: Arc<Claims>, name: String, endpoint: PathBuf) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut answered = true;
    loop {
        match cri::reach(&endpoint).await {
            Ok(mut stream) => {
                answered = true;
                backoff.reset();
                claims.drivers.lock().note(&name, &endpoint, true);
                // What it says is of no interest; a server that only tires of an idle connection is asked again.
                let said = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                tracing::trace!(name, ?said, "a connection to a driver has ended");
            }
            Err(error) if answered => {
                answered = false;
                tracing::warn!(name, endpoint = %endpoint.display(), %error, "a driver does not answer any more");
                claims.drivers.lock().note(&name, &endpoint, false);
                gone(&claims, &name);
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff.next_pause()).await;
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
