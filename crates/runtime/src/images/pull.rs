//! Images from a registry.

use std::collections::HashMap;
use std::io::{self, Read};

use base::failpoint;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;

use super::auth::Auth;
use super::decompress::Decompressing;
use super::fetch::fetch;
use super::hosts;
use super::layer::Layer;
use super::registry::{Ask, Repository};
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

/// Neither a manifest nor a configuration is larger.
const LARGEST_DOCUMENT: usize = 16 << 20;
/// How many layers of one image arrive at once.
const AT_ONCE: usize = 3;
/// An index may point to another one, but not forever.
const DEEPEST_INDEX: usize = 4;

/// The manifest for this machine: of the variant that is nearest to it, among those that it can run.
pub fn choose_platform(manifests: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == ARCHITECTURE)
    };
    // No variant is the architecture's ordinary one: v8 on arm64, v1 on amd64, which every machine runs.
    let rank = |descriptor: &&Descriptor| match descriptor.platform.as_ref().map(|p| p.variant.as_str()) {
        None | Some("") => 0,
        Some("v8") if ARCHITECTURE == "arm64" => 0,
        Some("v1") if ARCHITECTURE == "amd64" => 0,
        _ => 1,
    };
    let ordinary = manifests.iter().filter(fits).min_by_key(rank).filter(|best| rank(best) == 0);
    // An index of one that names no platform leaves no choice.
    ordinary
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
    let endpoints = hosts::endpoints(registries, name.reference().registry())?;
    let repository = Repository::new(name, endpoints, auth, registries.stall)?;
    Puller { store, name, repository }.run().await
}

struct Puller<'a> {
    store: &'a Store,
    name: &'a Name,
    repository: Repository,
}

