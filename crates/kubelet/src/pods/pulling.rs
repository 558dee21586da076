//! Images: whether one is pulled, and pulling it.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::Reference;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::Api;

use super::Handle;
use super::fetched::Fetched;
use super::images::{Decision, credentials, decide, refused};
use super::jobs::{Failed, call, failed, sandbox_config};
use super::pull_rate::EXCEEDED;
use super::pull_records::Source;
use super::spec::PodExt;
use crate::Shared;
use crate::counts::table;
use crate::credentials::files;

/// Sees to it that a container's image is there.
pub async fn image(shared: &Shared, handle: &Handle, pod: &Pod, name: &str) -> Result<(), Failed> {
    let Some(container) = pod.container(name) else { return Ok(()) };
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    let begun = shared.config.clock.monotonic();
    let ensured = ensure(shared, handle, pod, name, image, policy).await;
    let mut memory = handle.memory.lock();
    match &ensured {
        Ok(_) => memory.unfetched.remove(name),
        Err(_) => memory.unfetched.insert(name.to_owned(), image.to_owned()),
    };
    let reference = ensured?;
    memory.images.insert(name.to_owned(), Fetched { image: image.to_owned(), reference });
    let first = memory.pulled.map_or(begun, |(first, _)| first.min(begun));
    memory.pulled = Some((first, shared.config.clock.monotonic()));
    Ok(())
}

/// Sees to it that the images are there that a container mounts: their references by volume (KEP-4639).
pub async fn volumes(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, String>, Failed> {
    let mut images = BTreeMap::new();
    for volume in pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        let Some(source) = &volume.image else { continue };
        if container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name) {
            let image = source.reference.as_deref().unwrap_or_default();
            let policy = source.pull_policy.as_deref().unwrap_or_default();
            let reference = ensure(shared, handle, pod, &container.name, image, policy).await?;
            images.insert(volume.name.clone(), reference);
        }
    }
    Ok(images)
}

/// Whether it can be an image's name at all.
fn check_name(image: &str) -> Result<(), String> {
    let parsed = image.parse::<Reference>().map(drop);
    parsed.map_err(|error| {
        let why = format!("couldn't parse image name {image:?}: {error}");
        format!("Failed to apply default image tag {image:?}: {why}")
    })
}

/// The reference of an image that is there and may be used, or is pulled now.
async fn ensure(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    name: &str,
    image: &str,
    policy: &str,
) -> Result<String, Failed> {
    let about = || pod.reference(Some(name));
    if let Err(message) = check_name(image) {
        shared.recorder.warning(about(), "InspectFailed", message.clone());
        return Err(failed("InvalidImageName", message));
    }
    let present = shared.runtime.image(image).await.map_err(call("ImageInspectError"))?;
    let (secrets, missing) = pull_secrets(shared, pod).await;
    let mut known: Vec<Known> = credentials(image, &secrets)
        .into_iter()
        .map(|(auth, secret)| (Some(Source::of(secret, &auth)), auth))
        .collect();
    let usable = |known: &[Known]| {
        let Some(present) = &present else { return false };
        let may = |source| shared.pulls.may_use(&present.id, image, source);
        let sources = known.iter().map(|(source, _)| source.as_ref()).chain([None]);
        sources.map(may).any(|may| {
            may.unwrap_or_else(|error| {
                tracing::warn!(image, %error, "it is not known who pulled an image: it is pulled again");
                false
            })
        })
    };
    let mut may_use = usable(&known);
    // Programs are asked only where it matters.
    if policy == "Always" || !may_use && policy != "Never" {
        let more = shared.providers.credentials(&shared.client, pod, image).await;
        known.extend(more.into_iter().map(|(auth, asked)| (asked.map(Source::from), auth)));
        let own = files::read(&shared.config.root_dir, shared.config.home.as_deref());
        known.extend(credentials(image, own.as_slice()).into_iter().map(|(auth, _)| (None, auth)));
        may_use = usable(&known);
    }
    let decision = decide(policy, may_use);
    let labels = ensured(policy, present.is_some(), decision);
    shared.counts.count(&table::IMAGES_ENSURED, &labels);
    match decision {
        Decision::Use => {
            let message = format!(
                "Container image {image:?} already present on machine and can be accessed by the pod"
            );
            shared.recorder.normal(about(), "Pulled", message);
            Ok(present.map(|image| image.id).unwrap_or_default())
        }
        Decision::Refuse => {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            shared.recorder.warning(about(), "ErrImageNeverPull", message.clone());
            Err(failed("ErrImageNeverPull", message))
        }
        Decision::Pull => {
            // Whoever goes holds no other pod's turn, however long its registry says nothing.
            let pulled = tokio::select! {
                pulled = pull(shared, pod, name, image, known) => pulled,
                () = handle.leaving() => {
                    abandon(shared, image);
                    return Err(failed("ErrImagePull", format!("pulling {image:?}: the pod is to go")));
                }
            };
            if pulled.is_err() && !missing.is_empty() {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    missing.join(", ")
                );
                shared.recorder.warning(pod.reference(None), "FailedToRetrieveImagePullSecret", message);
            }
            pulled
        }
    }
}

