//! Which addresses are given to whom: files in a directory, named by the address and holding the owner. They survive
//! every process, several processes can give addresses of one directory, and one that is killed leaves no lock behind.
//!
//! Addresses are given in rotation, as upstream's `host-local` gives them: whoever still speaks to a pod that is gone
//! does not find another one in its place at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base::{Random, SystemRandom, failpoint};
use parking_lot::{Mutex, MutexGuard};

use crate::cidr::Cidr;
use crate::error::{Doing, NetError, Result};
use crate::file;

/// The file that says which addresses were given last.
const LAST: &str = "last";

/// The addresses of one node's pods.
#[derive(Debug)]
pub struct Leases {
    dir: PathBuf,
    known: Mutex<Known>,
}

/// What was read of the directory. It holds for as long as nobody gives or frees an address.
#[derive(Debug, Default)]
struct Known {
    /// Of the last change; none where it is not sure what is there.
    mark: Option<u64>,
    owners: BTreeMap<IpAddr, String>,
}

/// Held by whoever gives or frees addresses. The kernel lets go of a dead process's lock.
pub(crate) struct Turn {
    /// It holds a mark that nobody wrote before: whoever finds another one than the last time reads everything again.
    file: File,
    mark: u64,
}

impl Turn {
    /// Says that something changes, before anything does.
    fn begin_change(&mut self, path: &Path) -> Result<()> {
        let mut mark = [0; 8];
        SystemRandom.fill(&mut mark);
        self.file.write_all_at(&mark, 0).doing(|| format!("writing {}", path.display()))?;
        self.mark = u64::from_le_bytes(mark);
        Ok(())
    }
}

impl Leases {
    /// Records addresses in `dir`, which is made when the first is given.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, known: Mutex::default() }
    }

    /// Where they are recorded.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Nobody else gives or frees an address while this is held.
    pub(crate) fn lock(&self) -> Result<Turn> {
        fs::create_dir_all(&self.dir).doing(|| format!("making {}", self.dir.display()))?;
        let path = self.lock_path();
        let mut open = File::options();
        let file = open.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.doing(|| format!("opening {}", path.display()))?;
        file.lock().doing(|| format!("locking {}", path.display()))?;
        let mut mark = [0; 8];
        let mark = match file.read_exact_at(&mut mark, 0) {
            Ok(()) => u64::from_le_bytes(mark),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
        };
        Ok(Turn { file, mark })
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// What is given, read only if somebody else gave or freed an address since.
    fn known(&self, turn: &Turn) -> Result<MutexGuard<'_, Known>> {
        let mut known = self.known.lock();
        // A directory that nobody has marked yet may be another one by now.
        if turn.mark == 0 || known.mark != Some(turn.mark) {
            *known = Known { mark: Some(turn.mark), owners: self.all()?.into_iter().collect() };
        }
        Ok(known)
    }

    /// Says that something changes: if that fails halfway, it is read again what is there.
    fn change(&self, turn: &mut Turn, known: &mut Known) -> Result<()> {
        known.mark = None;
        turn.begin_change(&self.lock_path())
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
        let mut turn = self.lock()?;
        let mut known = self.known(&turn)?;
        let mut last = self.last()?;
        let (mut ours, mut new) = (Vec::new(), Vec::new());
        for network in networks {
            let has = known.owners.iter().find(|(ip, found)| *found == owner && network.contains(**ip));
            if let Some((ip, _)) = has {
                ours.push(*ip);
                continue;
            }
            let behind = last.iter().find(|ip| network.contains(**ip));
            let free = network.hosts(behind).find(|ip| !known.owners.contains_key(ip));
            let ip =
                free.ok_or_else(|| NetError::Other(format!("all pod addresses of {network} are taken")))?;
            last.retain(|ip| !network.contains(*ip));
            last.push(ip);
            ours.push(ip);
            new.push(ip);
        }
        if new.is_empty() {
            return Ok(ours);
        }
        self.change(&mut turn, &mut known)?;
        for ip in new {
            // Whole or not at all: an address without an owner would be nobody's to free.
            self.write(&ip.to_string(), owner)?;
            known.owners.insert(ip, owner.to_owned());
            failpoint::hit("net.address.taken");
        }
        known.mark = Some(turn.mark);
        let last: Vec<String> = last.iter().map(ToString::to_string).collect();
        // The same file each time: a new one would leave an old one behind. Cut off, it only costs the order.
        let path = self.dir.join(LAST);
        fs::write(&path, last.join("\n")).doing(|| format!("writing {}", path.display()))?;
        Ok(ours)
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
        let mut turn = self.lock()?;
        let mut known = self.known(&turn)?;
        let owned = known.owners.iter().filter(|(_, found)| *found == owner);
        let owned: Vec<IpAddr> = owned.map(|(ip, _)| *ip).collect();
        if owned.is_empty() {
            return Ok(());
        }
        self.change(&mut turn, &mut known)?;
        for ip in owned {
            let path = self.dir.join(ip.to_string());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("removing {}", path.display()));
                }
                _ => drop(known.owners.remove(&ip)),
            }
            failpoint::hit("net.address.freed");
        }
        known.mark = Some(turn.mark);
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
    fn what_nobody_changed_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Leases::new(dir.path().to_owned()), Leases::new(dir.path().to_owned()));
        let networks = [Cidr::parse("10.9.1.0/29").unwrap()];
        one.take(&networks, "a").unwrap();
        // By somebody who takes no turn: it is not seen until somebody does.
        fs::remove_file(dir.path().join("10.9.1.2")).unwrap();
        assert_eq!(texts(one.take(&networks, "a")), ["10.9.1.2"], "it is not looked for");
        one.release("a").unwrap();
        one.release("a").unwrap();
        two.take(&networks, "b").unwrap();
        assert_eq!(texts(one.take(&networks, "c")), ["10.9.1.4"]);
        // Killed between its mark and its change, or before either: nothing of it is believed.
        let mut turn = two.lock().unwrap();
        turn.begin_change(&two.lock_path()).unwrap();
        drop(turn);
        assert_eq!(texts(one.take(&networks, "b")), ["10.9.1.3"]);
        // A directory that was made anew has no mark.
        fs::remove_dir_all(dir.path()).unwrap();
        one.release("c").unwrap();
        assert_eq!(texts(one.take(&networks, "d")), ["10.9.1.2"]);
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
