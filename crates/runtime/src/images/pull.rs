//! Images from a registry.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use cri::v1::AuthConfig;
use futures::TryStreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::layer::Layer;
use super::store::{self, Incoming};
use super::{ARCHITECTURE, ImageError, Name, Store};
use crate::config::Registries;

/// What a manifest or an index points to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's digest.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub size: i64,
    /// Names and notes.
    pub annotations: HashMap<String, String>,
    /// For which machine it is.
    pub platform: Option<Platform>,
}

/// For which machine something is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// As Go calls it.
    pub architecture: String,
    /// As Go calls it.
    pub os: String,
    /// Of the architecture.
    pub variant: String,
}

/// A manifest or an index, whichever the fields say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Manifest {
    /// The configuration, in a manifest.
    pub config: Option<Descriptor>,
    /// The layers, in a manifest.
    pub layers: Vec<Descriptor>,
    /// The manifests, in an index.
    pub manifests: Vec<Descriptor>,
}

const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Who asks.
#[derive(Debug, Clone)]
pub struct Auth(RegistryAuth);

impl Auth {
    /// From what the kubelet found in a pull secret.
    pub fn from_cri(auth: Option<&AuthConfig>) -> Result<Self, ImageError> {
        let Some(auth) = auth else { return Ok(Self(RegistryAuth::Anonymous)) };
        if !auth.registry_token.is_empty() {
            return Ok(Self(RegistryAuth::Bearer(auth.registry_token.clone())));
        }
        if !auth.username.is_empty() {
            return Ok(Self(RegistryAuth::Basic(auth.username.clone(), auth.password.clone())));
        }
        if auth.auth.is_empty() {
            return Ok(Self(RegistryAuth::Anonymous));
        }
        let malformed =
            |reason: String| ImageError::Malformed { what: "the pull secret's auth".into(), reason };
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .map_err(|e| malformed(e.to_string()))?;
        let text = String::from_utf8(decoded).map_err(|e| malformed(e.to_string()))?;
        let (user, password) = text.split_once(':').ok_or_else(|| malformed("it has no colon".into()))?;
        Ok(Self(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned())))
    }
}

/// The manifest for this machine.
pub fn choose_platform(manifests: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == ARCHITECTURE)
    };
    // An index of one that names no platform leaves no choice.
    manifests
        .iter()
        .find(fits)
        .or_else(|| manifests.first().filter(|only| manifests.len() == 1 && only.platform.is_none()))
        .ok_or(ImageError::Platform(ARCHITECTURE))
}

/// Fetches an image, mirrors first, and gives it back once it is complete.
pub async fn pull(
    store: &Store,
    registries: &Registries,
    name: &Name,
    auth: &Auth,
) -> Result<store::Image, ImageError> {
    let mut failure = None;
    for registry in candidates(registries, name) {
        match (Puller {
            store,
            name,
            auth,
            registry: registry.clone(),
            client: client(registries, name, &registry),
        })
        .run()
        .await
        {
            Ok(image) => return Ok(image),
            Err(error @ (ImageError::Store { .. } | ImageError::Unpack { .. })) => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    // The last one asked is the image's own registry, whose answer counts.
    Err(failure.unwrap_or_else(|| ImageError::NotFound(name.to_string())))
}

fn candidates(registries: &Registries, name: &Name) -> Vec<Option<String>> {
    let own = name.reference().registry();
    let mirrors =
        registries.mirrors.iter().filter(|mirror| mirror.of == own).map(|mirror| Some(mirror.host.clone()));
    mirrors.chain([None]).collect()
}

fn client(registries: &Registries, name: &Name, mirror: &Option<String>) -> Client {
    let host = mirror.as_deref().unwrap_or(name.reference().resolve_registry());
    let plain = is_loopback(host) || registries.plain_http.iter().any(|plain| plain == host);
    let protocol =
        if plain { ClientProtocol::HttpsExcept(vec![host.to_owned()]) } else { ClientProtocol::Https };
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(Duration::from_secs(30)),
        read_timeout: Some(Duration::from_secs(60)),
        user_agent: "knarr",
        ..ClientConfig::default()
    })
}

fn is_loopback(host: &str) -> bool {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

struct Puller<'a> {
    store: &'a Store,
    name: &'a Name,
    auth: &'a Auth,
    registry: Option<String>,
    client: Client,
}

