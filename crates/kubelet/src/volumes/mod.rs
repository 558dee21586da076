//! Puts directories and files where containers mount them, and takes them away.
//!
//! Layout, upstream's: `<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`. It knows nothing of containers'
//! lives: mounting is done again whenever the worker likes, and changes only what is different.

mod atomic;
mod content;
mod source;
mod subpath;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base::SharedClock;
use cri::v1 as wire;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags};

use crate::pods::Surroundings;
use crate::pods::env::expand;
use crate::pods::spec::PodExt;
use content::Fetcher;

/// Why one volume is not there.
#[derive(Debug, thiserror::Error)]
#[error("volume {volume:?}: {source}")]
pub struct VolumeError {
    pub volume: String,
    pub source: Cause,
}

/// What is the matter.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    #[error("references non-existent config key: {0}")]
    Key(String),
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Field(#[from] crate::pods::FieldError),
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    HostPath { path: String, wanted: &'static str },
    #[error("the path {0:?} leads out of its volume")]
    Escapes(String),
    #[error("no such volume")]
    Unknown,
    #[error("volumes of this type are not supported by this kubelet")]
    Unsupported,
    #[error("{0}")]
    Claim(String),
}

impl Cause {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The volumes of all pods.
pub struct Volumes {
    fetcher: Fetcher,
    /// `<root>/pods`
    pods: PathBuf,
    clock: SharedClock,
}

impl Volumes {
    /// Volumes below `pods`.
    pub fn new(client: kube::Client, pods: PathBuf, clock: SharedClock) -> Self {
        Self { fetcher: Fetcher::new(client, clock.clone()), pods, clock }
    }

    /// Where everything of a pod is.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    fn dir(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// Brings all volumes of a pod up to date. When to do it again, if any of them changes with time.
    ///
    /// # Errors
    /// The first volume that cannot be had.
    pub async fn mount(
        &self,
        pod: &Pod,
        surroundings: &Surroundings<'_>,
    ) -> Result<Option<Timestamp>, VolumeError> {
        let mut again: Option<Timestamp> = None;
        for volume in pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
            let next = self.mount_one(pod, volume, surroundings).await;
            let next = next.map_err(|source| VolumeError { volume: volume.name.clone(), source })?;
            again = again.into_iter().chain(next).min();
        }
        Ok(again)
    }

    async fn mount_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        surroundings: &Surroundings<'_>,
    ) -> Result<Option<Timestamp>, Cause> {
        let fs_group = pod.security().and_then(|security| security.fs_group);
        if let Some(empty) = &volume.empty_dir {
            empty_dir(&self.dir(pod.uid(), "empty-dir", &volume.name), empty, fs_group)?;
            return Ok(None);
        }
        if let Some(host) = &volume.host_path {
            source::check_host_path(host)?;
            return Ok(None);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let path = self.fetcher.claimed_path(pod.namespace(), &claim.claim_name).await?;
            let link = self.dir(pod.uid(), "host-path", &volume.name);
            return source::link(&path, &link).map(|()| None);
        }
        let Some(wanted) = self.fetcher.content(pod, volume, surroundings).await? else {
            return Err(Cause::Unsupported);
        };
        let dir = self.dir(pod.uid(), wanted.plugin, &volume.name);
        fs::create_dir_all(&dir).map_err(Cause::io(&dir))?;
        if wanted.secret {
            // Secrets do not reach a disk.
            in_memory(&dir, None)?;
        }
        atomic::write(&dir, &wanted.files, fs_group, self.clock.now()).map_err(Cause::io(&dir))?;
        Ok(Some(wanted.again))
    }

    /// Where a volume is on the node.
    fn path(&self, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
        if let Some(host) = &volume.host_path {
            return Some(PathBuf::from(&host.path));
        }
        if volume.persistent_volume_claim.is_some() {
            return fs::read_link(self.dir(pod.uid(), "host-path", &volume.name)).ok();
        }
        let plugin = match volume {
            Volume { empty_dir: Some(_), .. } => "empty-dir",
            other => content::plugin(other)?,
        };
        Some(self.dir(pod.uid(), plugin, &volume.name))
    }

    /// A container's mounts.
    ///
    /// # Errors
    /// When a volume is not there, or a path leads out of its volume.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<wire::Mount>, VolumeError> {
        let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let broken = |source| VolumeError { volume: mount.name.clone(), source };
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or(Cause::Unknown).map_err(broken)?;
            let path = self.path(pod, volume).ok_or(Cause::Unsupported).map_err(broken)?;
            let sub = match (&mount.sub_path_expr, &mount.sub_path) {
                (Some(expression), _) if !expression.is_empty() => expand(expression, &lookup),
                (_, sub) => sub.clone().unwrap_or_default(),
            };
            let read_only = mount.read_only.unwrap_or(false);
            let host_path =
                if sub.is_empty() { path } else { subpath::resolve(&path, &sub).map_err(broken)? };
            let propagation = match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => wire::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => wire::MountPropagation::PropagationBidirectional,
                _ => wire::MountPropagation::PropagationPrivate,
            };
            mounts.push(wire::Mount {
                container_path: mount.mount_path.clone(),
                host_path: host_path.display().to_string(),
                readonly: read_only || content::plugin(volume).is_some(),
                propagation: propagation as i32,
                ..Default::default()
            });
        }
        Ok(mounts)
    }

    /// Removes everything of a pod. What is not there is no error.
    ///
    /// # Errors
    /// When something is still in use.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        self.fetcher.forget(uid);
        // A uid is part of a path here, and comes from the runtime's labels.
        if uid.is_empty() || uid.contains('/') || uid.starts_with('.') {
            return Ok(());
        }
        let dir = self.pod_dir(uid);
        for plugin in list(&dir.join("volumes"))? {
            for volume in list(&plugin)? {
                if fs::symlink_metadata(&volume)?.is_dir() && is_mount_point(&volume)? {
                    nix::mount::umount2(&volume, MntFlags::MNT_DETACH)?;
                }
            }
        }
        absent_is_fine(fs::remove_dir_all(&dir))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn is_mount_point(dir: &Path) -> io::Result<bool> {
    let parent = dir.parent().unwrap_or(dir);
    Ok(fs::metadata(dir)?.dev() != fs::metadata(parent)?.dev())
}

