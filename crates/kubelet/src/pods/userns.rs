//! User namespaces of pods (`hostUsers: false`, KEP-127): each pod has a range of the node's users for itself.
//!
//! A range stands in the pod's own directory, so that it is the same after a restart and free when that is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::failpoint;
use cri::v1 as wire;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Users of a pod, if nobody says how many.
pub const LENGTH: u32 = 65_536;
/// In the pod's directory; upstream's name and format.
const FILE: &str = "userns";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

impl Mapping {
    fn overlaps(&self, other: &Self) -> bool {
        let end = |one: &Self| one.host_id.saturating_add(one.length);
        self.host_id < end(other) && other.host_id < end(self)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mappings {
    #[serde(rename = "uidMappings")]
    uids: Vec<Mapping>,
    #[serde(rename = "gidMappings")]
    gids: Vec<Mapping>,
}

/// Why a pod has no range.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("could not find an empty slot to allocate a user namespace")]
    Full,
    #[error("kubelet user assigned IDs are not enough to support {0} pods")]
    TooFew(u32),
    #[error("the user namespace of a pod: {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// The ranges that are taken, by which pod. Number N of the ranges that are given begins at N times their length.
#[derive(Debug)]
pub struct Users {
    pods: PathBuf,
    most: u32,
    length: u32,
    taken: Mutex<BTreeMap<String, Mapping>>,
}

impl Users {
    /// Reads which ranges the pods below `pods` have; `most` pods can have one of so many users. Ranges of another length
    /// stay with those who have them.
    ///
    /// # Errors
    /// A record that cannot be read: to give its range away twice would be worse than not to start. More users than there
    /// can be.
    pub fn load(pods: &Path, most: u32, length: u32) -> Result<Self, UsersError> {
        if u32::MAX / length.max(1) <= most {
            return Err(UsersError::TooFew(most));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| UsersError::File { path, source }
        };
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(pods).map_err(failed(pods))? {
            let entry = entry.map_err(failed(pods))?;
            let path = entry.path().join(FILE);
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                Err(error) => return Err(failed(&path)(error)),
            };
            let mappings: Mappings =
                serde_json::from_slice(&text).map_err(|error| failed(&path)(io::Error::other(error)))?;
            if let Some(mapping) = mappings.uids.into_iter().next() {
                taken.insert(entry.file_name().to_string_lossy().into_owned(), mapping);
            }
        }
        Ok(Self { pods: pods.to_owned(), most, length, taken: Mutex::new(taken) })
    }

    /// The range of a pod; a new one if it has none.
    ///
    /// # Errors
    /// When all are taken, or it cannot be written down.
    pub fn of(&self, uid: &str) -> Result<wire::UserNamespace, UsersError> {
        let mut taken = self.taken.lock();
        let given = match taken.get(uid) {
            Some(mapping) => mapping.clone(),
            None => {
                // Number 0 is the node's own. Other nodes of the same machine begin elsewhere, too: a pod's UID is random.
                let first = first(uid) % self.most.max(1);
                let numbers = (0..self.most).map(|step| 1 + first.wrapping_add(step) % self.most);
                let mut all = numbers.map(|number| Mapping {
                    host_id: number * self.length,
                    container_id: 0,
                    length: self.length,
                });
                let free = all.find(|wanted| !taken.values().any(|other| other.overlaps(wanted)));
                let mapping = free.ok_or(UsersError::Full)?;
                self.write(uid, &mapping)?;
                taken.insert(uid.to_owned(), mapping.clone());
                mapping
            }
        };
        let mapping = wire::IdMapping { host_id: given.host_id, container_id: 0, length: given.length };
        Ok(wire::UserNamespace {
            mode: wire::NamespaceMode::Pod as i32,
            uids: vec![mapping],
            gids: vec![mapping],
        })
    }

    fn write(&self, uid: &str, mapping: &Mapping) -> Result<(), UsersError> {
        let mappings = Mappings { uids: vec![mapping.clone()], gids: vec![mapping.clone()] };
        let dir = self.pods.join(uid);
        let path = dir.join(FILE);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&dir)?;
            let temporary = dir.join("userns.new");
            fs::write(&temporary, serde_json::to_vec(&mappings)?)?;
            fs::File::open(&temporary)?.sync_all()?;
            failpoint::hit("kubelet.users.written");
            fs::rename(&temporary, &path)?;
            fs::File::open(&dir)?.sync_all()?;
            failpoint::hit("kubelet.users.recorded");
            Ok(())
        };
        write().map_err(|source| UsersError::File { path, source })
    }

    /// A pod's directory is gone: its range is free.
    pub fn release(&self, uid: &str) {
        self.taken.lock().remove(uid);
    }
}

/// Where the search for a free range begins: anywhere, by a hash (FNV-1a) of the pod's UID.
fn first(uid: &str) -> u32 {
    uid.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_stay_the_same_and_are_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = |users: &Users, uid: &str| users.of(uid).map(|namespace| namespace.uids[0].host_id);
        let users = Users::load(dir.path(), 2, LENGTH).unwrap();
        let (a, b) = (first(&users, "a").unwrap(), first(&users, "b").unwrap());
        assert_eq!([a.min(b), a.max(b)], [LENGTH, 2 * LENGTH]);
        assert!(matches!(first(&users, "c"), Err(UsersError::Full)));
        let users = Users::load(dir.path(), 2, LENGTH).unwrap();
        assert_eq!(first(&users, "b").unwrap(), b, "after a restart");
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        users.release("a");
        assert_eq!(first(&users, "c").unwrap(), a);
    }

    #[test]
    fn ranges_of_another_length_stay_and_are_given_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let range = |users: &Users, uid: &str| {
            users.of(uid).map(|namespace| (namespace.uids[0].host_id, namespace.uids[0].length))
        };
        let old = Users::load(dir.path(), 4, LENGTH).unwrap();
        let kept: Vec<_> = ["a", "b"].map(|uid| range(&old, uid).unwrap()).into();
        let users = Users::load(dir.path(), 4, 2 * LENGTH).unwrap();
        assert_eq!(["a", "b"].map(|uid| range(&users, uid).unwrap()).to_vec(), kept);
        while let Ok((host_id, length)) = range(&users, &format!("c{}", users.taken.lock().len())) {
            assert_eq!((host_id % (2 * LENGTH), length), (0, 2 * LENGTH));
            let apart =
                |(other, length): &(u32, u32)| other + length <= host_id || host_id + 2 * LENGTH <= *other;
            assert!(kept.iter().all(apart), "{host_id} {kept:?}");
        }
        assert!(matches!(Users::load(dir.path(), 4, 1 << 30), Err(UsersError::TooFew(4))));
    }

    #[test]
    fn pods_of_several_nodes_of_one_machine_are_mostly_apart() {
        let begin = |uid: &str| super::first(uid) % 110;
        assert_ne!(
            begin("3f0e6a52-5b0c-4f4e-9e3c-2d2f0f9f8c11"),
            begin("a1b2c3d4-0000-4f4e-9e3c-2d2f0f9f8c12")
        );
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/userns"), "{").unwrap();
        assert!(Users::load(dir.path(), 2, LENGTH).is_err());
    }
}
