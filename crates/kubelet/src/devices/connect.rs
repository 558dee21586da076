//! One plugin: what it wants to be asked, and the stream of its devices.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cri::device_plugin as wire;
use tonic::transport::Channel;
use wire::device_plugin_client::DevicePluginClient;

use super::Devices;
use super::state::Options;
use crate::counts::table;

/// Lists of many devices outgrow tonic's 4 MiB.
const MAX_MESSAGE: usize = 16 << 20;
/// The version that is spoken.
const VERSION: &str = "v1beta1";

/// Why a plugin is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It speaks another version.
    #[error("requested API version {0:?} is not supported by kubelet. Supported version is [{VERSION:?}]")]
    Version(String),
    /// It provides what no plugin can.
    #[error("the ResourceName {0:?} is invalid")]
    Name(String),
    /// Nobody answers at its socket.
    #[error("failed to dial device plugin: {0}")]
    Dial(#[from] cri::ConnectError),
    /// It does not say what it wants.
    #[error("failed to get device plugin options: {}", crate::plugins::described(.0))]
    Options(#[source] tonic::Status),
}

/// The plugins that are connected, by resource.
#[derive(Default)]
pub struct Plugins {
    by_resource: HashMap<String, Plugin>,
    connections: u64,
}

struct Plugin {
    client: DevicePluginClient<Channel>,
    connection: u64,
}

impl Plugins {
    /// A resource's plugin.
    pub fn client(&self, resource: &str) -> Option<DevicePluginClient<Channel>> {
        self.by_resource.get(resource).map(|plugin| plugin.client.clone())
    }
}

/// Whether a plugin that says this of itself is taken.
///
/// # Errors
/// [`ConnectError::Version`] and [`ConnectError::Name`].
pub fn validate(resource: &str, versions: &[String]) -> Result<(), ConnectError> {
    if !versions.iter().any(|version| version == VERSION) {
        return Err(ConnectError::Version(versions.join(", ")));
    }
    match is_extended(resource) {
        true => Ok(()),
        false => Err(ConnectError::Name(resource.to_owned())),
    }
}

/// Whether a resource belongs to somebody's domain other than Kubernetes'.
pub fn is_extended(name: &str) -> bool {
    let is_label = |text: &str, more: &[char]| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let fine = |c: char| c.is_ascii_alphanumeric() || more.contains(&c);
        ends(text.chars().next()) && ends(text.chars().last()) && text.chars().all(fine)
    };
    let Some((domain, rest)) = name.split_once('/') else { return false };
    let native = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    // "requests." before it has to fit, too.
    !native
        && !name.starts_with("requests.")
        && domain.len() + "requests.".len() <= 253
        && domain.split('.').all(|part| is_label(part, &['-']) && part == part.to_ascii_lowercase())
        && rest.len() <= 63
        && is_label(rest, &['-', '_', '.'])
}

impl Devices {
    /// Connects to a plugin and follows its devices until it goes. One that comes again takes the place of the first.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(self: &Arc<Self>, resource: &str, socket: &Path) -> Result<(), ConnectError> {
        let channel = cri::channel(&format!("unix://{}", socket.display())).await?;
        let mut client = DevicePluginClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let options =
            client.get_device_plugin_options(wire::Empty {}).await.map_err(ConnectError::Options)?;
        let options = options.into_inner();
        let options = Options {
            pre_start: options.pre_start_required,
            preferred: options.get_preferred_allocation_available,
        };
        self.meter.counts.count(&table::DEVICE_REGISTRATIONS, &[resource]);
        tracing::info!(resource, socket = %socket.display(), "a device plugin has registered");
        let connection = {
            let mut plugins = self.plugins.lock();
            plugins.connections += 1;
            let connection = plugins.connections;
            plugins.by_resource.insert(resource.to_owned(), Plugin { client: client.clone(), connection });
            connection
        };
        self.state.lock().begin(resource, options);
        let (devices, resource) = (self.clone(), resource.to_owned());
        self.tasks.spawn(async move {
            if let Err(status) = devices.follow(&resource, connection, client).await {
                let why = crate::plugins::described(&status);
                tracing::warn!(resource, why, "a device plugin has gone");
            }
            devices.disconnect(&resource, Some(connection));
        });
        Ok(())
    }

    async fn follow(
        &self,
        resource: &str,
        connection: u64,
        mut client: DevicePluginClient<Channel>,
    ) -> Result<(), tonic::Status> {
        let mut stream = client.list_and_watch(wire::Empty {}).await?.into_inner();
        while let Some(list) = stream.message().await? {
            if !self.is_current(resource, connection) {
                return Ok(());
            }
            let uids = self.state.lock().update(resource, list.devices);
            self.told(uids);
        }
        Err(tonic::Status::unavailable("its list of devices has ended"))
    }

    fn is_current(&self, resource: &str, connection: u64) -> bool {
        let plugins = self.plugins.lock();
        plugins.by_resource.get(resource).is_some_and(|plugin| plugin.connection == connection)
    }

    /// A plugin is gone, or only one of its connections, if another has not taken its place.
    pub fn disconnect(&self, resource: &str, connection: Option<u64>) {
        if connection.is_some_and(|connection| !self.is_current(resource, connection)) {
            return;
        }
        if self.plugins.lock().by_resource.remove(resource).is_some() {
            let uids = self.state.lock().stop(resource, self.meter.clock.monotonic());
            self.told(uids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources_have_a_domain_of_their_own() {
        for (name, fine) in [
            ("example.com/gpu", true),
            ("gpu", false),
            ("kubernetes.io/gpu", false),
            ("a.kubernetes.io/gpu", false),
            ("notkubernetes.io/gpu", true),
            ("requests.example.com/gpu", false),
            ("example.com/gpu/1", false),
            ("example.com/", false),
            ("Example.com/gpu", false),
        ] {
            assert_eq!(is_extended(name), fine, "{name}");
        }
        let error = validate("example.com/gpu", &["v1".to_owned()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"requested API version "v1" is not supported by kubelet. Supported version is ["v1beta1"]"#
        );
    }
}
