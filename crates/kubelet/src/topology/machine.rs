//! What the machine is made of: NUMA nodes with their processors, memory and huge pages.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cpus::{Cpu, CpuSet, Layout};

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    pub id: i64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of each size of huge pages, by resource such as `hugepages-2Mi`.
    pub huge_pages: BTreeMap<String, u64>,
    /// To every node, in order.
    pub distances: Vec<u64>,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    pub nodes: Vec<Node>,
    pub cpus: Layout,
}

/// What the kernel does not tell, or tells otherwise than expected.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {source}", path.display())]
pub struct MachineError {
    path: PathBuf,
    source: io::Error,
}

fn read(path: &Path) -> Result<String, MachineError> {
    fs::read_to_string(path).map_err(|source| MachineError { path: path.to_owned(), source })
}

/// A file that some kernels and machines lack.
fn optional(path: &Path) -> Result<Option<String>, MachineError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MachineError { path: path.to_owned(), source }),
    }
}

fn parse<T: std::str::FromStr>(path: &Path, text: &str) -> Result<T, MachineError> {
    text.trim().parse().map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not understood"));
        MachineError { path: path.to_owned(), source }
    })
}

impl Machine {
    /// Reads it, from `/sys/devices/system`; `memory` (bytes) is the machine's, for kernels without NUMA.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn read(system: &Path, memory: u64) -> Result<Self, MachineError> {
        let online_path = system.join("cpu/online");
        let online: CpuSet = parse(&online_path, &read(&online_path)?)?;
        let folder = system.join("node");
        let Some(ids) = optional(&folder.join("online"))? else {
            let nodes = vec![Node { memory, distances: vec![10], ..Node::default() }];
            return Ok(Self { nodes, cpus: layout(system, &online, &BTreeMap::new())? });
        };
        let ids: CpuSet = parse(&folder.join("online"), &ids)?;
        let (mut nodes, mut places) = (Vec::new(), BTreeMap::new());
        for id in ids.iter() {
            let folder = folder.join(format!("node{id}"));
            let path = folder.join("cpulist");
            let cpus: CpuSet = parse(&path, &read(&path)?)?;
            places.extend(cpus.iter().map(|cpu| (cpu, i64::from(id))));
            nodes.push(node(&folder, i64::from(id))?);
        }
        Ok(Self { nodes, cpus: layout(system, &online, &places)? })
    }
}

fn node(folder: &Path, id: i64) -> Result<Node, MachineError> {
    let path = folder.join("meminfo");
    let text = read(&path)?;
    let line = text.lines().find_map(|line| line.split_once("MemTotal:")).map(|(_, rest)| rest);
    let kib: u64 = parse(&path, line.unwrap_or_default().trim().trim_end_matches("kB"))?;
    let distances = optional(&folder.join("distance"))?.unwrap_or_else(|| "10".to_owned());
    let distances = distances
        .split_whitespace()
        .map(|text| parse(&folder.join("distance"), text))
        .collect::<Result<_, _>>()?;
    Ok(Node { id, memory: kib * 1024, huge_pages: huge_pages(&folder.join("hugepages"))?, distances })
}

fn huge_pages(folder: &Path) -> Result<BTreeMap<String, u64>, MachineError> {
    let failed = |source| MachineError { path: folder.to_owned(), source };
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB"));
        let Some(kib) = size.and_then(|size| size.parse::<u64>().ok()) else { continue };
        let path = entry.path().join("nr_hugepages");
        let count: u64 = parse(&path, &read(&path)?)?;
        found.insert(format!("hugepages-{}", crate::machine::page_size(kib)), count * kib * 1024);
    }
    Ok(found)
}

fn layout(system: &Path, online: &CpuSet, nodes: &BTreeMap<u32, i64>) -> Result<Layout, MachineError> {
    let mut layout = BTreeMap::new();
    for id in online.iter() {
        let folder = system.join(format!("cpu/cpu{id}"));
        let topology = folder.join("topology");
        let siblings = match optional(&topology.join("thread_siblings_list"))? {
            Some(text) => parse(&topology.join("thread_siblings_list"), &text)?,
            None => CpuSet::of([id]),
        };
        // Numbers of cores are not unique over sockets; that of the first thread is.
        let core = siblings.and(online).iter().next().unwrap_or(id);
        let socket = match optional(&topology.join("physical_package_id"))? {
            // Some machines do not know, and say -1.
            Some(text) => u32::try_from(parse::<i64>(&topology, &text)?).unwrap_or(0),
            None => 0,
        };
        let cache = folder.join("cache/index3/id");
        let uncore = match optional(&cache)? {
            Some(text) => parse(&cache, &text)?,
            None => socket,
        };
        layout.insert(id, Cpu { node: nodes.get(&id).copied().unwrap_or(0), socket, core, uncore });
    }
    Ok(Layout::new(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn nodes_and_processors_are_read_as_the_kernel_tells_them() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("cpu/online", "0-2\n"),
                ("cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
                ("cpu/cpu2/topology/thread_siblings_list", "0,2\n"),
                ("cpu/cpu0/topology/physical_package_id", "0\n"),
                ("cpu/cpu1/topology/physical_package_id", "1\n"),
                ("cpu/cpu1/cache/index3/id", "7\n"),
                ("cpu/cpu2/topology/physical_package_id", "-1\n"),
                ("node/online", "0-1\n"),
                ("node/node0/cpulist", "0,2\n"),
                ("node/node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 1 kB\n"),
                ("node/node0/distance", "10 20\n"),
                ("node/node0/hugepages/hugepages-2048kB/nr_hugepages", "3\n"),
                ("node/node1/cpulist", "1\n"),
                ("node/node1/meminfo", "Node 1 MemTotal:       2048 kB\n"),
            ],
        );
        let machine = Machine::read(root.path(), 5).unwrap();
        assert_eq!(machine.nodes.iter().map(|node| node.memory).collect::<Vec<_>>(), [1 << 20, 2 << 20]);
        assert_eq!(machine.nodes[0].huge_pages["hugepages-2Mi"], 6 << 20);
        assert_eq!(machine.nodes[0].distances, [10, 20]);
        let cpu = |node, socket, core, uncore| Cpu { node, socket, core, uncore };
        let wanted = [(0, cpu(0, 0, 0, 0)), (1, cpu(1, 1, 1, 7)), (2, cpu(0, 0, 0, 0))];
        assert_eq!(machine.cpus, Layout::new(wanted.into_iter().collect()));
    }

    #[test]
    fn a_machine_without_nodes_is_one_and_nonsense_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("cpu/online", "0\n")]);
        let machine = Machine::read(root.path(), 5).unwrap();
        assert_eq!((machine.nodes.len(), machine.nodes[0].memory), (1, 5));
        write(root.path(), &[("cpu/online", "all\n")]);
        assert!(Machine::read(root.path(), 5).unwrap_err().to_string().contains("cpu/online"));
    }
}
