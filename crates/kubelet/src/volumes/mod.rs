//! Puts directories and files where containers mount them, and takes them away.
//!
//! Layout, upstream's: `<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`. It knows nothing of containers'
//! lives: mounting is done again whenever the worker likes, and changes only what is different.

mod atomic;
mod claim;
mod content;
mod disk;
pub mod empty;
mod mounts;
mod own_logs;
mod ownership;
mod pod_certificate;
mod source;
mod subpath;
mod together;
mod trust;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use kinds::gates::{Gate, Gates};
use nix::mount::MntFlags;
use parking_lot::Mutex;

use self::disk::Disk;
use crate::counts::{Meter, table};
use crate::pods::Surroundings;
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
    #[error("{}", answer(.0))]
    Api(#[from] Arc<kube::Error>),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Field(#[from] crate::pods::FieldError),
    #[error("hostPath type check failed: {path} is not a {wanted}, it's a {found}")]
    HostPath { path: String, wanted: &'static str, found: &'static str },
    #[error("hostPath type check failed, {path} is not a {wanted}, unable to determine its type: {why}")]
    HostPathUnknown { path: String, wanted: &'static str, why: String },
    #[error("{call} {path}: {why}")]
    Unmade { call: &'static str, path: String, why: String },
    #[error("the path {0:?} leads out of its volume")]
    Escapes(String),
    #[error("{0} is not a block device")]
    NotBlock(String),
    #[error("no container of the pod limits huge pages for the medium {0}")]
    HugePages(String),
    #[error("attempting to set its size ({size}) below current usage ({used})")]
    InUse { size: u64, used: u64 },
    #[error("volumes of this type are not supported by this kubelet")]
    Unsupported,
    #[error("{0}")]
    Claim(String),
    #[error("{0}")]
    Certificate(String),
}

/// What the API server said, in its own words where it said something.
fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
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
    meter: Meter,
    /// Whether the runtime can make mounts read-only down to the last one.
    recursive_read_only: bool,
    /// Whether a mount may forbid something: the runtime can, and the feature is on.
    mount_options: bool,
    gates: Gates,
    /// What pods see below `/var/log`, where the node has its logs elsewhere.
    own_logs: Option<OwnLogs>,
    /// Who is mounting which disk.
    disks: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Volumes {
    /// Volumes below `pods`: whether what is read-only can be so as a whole and whether a mount may forbid something, how
    /// often files are compared with the API, which features are on, and what pods see below `/var/log`.
    pub fn new(
        client: kube::Client,
        pods: PathBuf,
        meter: Meter,
        ((recursive_read_only, mount_options), refresh, gates): ((bool, bool), Duration, Gates),
        own_logs: Option<OwnLogs>,
    ) -> Self {
        let how = (refresh, gates.has(Gate::AtomicWriteVolumeUserFields));
        let fetcher = Fetcher::new(client, pods.clone(), meter.clock.clone(), how);
        let disks = Mutex::default();
        Self { fetcher, pods, meter, recursive_read_only, mount_options, gates, own_logs, disks }
    }

    /// How pods' certificates are: how many there are, by signer and state.
    pub fn certificates(&self) -> BTreeMap<(String, &'static str), u32> {
        self.fetcher.certificates()
    }

    /// What pods see below `/var/log`, where the node has its logs elsewhere.
    pub fn own_logs(&self) -> Option<&OwnLogs> {
        self.own_logs.as_ref()
    }

    /// Whether a mount may forbid something (`bindMountOptions`).
    pub fn has_mount_options(&self) -> bool {
        self.mount_options
    }

    /// Where everything of all pods is.
    pub fn root(&self) -> &Path {
        &self.pods
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
            let made = self.mount_one(pod, volume, surroundings);
            let next = self.meter.time(&table::STORAGE_OPERATION, |made| mounted(volume, made), made).await;
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
            // Nobody may name a mode while the feature is off.
            let has_mode = self.gates.has(Gate::EmptyDirVolumeMode);
            let empty = EmptyDirVolumeSource { mode: empty.mode.filter(|_| has_mode), ..empty.clone() };
            empty::make(&self.dir(pod.uid(), "empty-dir", &volume.name), &empty, pod)?;
            return Ok(None);
        }
        if let Some(host) = &volume.host_path {
            source::check_host_path(&HostPathVolumeSource {
                path: self.placed(&host.path).display().to_string(),
                ..host.clone()
            })?;
            return Ok(None);
        }
        // The runtime mounts images itself.
        if volume.image.is_some() {
            return Ok(None);
        }
        if let Some(claim) = claim::of(pod, volume) {
            let mut claimed = self.fetcher.claimed(pod, &claim).await?;
            if let Some(disk) = claimed.disk.take() {
                claimed.path = self.dir(pod.uid(), "local-volume", &volume.name);
                self.mount_disk(disk, claimed.path.clone()).await?;
            }
            let link = self.dir(pod.uid(), "host-path", &volume.name);
            if let (Some(group), true) = (fs_group, claimed.owned && !claim.read_only) {
                let policy = pod.security().and_then(|security| security.fs_group_change_policy.as_deref());
                ownership::hand_over(&claimed.path, group, policy == Some("OnRootMismatch"))?;
            }
            return source::link(&claimed.path, &link).map(|()| None);
        }
        let Some(wanted) = self.fetcher.content(pod, volume, surroundings).await? else {
            return Err(Cause::Unsupported);
        };
        let dir = self.dir(pod.uid(), wanted.plugin, &volume.name);
        fs::create_dir_all(&dir).map_err(Cause::io(&dir))?;
        if wanted.secret {
            // Secrets do not reach a disk.
            empty::in_memory(&dir, None, None)?;
        }
        atomic::write(&dir, &wanted.files, fs_group, self.meter.clock.now()).map_err(Cause::io(&dir))?;
        Ok(Some(wanted.again))
    }

    /// One pod at a time for each disk: two may find it empty. A disk that does not answer holds up no other.
    async fn mount_disk(&self, disk: Disk, at: PathBuf) -> Result<(), Cause> {
        let own = self.disks.lock().entry(disk.device.clone()).or_default().clone();
        let _alone = own.lock().await;
        let mounted = tokio::task::spawn_blocking(move || disk::mount(&disk, &at)).await;
        mounted.unwrap_or_else(|error| Err(Cause::Claim(error.to_string())))
    }

    /// Whether a volume has been made.
    pub fn is_there(&self, pod: &Pod, volume: &Volume) -> bool {
        volume.image.is_none() && self.path(pod, volume).is_some_and(|path| path.exists())
    }

    /// Where something of the machine is for the node's pods.
    fn placed(&self, path: &str) -> PathBuf {
        self.own_logs.as_ref().map_or_else(|| path.into(), |own| own.place(Path::new(path)))
    }

    /// Where a volume is on the node.
    fn path(&self, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
        if let Some(host) = &volume.host_path {
            return Some(self.placed(&host.path));
        }
        if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
            return fs::read_link(self.dir(pod.uid(), "host-path", &volume.name)).ok();
        }
        let plugin = match volume {
            Volume { empty_dir: Some(_), .. } => "empty-dir",
            other => content::plugin(other)?,
        };
        Some(self.dir(pod.uid(), plugin, &volume.name))
    }

    /// The directory of an emptyDir, by the volume's name.
    pub fn empty_dir(&self, pod: &Pod, name: &str) -> Option<PathBuf> {
        let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let volume = volumes.iter().find(|volume| volume.name == name && volume.empty_dir.is_some())?;
        self.path(pod, volume)
    }

    /// The volumes in memory of a pod that get other sizes while it runs: how large they are, in bytes, by name.
    pub fn sizes(&self, pod: &Pod) -> BTreeMap<String, u64> {
        if !self.gates.has(Gate::InPlacePodVerticalScalingMemoryBackedVolumes) {
            return BTreeMap::new();
        }
        let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let sized = volumes.iter().filter(|volume| empty::limit(volume).is_some());
        let sizes = sized.filter_map(|volume| {
            let mounted = empty::mounted(&self.dir(pod.uid(), "empty-dir", &volume.name));
            let mounted = mounted.inspect_err(|error| {
                tracing::warn!(uid = pod.uid(), volume = volume.name, %error, "its size is not known, and stays");
            });
            Some((volume.name.clone(), mounted.ok()??.0))
        });
        sizes.collect()
    }

    /// Gives volumes in memory the sizes that the pod says now: those that get larger, or those that get smaller.
    ///
    /// # Errors
    /// The first volume that has more in it than it is to have room for, or is not to be had.
    pub fn resize(&self, pod: &Pod, grow: bool) -> Result<(), VolumeError> {
        let has = self.sizes(pod);
        for (name, wanted) in empty::sizes(pod) {
            if has.get(&name).is_some_and(|has| *has != wanted && (wanted > *has) == grow) {
                let resized = empty::resize(&self.dir(pod.uid(), "empty-dir", &name), wanted);
                resized.map_err(|source| VolumeError { volume: name, source })?;
            }
        }
        Ok(())
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
        for volume in list(&dir.join("volume-subpaths"))? {
            for container in list(&volume)? {
                list(&container)?.iter().try_for_each(|bound| subpath::unbind(bound))?;
            }
        }
        failpoint::hit("kubelet.cleanup.subpaths_unbound");
        for plugin in list(&dir.join("volumes"))? {
            for volume in list(&plugin)? {
                if fs::symlink_metadata(&volume)?.is_dir() && is_mount_point(&volume)? {
                    nix::mount::umount2(&volume, MntFlags::MNT_DETACH)?;
                }
            }
        }
        failpoint::hit("kubelet.cleanup.volumes_unmounted");
        absent_is_fine(fs::remove_dir_all(&dir))
    }
}

pub use own_logs::OwnLogs;
pub use subpath::read_within;

/// The labels of an attempt to make a volume.
fn mounted<T>(volume: &Volume, made: &Result<T, Cause>) -> [String; 4] {
    let status = if made.is_ok() { "success" } else { "fail-unknown" };
    ["false", "volume_mount", status, plugin(volume)].map(str::to_owned)
}

/// Who makes a volume, by upstream's name.
pub fn plugin(volume: &Volume) -> &'static str {
    match volume {
        Volume { empty_dir: Some(_), .. } => "kubernetes.io/empty-dir",
        Volume { host_path: Some(_), .. } => "kubernetes.io/host-path",
        Volume { config_map: Some(_), .. } => "kubernetes.io/configmap",
        Volume { secret: Some(_), .. } => "kubernetes.io/secret",
        Volume { downward_api: Some(_), .. } => "kubernetes.io/downward-api",
        Volume { projected: Some(_), .. } => "kubernetes.io/projected",
        Volume { persistent_volume_claim: Some(_), .. } | Volume { ephemeral: Some(_), .. } => {
            "kubernetes.io/local-volume"
        }
        Volume { image: Some(_), .. } => "kubernetes.io/image",
        _ => "N/A",
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
