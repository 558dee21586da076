//! Logs of a node that is not the whole machine: they are in folders of its own, and its pods find them nevertheless
//! where logs of containers are on every node, below `/var/log`.

use std::path::{Path, PathBuf};

use cri::v1 as wire;

/// Where containers' logs are for pods.
const LOGS: &str = "/var/log/pods";
/// Where links to these are for pods.
const LINKS: &str = "/var/log/containers";

/// The folders of a node that its pods see as those of the machine.
#[derive(Clone, Debug)]
pub struct OwnLogs {
    folders: [(&'static str, PathBuf); 2],
}

impl OwnLogs {
    /// Logs of containers, and links to them.
    pub fn new(logs: &Path, links: &Path) -> Self {
        Self { folders: [(LOGS, logs.to_owned()), (LINKS, links.to_owned())] }
    }

    /// Where something is that pods know by this path.
    pub fn place(&self, path: &Path) -> PathBuf {
        let placed = |(seen, folder): &(&str, PathBuf)| Some(folder.join(path.strip_prefix(seen).ok()?));
        // Joining nothing would add a slash.
        self.folders.iter().find_map(placed).map_or(path.to_owned(), |path| path.components().collect())
    }

    /// The folder, and the way in it, to a part of a volume that is at this path for pods.
    pub fn enter(&self, volume: &Path, sub: &str) -> (PathBuf, String) {
        let whole = volume.join(sub);
        for (seen, folder) in &self.folders {
            if let (Ok(rest), false) = (whole.strip_prefix(seen), volume.starts_with(seen)) {
                return (folder.clone(), rest.display().to_string());
            }
        }
        (self.place(volume), sub.to_owned())
    }

    /// What lies over a mount of this path of the machine, so that the folders are in it, and over which folder of the
    /// machine, which has to be there. Nothing where the mount hands on to the machine what is mounted in it, or where
    /// `taken` says that the container has something else.
    pub fn over(
        &self,
        path: &Path,
        mount: &wire::Mount,
        taken: impl Fn(&str) -> bool,
    ) -> Vec<(&'static str, wire::Mount)> {
        if mount.propagation == wire::MountPropagation::PropagationBidirectional as i32 {
            return Vec::new();
        }
        let mut over = Vec::new();
        for (seen, folder) in &self.folders {
            let Ok(rest) = Path::new(seen).strip_prefix(path) else { continue };
            let container_path = Path::new(&mount.container_path).join(rest).display().to_string();
            if rest.as_os_str().is_empty() || taken(&container_path) {
                continue;
            }
            let host_path = folder.display().to_string();
            over.push((*seen, wire::Mount { container_path, host_path, ..mount.clone() }));
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnLogs {
        OwnLogs::new(Path::new("/n/log/pods"), Path::new("/n/log/containers"))
    }

    #[test]
    fn what_is_below_the_folders_is_in_those_of_the_node() {
        let place = |path: &str| own().place(Path::new(path)).display().to_string();
        assert_eq!(place("/var/log/pods"), "/n/log/pods");
        assert_eq!(place("/var/log//containers/./a.log"), "/n/log/containers/a.log");
        for elsewhere in ["/var/log", "/var/log/podsy", "/"] {
            assert_eq!(place(elsewhere), elsewhere);
        }
        let enter = |path: &str, sub: &str| {
            let (path, sub) = own().enter(Path::new(path), sub);
            format!("{} {sub}", path.display())
        };
        assert_eq!(enter("/var/log", "pods/a"), "/n/log/pods a");
        assert_eq!(enter("/var", "log/containers"), "/n/log/containers ");
        assert_eq!(enter("/var/log/pods", "a"), "/n/log/pods a");
        assert_eq!(enter("/var/log", "syslog"), "/var/log syslog");
    }

    #[test]
    fn a_mount_of_what_is_above_the_folders_has_those_of_the_node_in_it() {
        let mount = wire::Mount {
            container_path: "/host".to_owned(),
            host_path: "/var/log".to_owned(),
            readonly: true,
            ..Default::default()
        };
        let over = |path: &str, taken: &str| {
            let over = own().over(Path::new(path), &mount, |path| path == taken);
            let told = |(_, mount): (&str, wire::Mount)| {
                format!("{} {} {}", mount.container_path, mount.host_path, mount.readonly)
            };
            over.into_iter().map(told).collect::<Vec<_>>()
        };
        let both = ["/host/pods /n/log/pods true", "/host/containers /n/log/containers true"];
        assert_eq!(over("/var/log", ""), both);
        assert_eq!(over("/var/log", "/host/pods"), [both[1]]);
        assert_eq!(over("/", "")[0], "/host/var/log/pods /n/log/pods true");
        assert!(over("/var/log/pods", "").is_empty() && over("/var/lib", "").is_empty());
        let shared = wire::MountPropagation::PropagationBidirectional as i32;
        let shared = wire::Mount { propagation: shared, ..mount.clone() };
        assert!(own().over(Path::new("/var/log"), &shared, |_| false).is_empty());
    }
}
