//! The manager that libcontainer asks for, and what it asks with.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::stats::Stats;

/// Where cgroups are mounted.
pub const DEFAULT_CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Which versions are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupSetup {
    /// Version 1, with version 2 beside it.
    Hybrid,
    /// Version 1.
    Legacy,
    /// Version 2.
    Unified,
}

impl fmt::Display for CgroupSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hybrid => "hybrid",
            Self::Legacy => "legacy",
            Self::Unified => "unified",
        })
    }
}

/// Why that cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("looking at {DEFAULT_CGROUP_ROOT}: {0}")]
pub struct GetCgroupSetupError(#[from] nix::Error);

/// Why there is no manager.
#[derive(Debug, thiserror::Error)]
pub enum CreateCgroupSetupError {
    /// The versions cannot be told.
    #[error(transparent)]
    Setup(#[from] GetCgroupSetupError),
}

/// Why a manager failed.
#[derive(Debug, thiserror::Error)]
pub enum AnyManagerError {
    /// A cgroup cannot be joined.
    #[error("joining cgroup {path}: {source}")]
    Join {
        /// By which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime does this itself.
    #[error("cgroups are not changed here: {0}")]
    NotHere(&'static str),
}

/// Whether version 2 is all there is, or one of the others.
///
/// # Errors
/// When nothing is mounted there.
pub fn get_cgroup_setup() -> Result<CgroupSetup, GetCgroupSetupError> {
    let of_version_2 = |path: &Path| statfs(path).map(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let root = Path::new(DEFAULT_CGROUP_ROOT);
    if of_version_2(root)? {
        return Ok(CgroupSetup::Unified);
    }
    match of_version_2(&root.join("unified")) {
        Ok(true) => Ok(CgroupSetup::Hybrid),
        _ => Ok(CgroupSetup::Legacy),
    }
}

/// Which cgroup is meant: always the one that was given.
#[derive(Debug, Clone)]
pub struct CgroupConfig {
    /// Its path.
    pub cgroup_path: PathBuf,
    /// Whether systemd makes it.
    pub systemd_cgroup: bool,
    /// Whose it is.
    pub container_name: String,
}

/// Whether processes go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezerState {
    /// Nobody said.
    Undefined,
    /// They stand still.
    Frozen,
    /// They go on.
    Thawed,
}

/// What to limit.
#[derive(Debug, Clone)]
pub struct ControllerOpt<'a> {
    /// The limits.
    pub resources: &'a LinuxResources,
    /// Whether nothing is killed for want of memory.
    pub disable_oom_killer: bool,
    /// Who is killed first.
    pub oom_score_adj: Option<i32>,
    /// Whether processes go on.
    pub freezer_state: Option<FreezerState>,
}

/// What libcontainer does with cgroups.
pub trait CgroupManager {
    /// Why it failed.
    type Error;

    /// Moves the calling process in.
    ///
    /// # Errors
    /// When one of the cgroups cannot be joined.
    fn add_task(&self, pid: Pid) -> Result<(), Self::Error>;

    /// Sets limits: they are set already.
    ///
    /// # Errors
    /// None.
    fn apply(&self, options: &ControllerOpt<'_>) -> Result<(), Self::Error>;

    /// Removes a cgroup.
    ///
    /// # Errors
    /// Always.
    fn remove(&self) -> Result<(), Self::Error>;

    /// Stops all processes, or lets them go on.
    ///
    /// # Errors
    /// Always.
    fn freeze(&self, state: FreezerState) -> Result<(), Self::Error>;

    /// What was used.
    ///
    /// # Errors
    /// Always.
    fn stats(&self) -> Result<Stats, Self::Error>;

    /// Who is in it.
    ///
    /// # Errors
    /// Always.
    fn get_all_pids(&self) -> Result<Vec<Pid>, Self::Error>;
}

/// The only manager.
#[derive(Debug, Clone, Copy)]
pub struct AnyCgroupManager(());

impl AnyCgroupManager {
    /// The same without the machine's root, who is always there.
    #[must_use]
    pub fn with_rootless(self, _rootless: bool) -> Self {
        self
    }
}

/// The manager of the cgroups that were given.
///
/// # Errors
/// None.
pub fn create_cgroup_manager(_config: CgroupConfig) -> Result<AnyCgroupManager, CreateCgroupSetupError> {
    Ok(AnyCgroupManager(()))
}

impl CgroupManager for AnyCgroupManager {
    type Error = AnyManagerError;

    fn add_task(&self, _pid: Pid) -> Result<(), AnyManagerError> {
        for door in &crate::given().doors {
            // Who writes "0" means itself: the kernel need not find it, nor wait for its other threads.
            std::fs::write(door, "0")
                .map_err(|source| AnyManagerError::Join { path: door.clone(), source })?;
        }
        Ok(())
    }

    fn apply(&self, _options: &ControllerOpt<'_>) -> Result<(), AnyManagerError> {
        Ok(())
    }

    fn remove(&self) -> Result<(), AnyManagerError> {
        Err(AnyManagerError::NotHere("remove"))
    }

    fn freeze(&self, _state: FreezerState) -> Result<(), AnyManagerError> {
        Err(AnyManagerError::NotHere("freeze"))
    }

    fn stats(&self) -> Result<Stats, AnyManagerError> {
        Err(AnyManagerError::NotHere("stats"))
    }

    fn get_all_pids(&self) -> Result<Vec<Pid>, AnyManagerError> {
        Err(AnyManagerError::NotHere("get_all_pids"))
    }
}
