//! Ports of the node that lead to a pod's: translated by the kernel, so that the pod sees who its client is, and that
//! they stay open while no process of ours runs.
//!
//! What each pod has is a file; the tables are always made from all files as one transaction, so that whoever comes
//! after a killed process finds, and mends, everything.

mod apply;
pub mod plan;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::PathBuf;

use base::failpoint;

use crate::conntrack;
use crate::error::{Doing, NetError, Result};
use crate::file;
use plan::{Protocol, Record, conflict};

/// The file that says on which addresses ports of every address are not.
const RESERVED: &str = "reserved";

/// The host ports of one node's pods.
#[derive(Debug)]
pub struct HostPorts {
    dir: PathBuf,
    table: String,
}

impl HostPorts {
    /// Records ports in `dir`, and writes the tables `table` of the calling thread's namespace.
    pub fn new(dir: PathBuf, table: String) -> Self {
        Self { dir, table }
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.dir).doing(|| format!("making {}", self.dir.display()))?;
        let path = self.dir.join("lock");
        let file = File::create(&path).doing(|| format!("opening {}", path.display()))?;
        file.lock().doing(|| format!("locking {}", path.display()))?;
        Ok(file)
    }

    fn path(&self, owner: &str) -> PathBuf {
        self.dir.join(format!("{owner}.json"))
    }

    fn all(&self) -> Result<Vec<Record>> {
        let reading = || format!("reading {}", self.dir.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).doing(reading)? {
            let path = entry.doing(reading)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).doing(|| format!("reading {}", path.display()))?;
            let record = serde_json::from_slice(&bytes).map_err(|error| {
                NetError::Other(format!("{} is damaged: remove it to go on ({error})", path.display()))
            })?;
            found.push(record);
        }
        Ok(found)
    }

    /// Opens a pod's ports. Doing it again changes nothing.
    ///
    /// # Errors
    /// When another pod has one of them, or the kernel refuses; then none of them is open.
    pub fn open(&self, record: &Record) -> Result<()> {
        if record.ports.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut all = self.all()?;
        all.retain(|other| other.owner != record.owner);
        if let Some(why) = conflict(&all, record) {
            return Err(NetError::Other(why));
        }
        let path = self.path(&record.owner);
        let json = serde_json::to_vec(record).map_err(|error| NetError::Other(error.to_string()))?;
        // One name for all: what a killed process left half written is written over by the next.
        let new = self.dir.join("new");
        fs::write(&new, json).doing(|| format!("writing {}", new.display()))?;
        failpoint::hit("net.ports.written");
        fs::rename(&new, &path).doing(|| format!("writing {}", path.display()))?;
        failpoint::hit("net.ports.recorded");
        all.push(record.clone());
        let written = apply::write(&self.table, &all, &self.reserved()?);
        if written.is_err() {
            fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
            return written;
        }
        forget(record);
        Ok(())
    }

    /// Closes a pod's ports. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn close(&self, owner: &str) -> Result<()> {
        if !self.path(owner).exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut all = self.all()?;
        all.retain(|record| record.owner != owner);
        // The file goes last: whoever finds it tries again.
        let gone = self.of(owner)?;
        apply::write(&self.table, &all, &self.reserved()?)?;
        failpoint::hit("net.ports.closed");
        gone.iter().for_each(forget);
        let path = self.path(owner);
        fs::remove_file(&path).doing(|| format!("removing {}", path.display()))
    }

    /// Closes the ports of all but some pods, and makes the tables anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep(&self, is_known: impl Fn(&str) -> bool) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.all()?.into_iter().partition(|record| is_known(&record.owner));
        apply::write(&self.table, &kept, &self.reserved()?)?;
        for record in gone {
            forget(&record);
            let path = self.path(&record.owner);
            fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    /// Ports of every address are not on these from now on: they are the cluster's, such as that of its DNS, which
    /// every node has for itself.
    ///
    /// # Errors
    /// When that cannot be written down, or the kernel refuses.
    pub fn reserve(&self, addresses: &[IpAddr]) -> Result<()> {
        let _lock = self.lock()?;
        if self.reserved()? == addresses {
            return Ok(());
        }
        let path = self.dir.join(RESERVED);
        let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        file::replace(&path, &path.with_extension("new"), &lines.join("\n"))?;
        let all = self.all()?;
        if all.is_empty() { Ok(()) } else { apply::write(&self.table, &all, addresses) }
    }

    fn reserved(&self) -> Result<Vec<IpAddr>> {
        let path = self.dir.join(RESERVED);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let parse = |line: &str| {
                    let damaged = |_| NetError::Other(format!("{} is damaged: remove it", path.display()));
                    line.parse().map_err(damaged)
                };
                text.lines().map(parse).collect()
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).doing(|| format!("reading {}", path.display())),
        }
    }

    /// What a pod has open.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn of(&self, owner: &str) -> Result<Option<Record>> {
        match fs::read(self.path(owner)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| NetError::Other(e.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("reading {}", self.path(owner).display())),
        }
    }
}

/// Lets no client go on to whoever had a port before.
fn forget(record: &Record) {
    let udp = record.ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let ports: BTreeSet<u16> = udp.map(|port| port.port).collect();
    if ports.is_empty() {
        return;
    }
    if let Err(error) = conntrack::forget(|flow| ports.contains(&flow.to.1)) {
        // New clients are led right; the others are when they are silent for a while.
        tracing::warn!(%error, owner = record.owner, "clients of a host port are not forgotten");
    }
}

#[cfg(test)]
mod tests;
