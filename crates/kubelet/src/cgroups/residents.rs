//! The groups of what runs beside pods: the kubelet (`kubeletCgroups`), and what else the machine runs
//! (`systemCgroups`). They are named by their paths, whoever makes those of pods.

use super::*;

impl Cgroups {
    /// Moves processes into a group in every hierarchy, and makes it where it is not there. A group of version 1 that has
    /// no processors yet binds nobody to any.
    ///
    /// # Errors
    /// With the path of the file that refused.
    pub fn admit(&self, group: &str, pids: &[u32]) -> io::Result<()> {
        let inside = group.trim_start_matches('/');
        let no_processors = |folder: &Path| {
            fs::read_to_string(folder.join("cpuset.cpus")).is_ok_and(|cpus| cpus.trim().is_empty())
        };
        for root in self.found.unified.iter().chain(self.split()) {
            let folder = root.join(inside);
            match &self.found.unified {
                Some(root) => descend(root, inside)?,
                None => fs::create_dir_all(&folder).map_err(named(&folder))?,
            }
            if !self.found.is_unified() && no_processors(&folder) {
                continue;
            }
            let path = folder.join("cgroup.procs");
            for pid in pids {
                match fs::write(&path, pid.to_string()) {
                    // It has ended.
                    Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                    done => done.map_err(named(&path))?,
                }
            }
        }
        Ok(())
    }

    /// The processes that are in no group, but for the kernel's threads and the first one.
    ///
    /// # Errors
    /// With the path of the file that cannot be read.
    pub fn ungrouped(&self) -> io::Result<Vec<u32>> {
        let Some(path) = self.folder("memory", "/").map(|root| root.join("cgroup.procs")) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no hierarchy has the memory controller"));
        };
        let text = fs::read_to_string(&path).map_err(named(&path))?;
        // Only the kernel's own have no program.
        let is_program = |pid: &u32| match fs::read_link(format!("/proc/{pid}/exe")) {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(_) => true,
        };
        let pids = text.lines().filter_map(|line| line.trim().parse().ok());
        // One of another PID namespace is shown as 0.
        Ok(pids.filter(|pid| *pid > 1).filter(is_program).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(folders: &[&Path]) -> Cgroups {
        let named = |folder: &&Path| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            (vec![name], folder.to_path_buf())
        };
        let found = Hierarchies { split: folders.iter().map(named).collect(), ..Hierarchies::default() };
        Cgroups { found, ..Cgroups::default() }
    }

    #[test]
    fn processes_go_into_every_hierarchy_that_can_hold_them() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, cpuset) = (folder.path().join("memory"), folder.path().join("cpuset"));
        fs::create_dir_all(cpuset.join("a/b")).unwrap();
        fs::write(cpuset.join("a/b/cpuset.cpus"), "\n").unwrap();
        let groups = split(&[&memory, &cpuset]);
        groups.admit("/a/b", &[7]).unwrap();
        assert_eq!(fs::read_to_string(memory.join("a/b/cgroup.procs")).unwrap(), "7");
        assert!(!cpuset.join("a/b/cgroup.procs").exists());
        fs::write(cpuset.join("a/b/cpuset.cpus"), "0-1\n").unwrap();
        groups.admit("/a/b", &[8]).unwrap();
        assert_eq!(fs::read_to_string(cpuset.join("a/b/cgroup.procs")).unwrap(), "8");
    }

    #[test]
    fn the_first_process_and_the_kernels_stay_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("memory");
        fs::create_dir_all(&memory).unwrap();
        let own = std::process::id();
        fs::write(memory.join("cgroup.procs"), format!("0\n1\n{own}\n4194305\n")).unwrap();
        assert_eq!(split(&[&memory]).ungrouped().unwrap(), [own]);
    }
}