fn empty_dir(dir: &Path, empty: &EmptyDirVolumeSource, fs_group: Option<i64>) -> Result<(), Cause> {
    let is_new = !dir.exists();
    fs::create_dir_all(dir).map_err(Cause::io(dir))?;
    if empty.medium.as_deref() == Some("Memory") {
        let size =
            empty.size_limit.as_ref().and_then(|size| size.0.parse::<schema::quantity::Quantity>().ok());
        in_memory(dir, size.map(|size| size.value()).filter(|size| *size > 0))?;
    }
    if is_new || empty.medium.as_deref() == Some("Memory") {
        let mode = empty.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o777);
        let mode = if fs_group.is_some() { mode | 0o2070 } else { mode };
        if let Some(group) = fs_group.and_then(|group| u32::try_from(group).ok()) {
            std::os::unix::fs::chown(dir, None, Some(group)).map_err(Cause::io(dir))?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(Cause::io(dir))?;
    }
    Ok(())
}

/// Mounts memory at a directory, once. Whoever may not mount goes without: files are on the disk then.
fn in_memory(dir: &Path, size: Option<i64>) -> Result<(), Cause> {
    if is_mount_point(dir).map_err(Cause::io(dir))? {
        return Ok(());
    }
    let options = size.map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, options.as_deref()) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EPERM) if size.is_none() => {
            tracing::warn!(dir = %dir.display(), "memory may not be mounted here: secrets are written to the disk");
            Ok(())
        }
        Err(errno) => Err(Cause::Io { path: dir.to_owned(), source: errno.into() }),
    }
}
