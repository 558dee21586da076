//! A pod's link: a routed point-to-point veth, no bridge. Between two pods on one bridge a Service's reverse
//! translation would depend on `br_netfilter`.
//!
//! The addresses that are given are files in a directory, named by the address and holding the sandbox's id: they
//! survive every process, and a sandbox that is set up twice gets the same address.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::{Doing, NetError, Result};
use crate::link::{Links, sysctl};
use crate::namespace;

/// What pods see as their gateway; the node answers for it, whatever its own addresses.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Gives pods of one node their network.
pub struct PodLinks {
    /// Where given addresses are recorded.
    leases: PathBuf,
    cidr: Mutex<Option<(u32, u8)>>,
}

impl PodLinks {
    /// Records addresses below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        let cidr = fs::read_to_string(dir.join("cidr")).ok().and_then(|text| parse(text.trim()).ok());
        Self { leases: dir, cidr: Mutex::new(cidr) }
    }

    /// The node's part of the pod network, as text such as `10.244.1.0/24`.
    ///
    /// # Errors
    /// When it is no network, or cannot be recorded.
    pub fn set_cidr(&self, cidr: &str) -> Result<()> {
        let parsed = parse(cidr)?;
        if *self.cidr.lock() == Some(parsed) {
            return Ok(());
        }
        fs::create_dir_all(&self.leases).doing(|| format!("making {}", self.leases.display()))?;
        let path = self.leases.join("cidr");
        fs::write(&path, cidr).doing(|| format!("writing {}", path.display()))?;
        *self.cidr.lock() = Some(parsed);
        Ok(())
    }

    /// Whether pods can be given a network.
    pub fn has_cidr(&self) -> bool {
        self.cidr.lock().is_some()
    }

    /// Connects the namespace pinned at `netns`, for the sandbox `id`. Doing it again changes nothing.
    ///
    /// # Errors
    /// When no address is free, or the kernel refuses.
    pub async fn setup(&self, netns: &Path, id: &str) -> Result<Ipv4Addr> {
        let ip = self.take(id)?;
        let outer = link_name(id);
        let links = Links::open()?;
        sysctl("ip_forward", "1")?;
        if links.index(&outer).await?.is_none() {
            let file = File::open(netns).doing(|| format!("opening {}", netns.display()))?;
            links.veth_into(&outer, file.as_raw_fd(), "eth0").await?;
        }
        namespace::run_in(netns, move || async move {
            let links = Links::open()?;
            links.up("lo").await?;
            links.address("eth0", ip, 32).await?;
            links.up("eth0").await?;
            links.route_link(GATEWAY, 32, "eth0").await?;
            links.route_via(Ipv4Addr::UNSPECIFIED, 0, GATEWAY, Some("eth0")).await
        })
        .await?;
        // The node answers every question for an address on this link with its own: no address of its own is needed.
        sysctl(&format!("conf/{outer}/proxy_arp"), "1")?;
        sysctl(&format!("neigh/{outer}/proxy_delay"), "0")?;
        links.up(&outer).await?;
        links.route_link(ip, 32, &outer).await?;
        Ok(ip)
    }

    /// Disconnects a sandbox and frees its address. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn teardown(&self, id: &str) -> Result<()> {
        Links::open()?.remove(&link_name(id)).await?;
        for (path, owner) in self.leased()? {
            if owner == id {
                fs::remove_file(&path).doing(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn leased(&self) -> Result<Vec<(PathBuf, String)>> {
        let entries = match fs::read_dir(&self.leases) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("reading {}", self.leases.display())),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.doing(|| format!("reading {}", self.leases.display()))?.path();
            if path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.parse::<Ipv4Addr>().is_ok())
            {
                let owner = fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))?;
                found.push((path, owner));
            }
        }
        Ok(found)
    }

    /// The address of a sandbox: the one it has, or the next free one.
    fn take(&self, id: &str) -> Result<Ipv4Addr> {
        let cidr = self.cidr.lock();
        let (base, bits) =
            cidr.ok_or_else(|| NetError::Other("the node has no pod network yet".to_owned()))?;
        for (path, owner) in self.leased()? {
            let ip = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if let (true, Some(ip)) = (owner == id, ip) {
                return Ok(ip);
            }
        }
        // The lock is held until the file is there: two sandboxes cannot take the same one.
        let last = (1u64 << (32 - u32::from(bits))) - 1;
        for offset in 2..last {
            let ip = Ipv4Addr::from(base + u32::try_from(offset).unwrap_or(u32::MAX));
            let path = self.leases.join(ip.to_string());
            match File::create_new(&path) {
                Ok(mut file) => {
                    file.write_all(id.as_bytes()).doing(|| format!("writing {}", path.display()))?;
                    return Ok(ip);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).doing(|| format!("making {}", path.display())),
            }
        }
        Err(NetError::Other(format!("all pod addresses of {}/{bits} are taken", Ipv4Addr::from(base))))
    }
}

/// The name of a sandbox's link on the node: at most 15 characters, and the same each time.
fn link_name(id: &str) -> String {
    // FNV-1a: names need to differ, not to be secret.
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("kn{:011x}", hash >> 20)
}

/// Base and length of a network.
pub(crate) fn parse(cidr: &str) -> Result<(u32, u8)> {
    let bad = || NetError::Other(format!("{cidr:?} is not an IPv4 network"));
    let (address, bits) = cidr.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let bits: u8 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(bad)?;
    Ok((u32::from(address) & !((1u32 << (32 - u32::from(bits))) - 1), bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once_and_again_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let links = PodLinks::new(dir.path().to_owned());
        assert!(links.take("a").is_err());
        links.set_cidr("10.9.1.0/29").unwrap();
        assert_eq!(links.take("a").unwrap(), Ipv4Addr::new(10, 9, 1, 2));
        assert_eq!(links.take("b").unwrap(), Ipv4Addr::new(10, 9, 1, 3));
        assert_eq!(links.take("a").unwrap(), Ipv4Addr::new(10, 9, 1, 2));
        for id in ["c", "d", "e"] {
            links.take(id).unwrap();
        }
        let error = links.take("f").unwrap_err().to_string();
        assert_eq!(error, "all pod addresses of 10.9.1.0/29 are taken");
        // Another process sees the same.
        assert_eq!(PodLinks::new(dir.path().to_owned()).take("b").unwrap(), Ipv4Addr::new(10, 9, 1, 3));
    }

    #[test]
    fn link_names_fit_the_kernel() {
        let name = link_name("0123456789abcdef");
        assert!(name.len() <= 14 && name != link_name("0123456789abcdee"));
    }
}
