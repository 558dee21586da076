//! A container's cgroups: made with their limits before the container, whose first process joins them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::LinuxContainerResources;

use super::devices::Devices;
use super::{Hierarchies, below};

/// What libcontainer has to know of cgroups that are ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ready {
    /// Files that take "0" to bring the writer in.
    pub doors: Vec<PathBuf>,
    /// Mount points of version 1.
    pub split: Vec<PathBuf>,
    /// The mount point of version 2, if there is one.
    pub unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Makes a cgroup in every hierarchy that has controllers, with its limits. One that is there is changed.
    ///
    /// # Errors
    /// With the path of what refused.
    pub fn make(&self, cgroup: &str, limits: &LinuxContainerResources, devices: &Devices) -> io::Result<()> {
        match &self.unified {
            Some(root) => descend(root, cgroup.trim_start_matches('/'))?,
            None => {
                for (names, root) in self.with_controllers() {
                    let folder = root.join(cgroup.trim_start_matches('/'));
                    fs::create_dir_all(&folder).map_err(named(&folder))?;
                    if names.iter().any(|name| name == "cpuset") {
                        inherit_processors(root, &folder)?;
                    }
                }
            }
        }
        self.update(cgroup, limits)?;
        for limit in &limits.hugepage_limits {
            let end = if self.is_unified() { "max" } else { "limit_in_bytes" };
            let Some(folder) = self.folder("hugetlb", cgroup) else { continue };
            let path = folder.join(format!("hugetlb.{}.{end}", limit.page_size));
            // Pages that nobody counts cannot be used up.
            if limit.limit > 0 || path.exists() {
                write(&path, &limit.limit.to_string())?;
            }
        }
        match &self.unified {
            Some(root) => {
                let folder = root.join(cgroup.trim_start_matches('/'));
                devices.attach(&folder).map_err(named(&folder))
            }
            None => {
                let Some(folder) = self.folder("devices", cgroup) else { return Ok(()) };
                devices.lines().into_iter().try_for_each(|(file, line)| write(&folder.join(file), &line))
            }
        }
    }

    /// The names of the cgroups directly below one, in any hierarchy.
    pub fn children(&self, cgroup: &str) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for folder in self.folders(cgroup) {
            let found = below(&folder)?;
            names.extend(
                found.iter().filter_map(|path| path.file_name()).map(|n| n.to_string_lossy().into_owned()),
            );
        }
        Ok(names)
    }

    /// How the first process of a container gets into its cgroup.
    pub fn ready(&self, cgroup: &str) -> Ready {
        let inside = cgroup.trim_start_matches('/');
        let (doors, split) = match &self.unified {
            Some(root) => (vec![root.join(inside).join("cgroup.procs")], Vec::new()),
            // By "tasks" a single thread that moves itself need not wait for others.
            None => {
                self.with_controllers().map(|(_, at)| (at.join(inside).join("tasks"), at.clone())).unzip()
            }
        };
        let beside = self.split.iter().find(|(names, _)| names.is_empty()).map(|(_, at)| at);
        Ready { doors, split, unified: self.unified.as_ref().or(beside).cloned() }
    }

    /// The cgroup's folders of version 1, each after the place where its container is to see it.
    pub fn seen(&self, cgroup: &str) -> Vec<(String, PathBuf)> {
        let inside = cgroup.trim_start_matches('/');
        let mut seen = Vec::new();
        for (names, at) in self.with_controllers().filter(|_| !self.is_unified()) {
            let Some(shown) = at.file_name().and_then(|name| name.to_str()) else { continue };
            // Controllers that share a hierarchy are looked for by their own names, too.
            let own = names.iter().map(String::as_str).filter(|name| *name != shown);
            let places = own.chain([shown]).map(|name| format!("/sys/fs/cgroup/{name}"));
            seen.extend(places.map(|place| (place, at.join(inside))));
        }
        seen
    }

    /// The hierarchies of version 1, but for those that only have a name.
    fn with_controllers(&self) -> impl Iterator<Item = &(Vec<String>, PathBuf)> {
        let limits = |names: &[String]| names.iter().any(|name| !name.starts_with("name="));
        self.split.iter().filter(move |(names, _)| limits(names))
    }
}

