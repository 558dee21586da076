//! `knarr status`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use serde::Serialize;

use super::{Output, Which};
use crate::cluster::{ProcessRecord, Settings, cgroup, cgroup_mounts};
use crate::paths::Paths;

/// `knarr status`
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    name: String,
    /// The cluster's nodes on this machine.
    nodes: Vec<NodeReport>,
    processes: Vec<Process>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeReport {
    name: String,
    /// `Ready`, `NotReady`, or why that is not known.
    status: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: i32,
    components: Vec<String>,
    node: Option<String>,
    pss_bytes: u64,
}

impl Status {
    /// Prints the cluster's processes.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        let processes = processes(&paths, &self.which.name)?;
        let report = Report { name: self.which.name.clone(), nodes: nodes(&paths)?, processes };
        match self.output {
            Output::Json => say!("{}", serde_json::to_string_pretty(&report)?),
            Output::Text => {
                for node in &report.nodes {
                    say!("node {}: {}", node.name, node.status);
                }
                say!("{:<8} {:<16} {:<10} COMPONENTS", "PID", "NODE", "MEMORY");
                for process in &report.processes {
                    let node = process.node.as_deref().unwrap_or("-");
                    let memory = format!("{:.1}M", process.pss_bytes as f64 / f64::from(1 << 20));
                    say!("{:<8} {node:<16} {memory:<10} {}", process.pid, process.components.join(","));
                }
            }
        }
        Ok(())
    }
}

fn processes(paths: &Paths, cluster: &str) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for record in ProcessRecord::all(&paths.run)? {
        if let Some(node) =
            record.node.as_deref().filter(|_| record.components.iter().any(|c| c == "runtime"))
        {
            let shims = shims(cluster, node)?;
            found.extend(shims.into_iter().map(|pid| (pid, vec!["shim".to_owned()], Some(node.to_owned()))));
        }
        found.push((record.pid, record.components, record.node));
    }
    let mut processes: Vec<Process> = found
        .into_iter()
        .map(|(pid, components, node)| Process { pid, components, node, pss_bytes: pss(pid) })
        .collect();
    processes.sort_by_key(|process| process.pid);
    Ok(processes)
}

/// The shims of a node's pods: each has a cgroup of its own, in every hierarchy.
fn shims(cluster: &str, node: &str) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for root in cgroup_mounts()? {
        let dir = format!("{root}{}/shims", cgroup(cluster, node));
        // A hierarchy without any of them has no such directory.
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let procs = fs::read_to_string(entry?.path().join("cgroup.procs")).unwrap_or_default();
            pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    Ok(pids)
}

/// What the API server says of the nodes on this machine.
fn nodes(paths: &Paths) -> Result<Vec<NodeReport>> {
    let Some(settings) = Settings::load(&paths.settings())? else { return Ok(Vec::new()) };
    let names = settings.node_names();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let kubeconfig = super::administrator(paths, &settings)?;
    let asked: Result<Vec<Node>> = super::block_on(async {
        let client = client::connect::kubeconfig(&kubeconfig).await?;
        Ok(kube::Api::<Node>::all(client).list(&kube::api::ListParams::default()).await?.items)
    });
    let report = |name: String| {
        let status = match &asked {
            Ok(nodes) => ready(nodes.iter().find(|node| node.metadata.name.as_deref() == Some(&name))),
            Err(error) => format!("unknown: {error:#}"),
        };
        NodeReport { name, status }
    };
    Ok(names.into_iter().map(report).collect())
}

fn ready(node: Option<&Node>) -> String {
    let Some(node) = node else { return "not registered".to_owned() };
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    if ready { "Ready" } else { "NotReady" }.to_owned()
}

/// The process's proportional share of memory, in bytes; 0 when it cannot be read.
fn pss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
