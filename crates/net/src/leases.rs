//! Which addresses are given to whom: files in a directory, named by the address and holding the owner. They survive
//! every process, several processes can give addresses of one directory, and one that is killed leaves no lock behind.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::failpoint;

use crate::cidr::Cidr;
use crate::error::{Doing, NetError, Result};

/// The addresses of one node's pods.
#[derive(Debug)]
pub struct Leases {
    dir: PathBuf,
}

impl Leases {
    /// Records addresses in `dir`, which is made when the first is given.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
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
        for entry in entries {
            let path = entry.doing(|| format!("reading {}", self.dir.display()))?.path();
            let ip = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(ip) = ip else { continue };
            match fs::read_to_string(&path) {
                Ok(owner) => found.push((ip, owner)),
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
        let mut given = Vec::new();
        for network in networks {
            let ours = known.iter().find(|(ip, found)| found == owner && network.contains(*ip));
            let ip = match ours {
                Some((ip, _)) => Some(*ip),
                None => network.hosts().find(|ip| !known.iter().any(|(taken, _)| taken == ip)),
            };
            given.push(
                ip.ok_or_else(|| NetError::Other(format!("all pod addresses of {network} are taken")))?,
            );
        }
        for ip in &given {
            let path = self.dir.join(ip.to_string());
            // Whole or not at all: an address without an owner would be nobody's to free.
            let new = self.dir.join("new");
            fs::write(&new, owner).doing(|| format!("writing {}", new.display()))?;
            failpoint::hit("net.address.written");
            fs::rename(&new, &path).doing(|| format!("writing {}", path.display()))?;
            failpoint::hit("net.address.taken");
        }
        Ok(given)
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
        assert_eq!(texts(leases.take(&networks, "f")), ["10.9.1.3", "fd00::3"]);
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