/// Makes each cgroup on the way, and hands down to it whatever its parent has.
fn descend(root: &Path, inside: &str) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in Path::new(inside) {
        let controllers = fs::read_to_string(at.join("cgroup.controllers")).map_err(named(&at))?;
        let control = at.join("cgroup.subtree_control");
        let given = fs::read_to_string(&control).map_err(named(&control))?;
        for controller in controllers.split_whitespace() {
            if given.split_whitespace().any(|name| name == controller) {
                continue;
            }
            // One that is not handed down limits nothing, as where processes are in the way, or for want of real time.
            if let Err(error) = fs::write(&control, format!("+{controller}")) {
                tracing::debug!(path = %control.display(), controller, %error, "a controller is not handed down");
            }
        }
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(&at)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// A new cgroup of version 1 has no processors and no memory nodes, and nothing can run there: it gets its parent's.
fn inherit_processors(root: &Path, folder: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherit(root, folder, file)?;
    }
    Ok(())
}

fn inherit(root: &Path, folder: &Path, file: &str) -> io::Result<String> {
    let path = folder.join(file);
    let own = fs::read_to_string(&path).map_err(named(&path))?;
    match folder.parent() {
        Some(parent) if own.trim().is_empty() && folder != root => {
            let value = inherit(root, parent, file)?;
            write(&path, value.trim())?;
            Ok(value)
        }
        _ => Ok(own),
    }
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(named(path))
}

pub(super) fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str) -> Hierarchies {
        Hierarchies(base::cgroup::Hierarchies::parse(mountinfo))
    }

    #[test]
    fn a_process_joins_what_limits() {
        let hybrid = "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            2 0 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let ready = found(hybrid).ready("/a/b");
        assert_eq!(ready.doors, [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b/tasks")]);
        assert_eq!(ready.split, [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(ready.unified, Some("/sys/fs/cgroup/unified".into()));
        let seen = found(hybrid).seen("/a/b");
        let folder = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b");
        let places = ["cpu", "cpuacct", "cpu,cpuacct"].map(|name| format!("/sys/fs/cgroup/{name}"));
        assert_eq!(seen, places.map(|place| (place, folder.clone())));
        let ready = found("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").ready("/a/b");
        assert_eq!(ready.doors, [PathBuf::from("/sys/fs/cgroup/a/b/cgroup.procs")]);
        assert_eq!((ready.split.len(), ready.unified), (0, Some("/sys/fs/cgroup".into())));
        assert_eq!(found("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").seen("/a/b"), []);
    }

    #[test]
    fn controllers_are_handed_down_and_processors_inherited() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["", "a"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("cgroup.controllers"), "cpu memory\n").unwrap();
            fs::write(root.join(folder).join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        }
        fs::write(root.join("a/cgroup.subtree_control"), "cpu\n").unwrap();
        descend(root, "a/b").unwrap();
        assert!(root.join("a/b").is_dir());
        assert_eq!(fs::read_to_string(root.join("cgroup.subtree_control")).unwrap(), "cpu memory\n");
        assert_eq!(fs::read_to_string(root.join("a/cgroup.subtree_control")).unwrap(), "+memory");
        for (folder, value) in [("", "0-1\n"), ("a", "\n"), ("a/b", "\n")] {
            fs::write(root.join(folder).join("cpuset.cpus"), value).unwrap();
        }
        inherit(root, &root.join("a/b"), "cpuset.cpus").unwrap();
        assert_eq!(fs::read_to_string(root.join("a/b/cpuset.cpus")).unwrap(), "0-1");
        assert_eq!(fs::read_to_string(root.join("a/cpuset.cpus")).unwrap(), "0-1");
    }

    #[test]
    fn a_cgroup_that_is_gone_cannot_be_changed() {
        let at = tempfile::tempdir().unwrap();
        let split = vec![(vec!["memory".to_owned()], at.path().to_owned())];
        let found = Hierarchies(base::cgroup::Hierarchies { unified: None, split });
        let swap = LinuxContainerResources { memory_swap_limit_in_bytes: 1, ..Default::default() };
        for wanted in [LinuxContainerResources::default(), swap] {
            let error = found.update("/a", &wanted).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().starts_with(&at.path().join("a").display().to_string()), "{error}");
        }
        fs::create_dir(at.path().join("a")).unwrap();
        found.update("/a", &LinuxContainerResources::default()).unwrap();
    }
}