impl Puller<'_> {
    fn reference(&self) -> Reference {
        let mut reference = self.name.reference().clone();
        if let Some(host) = &self.registry {
            reference.set_mirror_registry(host.clone());
        }
        reference
    }

    fn failed(&self, error: OciDistributionError) -> ImageError {
        let registry = self.reference().resolve_registry().to_owned();
        let (image, reason) = (self.name.to_string(), chain(&error));
        match &error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                ImageError::Denied { registry, image, reason }
            }
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                ImageError::Missing { registry, image, reason }
            }
            OciDistributionError::RegistryError { envelope, .. }
                if envelope
                    .errors
                    .iter()
                    .any(|e| format!("{:?}", e.code).to_lowercase().contains("unknown")) =>
            {
                ImageError::Missing { registry, image, reason }
            }
            _ => ImageError::Registry { registry, image, reason },
        }
    }

    async fn manifest(&self, reference: &Reference) -> Result<(Bytes, String, Manifest), ImageError> {
        let (bytes, _) = self
            .client
            .pull_manifest_raw(reference, &self.auth.0, &ACCEPTED)
            .await
            .map_err(|e| self.failed(e))?;
        let digest = store::digest(&bytes);
        if let Some(expected) = reference.digest()
            && expected != digest
        {
            return Err(ImageError::Corrupt {
                what: "manifest",
                expected: expected.to_owned(),
                actual: digest,
            });
        }
        let manifest = serde_json::from_slice(&bytes).map_err(|e| ImageError::Malformed {
            what: format!("manifest {digest}"),
            reason: e.to_string(),
        })?;
        Ok((bytes, digest, manifest))
    }

    async fn run(&self) -> Result<store::Image, ImageError> {
        let reference = self.reference();
        // The name is that of the index, where there is one; what it points to is for this machine.
        let (mut bytes, digest, mut manifest) = self.manifest(&reference).await?;
        if !manifest.manifests.is_empty() {
            let chosen = choose_platform(&manifest.manifests)?.digest.clone();
            let (chosen_bytes, _, chosen_manifest) =
                self.manifest(&reference.clone_with_digest(chosen)).await?;
            (bytes, manifest) = (chosen_bytes, chosen_manifest);
        }
        let malformed = |reason: &str| ImageError::Malformed {
            what: format!("manifest {digest}"),
            reason: reason.into(),
        };
        let config = manifest.config.as_ref().ok_or_else(|| malformed("it has no configuration"))?;
        let config = self.config(&reference, config).await?;
        let chain = Store::chain(&config)?;
        if chain.len() != manifest.layers.len() {
            return Err(malformed("its layers do not match its configuration"));
        }
        let mut below = Vec::new();
        for ((diff, id), layer) in chain.into_iter().zip(&manifest.layers) {
            if !self.store.has_layer(&id) {
                self.layer(&reference, layer, diff, id.clone(), below.clone()).await?;
            }
            below.push(id);
        }
        let incoming = Incoming {
            config: &config,
            manifest: Some((&bytes, &digest)),
            names: std::slice::from_ref(self.name),
        };
        self.store.add(&incoming)
    }

    async fn config(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let mut stream = self.blob(reference, descriptor).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.try_next().await.map_err(|e| self.failed(e.into()))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > 16 << 20 {
                return Err(ImageError::Malformed {
                    what: descriptor.digest.clone(),
                    reason: "a configuration of more than 16 MiB".into(),
                });
            }
        }
        let actual = store::digest(&bytes);
        if actual == descriptor.digest {
            Ok(bytes)
        } else {
            Err(ImageError::Corrupt { what: "configuration", expected: descriptor.digest.clone(), actual })
        }
    }

    async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<futures::stream::BoxStream<'static, Result<Bytes, io::Error>>, ImageError> {
        let wanted =
            OciDescriptor { digest: descriptor.digest.clone(), size: descriptor.size, ..Default::default() };
        // The digest is checked here, where the message can name it.
        let sized = self.client.pull_blob_stream(reference, &wanted).await.map_err(|e| self.failed(e))?;
        Ok(sized.stream)
    }

    /// Unpacks while it arrives.
    async fn layer(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        diff: String,
        chain: String,
        below: Vec<String>,
    ) -> Result<(), ImageError> {
        let stream = self.blob(reference, descriptor).await?;
        let (store, digest) = (self.store.clone(), descriptor.digest.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _unpacking = store.lock_unpacking()?;
            let mut reader = SyncIoBridge::new(StreamReader::new(stream));
            let layer = Layer { digest: Some(&digest), diff: &diff, chain: &chain, below: &below };
            store.unpack(&layer, &mut reader)
        });
        task.await.map_err(|e| ImageError::Store { what: "unpacking".into(), source: io::Error::other(e) })?
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_variant_is_chosen() {
        let with = |os: &str, arch: &str, digest: &str| Descriptor {
            digest: digest.into(),
            platform: Some(Platform { os: os.into(), architecture: arch.into(), ..Platform::default() }),
            ..Descriptor::default()
        };
        let list = [
            with("windows", ARCHITECTURE, "a"),
            with("linux", "other", "b"),
            with("linux", ARCHITECTURE, "c"),
        ];
        assert_eq!(choose_platform(&list).unwrap().digest, "c");
        assert!(choose_platform(&list[..2]).is_err());
    }

    #[test]
    fn loopback_may_speak_plain_http() {
        for (host, plain) in
            [("localhost:5000", true), ("127.0.0.1:5000", true), ("[::1]:5000", true), ("example.com", false)]
        {
            assert_eq!(is_loopback(host), plain, "{host}");
        }
    }
}
