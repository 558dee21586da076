//! Stands in for youki's `libcgroups`, with as much of its interface as libcontainer uses.
//!
//! The runtime has made a container's cgroups and set their limits before it asks for the container: all that is left
//! is to join them. The original reads the table of mounts, which grows with every container of the machine, more
//! than twenty times for each start, and joins version 1 by the file that has the kernel wait for an RCU grace period.

pub mod common;
pub mod stats;

use std::path::PathBuf;
use std::sync::OnceLock;

/// What there is to join, and what a container may see of it.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Files that take "0" to move the writer into the container's cgroups.
    pub doors: Vec<PathBuf>,
    /// Where the hierarchies of version 1 are mounted.
    pub split: Vec<PathBuf>,
    /// Where version 2 is mounted, if it is.
    pub unified: Option<PathBuf>,
}

static GIVEN: OnceLock<Given> = OnceLock::new();

/// Says what there is, once, before libcontainer is called.
pub fn give(given: Given) {
    // One container is started by a process.
    let _ = GIVEN.set(given);
}

fn given() -> &'static Given {
    GIVEN.get_or_init(Given::default)
}

/// Version 1.
pub mod v1 {
    /// Where it is mounted.
    pub mod util {
        use std::convert::Infallible;
        use std::path::PathBuf;

        /// The mount points of all its hierarchies.
        ///
        /// # Errors
        /// None.
        pub fn list_subsystem_mount_points() -> Result<Vec<PathBuf>, Infallible> {
            Ok(crate::given().split.clone())
        }
    }
}

/// Version 2.
pub mod v2 {
    /// Where it is mounted.
    pub mod util {
        use std::path::PathBuf;

        /// It is mounted nowhere.
        #[derive(Debug, thiserror::Error)]
        #[error("no cgroups of version 2 are mounted")]
        pub struct NotMounted;

        /// Its mount point.
        ///
        /// # Errors
        /// When it is not mounted.
        pub fn get_unified_mount_point() -> Result<PathBuf, NotMounted> {
            crate::given().unified.clone().ok_or(NotMounted)
        }
    }
}
