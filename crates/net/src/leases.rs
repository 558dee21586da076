//! Which addresses are given to whom: files in a directory, named by the address and holding the owner. They survive
//! every process, several processes can give addresses of one directory, and one that is killed leaves no lock behind.
//!
//! Addresses are given in rotation, as upstream's `host-local` gives them: whoever still speaks to a pod that is gone
//! does not find another one in its place at once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base::failpoint;
use parking_lot::Mutex;

use crate::cidr::Cidr;
use crate::error::{Doing, NetError, Result};
use crate::file;

/// The file that says which addresses were given last.
const LAST: &str = "last";

/// The first free address behind the one that was given last, or from the beginning again.
fn next(network: &Cidr, last: Option<&IpAddr>, is_taken: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let behind = network.hosts().skip_while(|ip| last.is_some_and(|last| ip <= last));
    let before = network.hosts().take_while(|ip| last.is_some_and(|last| ip <= last));
    behind.chain(before).find(|ip| !is_taken(ip))
}

/// The addresses of one node's pods.
#[derive(Debug)]
pub struct Leases {
    dir: PathBuf,
    /// Owners that were read already, by address and file: whoever gives an address writes a new one.
    read: Mutex<HashMap<IpAddr, (Version, String)>>,
}

/// A file as it was: its inode, and when that was changed last. An inode alone may come back with another file.
type Version = (u64, i64, i64);

