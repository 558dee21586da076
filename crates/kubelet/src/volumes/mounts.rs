//! What a container gets of its pod's volumes: mounts, and block devices (`makeMounts`, `makeBlockVolumes`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};

use super::{Cause, VolumeError, Volumes, claim, content, source, subpath};
use crate::pods::env::expand;
use crate::pods::spec::PodExt;

/// Why a container cannot have what it mounts, in upstream's words. They tell nothing of the node's own files.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("cannot find volume {volume:?} to pass into container {container:?}")]
    NoDevice { volume: String, container: String },
    /// Of these variables, with commas between.
    #[error("missing value for {0}")]
    Variables(String),
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Backsteps(String),
    #[error("failed to create subPath directory for volumeMount {volume:?} of container {container:?}")]
    SubPathNotMade { volume: String, container: String },
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPathNotThere { volume: String, container: String },
    #[error(
        "failed to resolve recursive read-only mode: volume {volume:?} requested recursive read-only mode, but it is {why}"
    )]
    NotRecursive { volume: String, why: String },
    /// A container that came to a pod later, which nobody could refuse.
    #[error("volume {volume:?} has bindMountOptions, which this node does not support")]
    NoOptions { volume: String },
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

fn find<'v>(pod: &'v Pod, name: &str) -> Option<&'v Volume> {
    pod.spec().and_then(|spec| spec.volumes.as_deref())?.iter().find(|volume| volume.name == name)
}

impl Volumes {
    /// A container's mounts. Images stand for themselves by the references that `images` knows, by volume.
    ///
    /// # Errors
    /// When a volume is not there, or a path leads out of its volume.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        images: &BTreeMap<String, String>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<wire::Mount>, MountError> {
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let unknown =
                || MountError::NoVolume { volume: mount.name.clone(), container: container.name.clone() };
            let volume = find(pod, &mount.name).ok_or_else(unknown)?;
            let sub = sub_path(mount, &lookup)?;
            if let Some(source) = &volume.image {
                let image = wire::ImageSpec {
                    image: images.get(&volume.name).ok_or_else(unknown)?.clone(),
                    // CRI-O looks for signatures by it.
                    user_specified_image: source.reference.clone().unwrap_or_default(),
                    ..Default::default()
                };
                mounts.push(image_mount(mount, image, sub));
                continue;
            }
            let of_machine = volume.host_path.as_ref().map(|host| Path::new(&host.path).join(&sub));
            let (path, sub) = self.entered(pod, volume, sub)?;
            let read_only = mount.read_only.unwrap_or(false)
                || content::plugin(volume).is_some()
                || claim::of(pod, volume).is_some_and(|claim| claim.read_only);
            let host_path = match sub.as_str() {
                "" => path,
                sub => self.part(pod, container, (index, mount), (&path, sub))?,
            };
            let propagation = match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => wire::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => wire::MountPropagation::PropagationBidirectional,
                _ => wire::MountPropagation::PropagationPrivate,
            };
            let options = mount.bind_mount_options.clone().unwrap_or_default();
            if !options.is_empty() && !self.mount_options {
                return Err(MountError::NoOptions { volume: mount.name.clone() });
            }
            let made = wire::Mount {
                container_path: mount.mount_path.clone(),
                host_path: host_path.display().to_string(),
                readonly: read_only,
                recursive_read_only: self.is_recursive(mount)?,
                propagation: propagation as i32,
                mount_options: options,
                ..Default::default()
            };
            let over = self.over(container, of_machine.as_deref(), &made);
            mounts.push(made);
            mounts.extend(over);
        }
        Ok(mounts)
    }

    /// Where the volume is of which this is a part, and which part.
    fn entered(&self, pod: &Pod, volume: &Volume, sub: String) -> Result<(PathBuf, String), VolumeError> {
        match (&self.own_logs, &volume.host_path) {
            (Some(own), Some(host)) => Ok(own.enter(Path::new(&host.path), &sub)),
            _ => Ok((self.found(pod, volume)?, sub)),
        }
    }

    /// What lies over a mount of a path of the machine in which the node's own logs are to be.
    fn over(&self, container: &Container, path: Option<&Path>, made: &wire::Mount) -> Vec<wire::Mount> {
        let (Some(own), Some(path)) = (&self.own_logs, path) else { return Vec::new() };
        let taken =
            |path: &str| container.volume_mounts.iter().flatten().any(|other| other.mount_path == path);
        let is_there = |folder: &str| match fs::create_dir_all(folder) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(folder, %error, "a pod does not find the logs of the node's containers: make the folder");
                false
            }
        };
        let over = own.over(path, made, taken).into_iter();
        over.filter(|(folder, _)| is_there(folder)).map(|(_, mount)| mount).collect()
    }

    fn found(&self, pod: &Pod, volume: &Volume) -> Result<PathBuf, VolumeError> {
        let path = self.path(pod, volume);
        path.ok_or_else(|| VolumeError { volume: volume.name.clone(), source: Cause::Unsupported })
    }

    /// Where a part of a volume is bound for one mount. What exactly is wrong with it is for the node's own log only.
    fn part(
        &self,
        pod: &Pod,
        container: &Container,
        (index, mount): (usize, &VolumeMount),
        (volume, sub): (&Path, &str),
    ) -> Result<PathBuf, MountError> {
        let dir = self.pod_dir(pod.uid()).join("volume-subpaths").join(&mount.name).join(&container.name);
        let is_absent = fs::metadata(volume.join(sub)).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let failed = |error: Cause, is_absent: bool| {
            let (volume, container) = (mount.name.clone(), container.name.clone());
            tracing::warn!(pod = %pod.described(), container, volume, sub, %error, "no subPath");
            match is_absent {
                true => MountError::SubPathNotMade { volume, container },
                false => MountError::SubPathNotThere { volume, container },
            }
        };
        let found = subpath::resolve(volume, sub).map_err(|error| failed(error, is_absent))?;
        subpath::bind(&found, &dir.join(index.to_string())).map_err(|error| failed(error, false))
    }

    /// Whether a mount has to be read-only down to the last one below it (KEP-3857).
    fn is_recursive(&self, mount: &VolumeMount) -> Result<bool, MountError> {
        let must = match mount.recursive_read_only.as_deref() {
            None | Some("Disabled") => return Ok(false),
            mode => mode == Some("Enabled"),
        };
        let not = |why: &str| MountError::NotRecursive { volume: mount.name.clone(), why: why.to_owned() };
        if mount.read_only != Some(true) {
            return Err(not("not read-only"));
        }
        if let Some(propagation) = mount.mount_propagation.as_deref().filter(|mode| *mode != "None") {
            return Err(not(&format!("not compatible with propagation {propagation:?}")));
        }
        match self.recursive_read_only {
            false if must => Err(not("not supported by the runtime")),
            possible => Ok(possible),
        }
    }

    /// The block devices that a container sees.
    ///
    /// # Errors
    /// When a volume is no block device.
    pub fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<wire::Device>, MountError> {
        let mut devices = Vec::new();
        for device in container.volume_devices.iter().flatten() {
            let volume = find(pod, &device.name).ok_or_else(|| MountError::NoDevice {
                volume: device.name.clone(),
                container: container.name.clone(),
            })?;
            let path = self.found(pod, volume)?;
            source::check_block(&path)
                .map_err(|source| VolumeError { volume: device.name.clone(), source })?;
            let read_only = claim::of(pod, volume).is_some_and(|claim| claim.read_only);
            devices.push(wire::Device {
                container_path: device.device_path.clone(),
                host_path: path.display().to_string(),
                permissions: if read_only { "r" } else { "mrw" }.to_owned(),
            });
        }
        Ok(devices)
    }
}