impl Puller<'_> {
    /// A manifest by tag or digest. A mirror that sends something else, or what is none, is passed over.
    async fn manifest(&self, reference: &str) -> Result<(Vec<u8>, String, Manifest), ImageError> {
        let (mut first, mut lie) = (0, None);
        loop {
            let (response, at) = match self.repository.ask(Ask::Manifest(reference), first).await {
                Ok(answer) => answer,
                // Nobody else may be asked.
                Err(ImageError::NotFound(name)) => return Err(lie.unwrap_or(ImageError::NotFound(name))),
                Err(error) => return Err(error),
            };
            match self.judged(response, at, reference).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) if at + 1 < self.repository.hosts() => {
                    tracing::debug!(%error, "a registry's manifest was no help");
                    (first, lie) = (at + 1, Some(error));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A manifest that is what was asked for, or what whoever sent it says that it is.
    async fn judged(
        &self,
        response: reqwest::Response,
        at: usize,
        reference: &str,
    ) -> Result<(Vec<u8>, String, Manifest), ImageError> {
        let said = response.headers().get("docker-content-digest").and_then(|said| said.to_str().ok());
        let expected = if reference.starts_with("sha256:") { Some(reference) } else { said };
        let expected = expected.filter(|digest| digest.starts_with("sha256:")).map(str::to_owned);
        let bytes = self.bounded(response, at).await?;
        let digest = store::digest(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(ImageError::Corrupt { what: "manifest", expected, actual: digest });
        }
        let malformed = |e: serde_json::Error| ImageError::Malformed {
            what: format!("manifest {digest}"),
            reason: e.to_string(),
        };
        let manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
        Ok((bytes, digest, manifest))
    }

    async fn bounded(&self, mut response: reqwest::Response, at: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|e| self.repository.failed_at(at, super::text(&e)))?;
            let Some(chunk) = chunk else { return Ok(bytes) };
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST_DOCUMENT {
                return Err(self.repository.failed_at(at, "a manifest of more than 16 MiB"));
            }
        }
    }

    async fn run(&self) -> Result<store::Image, ImageError> {
        let reference = self.name.reference();
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        // The name is that of the index, where there is one; what it points to is for this machine.
        let (mut bytes, digest, mut manifest) = self.manifest(wanted).await?;
        let mut depth = 0;
        while !manifest.manifests.is_empty() {
            depth += 1;
            let chosen = choose_platform(&manifest.manifests)?.digest.clone();
            let (chosen_bytes, _, chosen_manifest) = self.manifest(&chosen).await?;
            (bytes, manifest) = (chosen_bytes, chosen_manifest);
            if depth > DEEPEST_INDEX {
                let reason = "its indexes are nested too deeply".into();
                return Err(ImageError::Malformed { what: format!("manifest {digest}"), reason });
            }
        }
        let malformed = |reason: &str| ImageError::Malformed {
            what: format!("manifest {digest}"),
            reason: reason.into(),
        };
        let config = manifest.config.as_ref().ok_or_else(|| malformed("it has no configuration"))?;
        let config = self.config(config).await?;
        let chain = Store::chain(&config)?;
        if chain.len() != manifest.layers.len() {
            return Err(malformed("its layers do not match its configuration"));
        }
        self.layers(&manifest.layers, chain).await?;
        let incoming = Incoming {
            config: &config,
            manifest: Some((&bytes, &digest)),
            names: std::slice::from_ref(self.name),
        };
        self.store.add(&incoming)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if usize::try_from(descriptor.size).unwrap_or(usize::MAX) > LARGEST_DOCUMENT {
            let reason = "a configuration of more than 16 MiB".into();
            return Err(ImageError::Malformed { what: descriptor.digest.clone(), reason });
        }
        let mut file = fetch(&self.repository, descriptor, self.store.root()).await?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(ImageError::store("reading a configuration"))?;
        Ok(bytes)
    }

    /// A layer that has arrived and is being decompressed; `None` when it is here already, unpacked.
    async fn arrival(&self, layer: &Descriptor, chain: &str) -> Result<Option<Decompressing>, ImageError> {
        if self.store.has_layer(chain) {
            return Ok(None);
        }
        let file = fetch(&self.repository, layer, self.store.root()).await?;
        // Its digest was checked as it arrived.
        Decompressing::start(file, false).map(Some).map_err(ImageError::store("decompressing a layer"))
    }

    /// Layers arrive side by side, and are unpacked in their order.
    async fn layers(&self, layers: &[Descriptor], chain: Vec<(String, String)>) -> Result<(), ImageError> {
        let mut asked = Vec::new();
        for ((_, id), layer) in chain.iter().zip(layers) {
            asked.push(self.arrival(layer, id));
        }
        let mut arriving = futures::stream::iter(asked).buffered(AT_ONCE);
        let mut below = Vec::new();
        for ((diff, id), layer) in chain.iter().zip(layers) {
            if let Some(content) = arriving.try_next().await?.flatten() {
                failpoint::hit("runtime.image.layer_arrived");
                self.unpack(content, layer, diff.clone(), id.clone(), below.clone()).await?;
                failpoint::hit("runtime.image.layer_pulled");
            }
            below.push(id.clone());
        }
        Ok(())
    }

    async fn unpack(
        &self,
        content: Decompressing,
        layer: &Descriptor,
        diff: String,
        chain: String,
        below: Vec<String>,
    ) -> Result<(), ImageError> {
        let (store, digest) = (self.store.clone(), layer.digest.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _unpacking = store.lock_unpacking()?;
            let layer = Layer { name: &digest, digest: None, diff: &diff, chain: &chain, below: &below };
            store.unpack(&layer, content)
        });
        task.await.map_err(|e| ImageError::Store { what: "unpacking".into(), source: io::Error::other(e) })?
    }
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
    fn a_variant_that_this_machine_may_not_run_is_not_chosen() {
        let variant = |variant: &str| Descriptor {
            digest: variant.into(),
            platform: Some(Platform {
                os: "linux".into(),
                architecture: ARCHITECTURE.into(),
                variant: variant.into(),
            }),
            ..Descriptor::default()
        };
        let list = [variant("v99"), variant("")];
        assert_eq!(choose_platform(&list).unwrap().digest, "");
        assert!(choose_platform(&list[..1]).is_err());
    }
}
