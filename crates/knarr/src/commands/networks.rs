//! Which of the machine's node networks a cluster has. Its number also says which addresses its pods and Services have,
//! so two clusters that have the same one cannot reach each other's nodes, nor their own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::cluster::{Settings, node_network};

/// How many there are.
const NETWORKS: u8 = 16;

/// A turn at choosing, kept until the machine has what was chosen: until then nobody else could see that it is taken.
pub struct Turn(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

impl Turn {
    /// Waits for it; `folder` is the one in which all clusters of the machine have theirs.
    ///
    /// # Errors
    /// When the folder cannot be made or locked.
    pub fn wait(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let file = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        locked.map(Self).map_err(|(_, errno)| errno).with_context(|| format!("locking {}", folder.display()))
    }
}

/// An address that can be bound to is somebody's.
fn is_here(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The first of the machine's node networks that nobody has.
///
/// # Errors
/// When all are taken.
pub fn free(_turn: &Turn) -> Result<u8> {
    (0..NETWORKS)
        .find(|index| !is_here(node_network(*index, 1)))
        .context("this machine holds 16 clusters with nodes: stop one with `knarr down`")
}

/// Refuses a cluster whose network was given to another one while it was down.
///
/// # Errors
/// When that is so.
pub fn check(_turn: &Turn, settings: &Settings) -> Result<()> {
    let (bridge, gateway) = (settings.host_network().bridge, node_network(settings.index, 1));
    if !Path::new("/sys/class/net").join(bridge).exists() && is_here(gateway) {
        bail!(
            "the node network of cluster {:?}, that of {gateway}, has been taken by another cluster since: stop that one with `knarr down` first",
            settings.name
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_at_a_time_chooses() {
        let folder = tempfile::tempdir().unwrap();
        let clusters = folder.path().join("clusters");
        let again = || Flock::lock(File::open(&clusters).unwrap(), FlockArg::LockExclusiveNonblock);
        let turn = Turn::wait(&clusters).unwrap();
        assert!(again().is_err(), "a second one has to wait");
        drop(turn);
        again().unwrap();
    }
}