/// The path inside the volume, variables expanded.
fn sub_path(mount: &VolumeMount, lookup: impl Fn(&str) -> Option<String>) -> Result<String, MountError> {
    let expression = mount.sub_path_expr.as_ref().filter(|expression| !expression.is_empty());
    let sub = match expression {
        Some(expression) => expanded(expression, lookup)?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if sub.starts_with('/') {
        return Err(MountError::Absolute(sub));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(MountError::Backsteps(sub));
    }
    Ok(sub)
}

/// Every variable must be there and say something: a path without it would be another one.
fn expanded(expression: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, MountError> {
    let missing = RefCell::new(BTreeSet::new());
    let expanded = expand(expression, |name| {
        let value = lookup(name);
        if value.as_deref().is_none_or(str::is_empty) {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    });
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    match missing.is_empty() {
        true => Ok(expanded),
        false => Err(MountError::Variables(missing.join(", "))),
    }
}

fn image_mount(mount: &VolumeMount, image: wire::ImageSpec, sub: String) -> wire::Mount {
    wire::Mount {
        container_path: mount.mount_path.clone(),
        image: Some(image),
        image_sub_path: sub,
        readonly: true,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str, expression: &str) -> VolumeMount {
        VolumeMount {
            sub_path: Some(path.to_owned()),
            sub_path_expr: Some(expression.to_owned()),
            ..VolumeMount::default()
        }
    }

    #[test]
    fn what_is_wrong_with_a_part_of_a_volume_is_told_in_upstreams_words() {
        let lookup = |name: &str| match name {
            "UP" => Some("..".to_owned()),
            "ROOT" => Some("/etc".to_owned()),
            "EMPTY" => Some(String::new()),
            "NAME" => Some("x".to_owned()),
            _ => None,
        };
        let of =
            |path, expression| sub_path(&mount(path, expression), lookup).map_err(|error| error.to_string());
        assert_eq!(of("a/b", "").as_deref(), Ok("a/b"));
        assert_eq!(of("", "a/$(NAME)").as_deref(), Ok("a/x"));
        for (expression, why) in [
            ("$(B)/$(EMPTY)/$(A)", "missing value for A, B, EMPTY"),
            ("a/$(UP)/$(UP)", "unable to provision SubPath `a/../..`: must not contain '..'"),
            ("$(ROOT)", "error SubPath `/etc` must not be an absolute path"),
        ] {
            assert_eq!(of("", expression), Err(why.to_owned()));
        }
    }
}