/// Whether the image was there, by which policy, and whether it was pulled; of an image that is pulled anyway nobody asks
/// first.
fn ensured(policy: &str, present: bool, decision: Decision) -> [&'static str; 3] {
    let word = |yes: bool| if yes { "true" } else { "false" };
    let (policy, present) = match policy {
        "Always" => ("always", "unknown"),
        "Never" => ("never", word(present)),
        _ => ("ifnotpresent", word(present)),
    };
    let pulled = match decision {
        Decision::Use => "false",
        Decision::Refuse if present == "false" => "unknown",
        Decision::Pull | Decision::Refuse => "true",
    };
    [present, policy, pulled]
}

/// Credentials, and of whom they are; nobody's are the node's own.
type Known = (Option<Source>, AuthConfig);

/// Asks the registry with one after the other of what is known, as upstream does, or with nothing.
async fn try_all(
    shared: &Shared,
    pod: &Pod,
    image: &str,
    known: Vec<Known>,
) -> Result<(String, Option<Source>), tonic::Status> {
    let config = sandbox_config(shared, pod, 0).map_err(|(_, why)| tonic::Status::unavailable(why))?;
    let sandbox = || config.clone();
    let mut refused = None;
    for (source, auth) in known {
        match shared.runtime.pull(image, Some(auth), sandbox()).await {
            Ok(reference) => return Ok((reference, source)),
            Err(status) => refused = Some(status),
        }
    }
    match refused {
        Some(status) => Err(status),
        None => shared.runtime.pull(image, None, sandbox()).await.map(|reference| (reference, None)),
    }
}

async fn pull(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    image: &str,
    known: Vec<Known>,
) -> Result<String, Failed> {
    let about = || pod.reference(Some(name));
    shared.recorder.normal(about(), "Pulling", format!("Pulling image {image:?}"));
    let waited_since = shared.config.clock.monotonic();
    // It is never closed.
    let _turn = match &shared.pulling {
        Some(turns) => turns.acquire().await.ok(),
        None => None,
    };
    let begun = shared.config.clock.monotonic();
    // If this kubelet ends before it has written down who pulled, the image is not taken for one that was there before.
    shared.pulls.intend(image).map_err(|error| {
        failed(
            "ErrImagePull",
            format!("noting the pull of {image:?}: {error}: see to the kubelet's root directory"),
        )
    })?;
    let may = shared.pull_rate.as_ref().is_none_or(|rate| rate.allows(begun));
    let pulled = match may {
        true => try_all(shared, pod, image, known).await,
        false => Err(tonic::Status::resource_exhausted(EXCEEDED)),
    };
    match pulled {
        Ok((reference, source)) => {
            let now = shared.config.clock.monotonic();
            let pulled = shared.runtime.image(image).await.map_err(call("ImageInspectError"))?;
            let size = pulled.as_ref().map_or(0, |image| image.size);
            shared.counts.pulled(size, now.saturating_sub(begun));
            let since = |begun| {
                let took = now.saturating_sub(begun).as_millis();
                Duration::from_millis(u64::try_from(took).unwrap_or(u64::MAX))
            };
            let (took, waited) = (since(begun), since(waited_since));
            let message = format!(
                "Successfully pulled image {image:?} in {took:?} ({waited:?} including waiting). Image size: {size} bytes."
            );
            shared.recorder.normal(about(), "Pulled", message);
            let id = pulled.map_or_else(|| reference.clone(), |image| image.id);
            if let Err(error) = shared.pulls.note(&id, image, source) {
                tracing::warn!(image, %error, "it is not written down who pulled an image");
            }
            Ok(reference)
        }
        Err(status) => {
            abandon(shared, image);
            let message = format!("Failed to pull image {image:?}: {}", status.message());
            shared.recorder.warning(about(), "Failed", message);
            let (reason, message) = refused(image, status.message());
            shared.recorder.warning(about(), "Failed", format!("Error: {reason}"));
            Err(failed(reason, message))
        }
    }
}

fn abandon(shared: &Shared, image: &str) {
    if let Err(error) = shared.pulls.abandon(image) {
        tracing::warn!(image, %error, "a pull that failed is still noted: the image will be pulled again");
    }
}

/// The pull secrets that can be read, and the names of the others: those only do not help.
async fn pull_secrets<'a>(shared: &Shared, pod: &'a Pod) -> (Vec<Secret>, Vec<&'a str>) {
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), pod.namespace());
    let (mut secrets, mut missing) = (Vec::new(), Vec::new());
    let names = pod.spec().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
    for reference in names {
        match api.get(&reference.name).await {
            Ok(secret) => secrets.push(secret),
            Err(error) => {
                tracing::debug!(%error, "a pull secret cannot be read");
                missing.push(reference.name.as_str());
            }
        }
    }
    (secrets, missing)
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_no_image_has_are_told_from_others() {
        let digest = "a".repeat(64);
        for name in
            ["nginx", "r.io:5000/a/b:1", &format!("nginx:1@sha256:{digest}"), &format!("sha256:{digest}")]
        {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["UPPER/Case:1", "a b", "a:", "", "a@sha256:1"] {
            let why = check_name(name).unwrap_err();
            assert!(why.starts_with("Failed to apply default image tag"), "{name}: {why}");
        }
    }
}