impl Leases {
    /// Records addresses in `dir`, which is made when the first is given.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, read: Mutex::default() }
    }

    /// Where they are recorded.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Nobody else gives or frees an address while this is held. The kernel lets go of a dead process's lock.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.dir).doing(|| format!("making {}", self.dir.display()))?;
        let path = self.dir.join("lock");
        let file = File::create(&path).doing(|| format!("opening {}", path.display()))?;
        file.lock().doing(|| format!("locking {}", path.display()))?;
        Ok(file)
    }

    /// Every address that is given, with its owner.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all(&self) -> Result<Vec<(IpAddr, String)>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("reading {}", self.dir.display())),
        };
        let mut found = Vec::new();
        let mut read = self.read.lock();
        let known = std::mem::take(&mut *read);
        for entry in entries {
            let entry = entry.doing(|| format!("reading {}", self.dir.display()))?;
            let path = entry.path();
            let ip = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(ip) = ip else { continue };
            // Freed since the directory was read.
            let Ok(metadata) = entry.metadata() else { continue };
            let version = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
            if let Some((_, owner)) = known.get(&ip).filter(|(known, _)| *known == version) {
                read.insert(ip, (version, owner.clone()));
                found.push((ip, owner.clone()));
                continue;
            }
            match fs::read_to_string(&path) {
                Ok(owner) => {
                    read.insert(ip, (version, owner.clone()));
                    found.push((ip, owner));
                }
                // Freed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
            }
        }
        found.sort();
        Ok(found)
    }

    /// The addresses of an owner.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(&self, owner: &str) -> Result<Vec<IpAddr>> {
        Ok(self.all()?.into_iter().filter(|(_, found)| found == owner).map(|(ip, _)| ip).collect())
    }

    /// One address of each network: what the owner has already, or the next that is free.
    ///
    /// # Errors
    /// When a network has none left; then nothing is given.
    pub fn take(&self, networks: &[Cidr], owner: &str) -> Result<Vec<IpAddr>> {
        let _lock = self.lock()?;
        let known = self.all()?;
        let mut last = self.last()?;
        let mut given = Vec::new();
        for network in networks {
            let ours = known.iter().find(|(ip, found)| found == owner && network.contains(*ip));
            let ip = match ours {
                Some((ip, _)) => *ip,
                None => {
                    let is_taken = |ip: &IpAddr| known.iter().any(|(taken, _)| taken == ip);
                    let ip = next(network, last.iter().find(|ip| network.contains(**ip)), is_taken);
                    let none = || NetError::Other(format!("all pod addresses of {network} are taken"));
                    let ip = ip.ok_or_else(none)?;
                    last.retain(|ip| !network.contains(*ip));
                    last.push(ip);
                    ip
                }
            };
            given.push(ip);
        }
        for ip in &given {
            // Whole or not at all: an address without an owner would be nobody's to free.
            self.write(&ip.to_string(), owner)?;
            failpoint::hit("net.address.taken");
        }
        let last: Vec<String> = last.iter().map(ToString::to_string).collect();
        // The same file each time: a new one would leave an old one behind. Cut off, it only costs the order.
        let path = self.dir.join(LAST);
        fs::write(&path, last.join("\n")).doing(|| format!("writing {}", path.display()))?;
        Ok(given)
    }

    /// The addresses that were given last, one of each network. A file that says nothing of use only costs the order.
    fn last(&self) -> Result<Vec<IpAddr>> {
        let path = self.dir.join(LAST);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).doing(|| format!("reading {}", path.display())),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        file::replace(&self.dir.join(name), &self.dir.join("new"), text)
    }

    /// Frees an owner's addresses. Doing it again is no error.
    ///
    /// # Errors
    /// When they cannot be freed.
    pub fn release(&self, owner: &str) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for ip in self.of(owner)? {
            let path = self.dir.join(ip.to_string());
            fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
            self.read.lock().remove(&ip);
            failpoint::hit("net.address.freed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(given: Result<Vec<IpAddr>>) -> Vec<String> {
        given.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_given_once_and_again_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().join("leases"));
        let networks = [Cidr::parse("10.9.1.0/29").unwrap(), Cidr::parse("fd00::/64").unwrap()];
        leases.release("nobody").unwrap();
        assert_eq!(texts(leases.take(&networks, "a")), ["10.9.1.2", "fd00::2"]);
        assert_eq!(texts(leases.take(&networks, "b")), ["10.9.1.3", "fd00::3"]);
        assert_eq!(texts(leases.take(&networks, "a")), ["10.9.1.2", "fd00::2"]);
        for id in ["c", "d", "e"] {
            leases.take(&networks, id).unwrap();
        }
        let error = leases.take(&networks, "f").unwrap_err().to_string();
        assert_eq!(error, "all pod addresses of 10.9.1.0/29 are taken");
        assert_eq!(leases.of("f").unwrap(), Vec::<IpAddr>::new());
        // Another process sees the same, and a killed one's half-written file is nobody's address.
        fs::write(dir.path().join("leases/new"), "g").unwrap();
        let other = Leases::new(dir.path().join("leases"));
        other.release("b").unwrap();
        other.release("b").unwrap();
        assert_eq!(texts(leases.take(&networks, "f")), ["10.9.1.3", "fd00::7"]);
    }

    #[test]
    fn an_address_that_another_process_gave_to_another_owner_is_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Leases::new(dir.path().to_owned()), Leases::new(dir.path().to_owned()));
        let networks = [Cidr::parse("10.9.1.0/30").unwrap()];
        let [ip] = one.take(&networks, "a").unwrap().try_into().unwrap();
        assert_eq!(two.of("a").unwrap(), [ip]);
        one.release("a").unwrap();
        one.take(&networks, "b").unwrap();
        assert_eq!(two.all().unwrap(), [(ip, "b".to_owned())]);
        two.release("b").unwrap();
        assert_eq!(one.all().unwrap(), []);
    }

    #[test]
    fn an_address_that_is_free_again_waits_for_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().join("leases"));
        let networks = [Cidr::parse("10.9.1.0/29").unwrap(), Cidr::parse("fd00::/64").unwrap()];
        let mut seen = Vec::new();
        for id in ["a", "b", "c", "d", "e", "f", "g"] {
            seen.push(texts(leases.take(&networks[..1], id)).remove(0));
            leases.release(id).unwrap();
        }
        let wanted = ["10.9.1.2", "10.9.1.3", "10.9.1.4", "10.9.1.5", "10.9.1.6", "10.9.1.2", "10.9.1.3"];
        assert_eq!(seen, wanted);
        // Another process goes on where the first was, and the networks do not share their turns.
        let other = Leases::new(dir.path().join("leases"));
        assert_eq!(texts(other.take(&networks, "h")), ["10.9.1.4", "fd00::2"]);
        fs::write(dir.path().join("leases/last"), "nonsense").unwrap();
        assert_eq!(texts(other.take(&networks[..1], "i")), ["10.9.1.2"]);
    }

    #[test]
    fn processes_at_once_get_different_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let networks = [Cidr::parse("10.9.0.0/24").unwrap()];
        let mut given: Vec<IpAddr> = std::thread::scope(|scope| {
            let take = |number: usize| {
                let path = dir.path().to_owned();
                scope.spawn(move || Leases::new(path).take(&networks, &number.to_string()).unwrap())
            };
            let threads: Vec<_> = (0..32).map(take).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 32);
    }
}
