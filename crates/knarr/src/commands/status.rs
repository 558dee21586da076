//! `knarr status`.

use std::fs;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Which;
use crate::cluster::ProcessRecord;
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    name: String,
    processes: Vec<Process>,
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
        let report = Report { name: self.which.name.clone(), processes: processes(&self.which.paths()) };
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            Output::Text => {
                println!("{:<8} {:<10} {:<10} COMPONENTS", "PID", "NODE", "MEMORY");
                for process in &report.processes {
                    let node = process.node.as_deref().unwrap_or("-");
                    let memory = format!("{:.1}M", process.pss_bytes as f64 / f64::from(1 << 20));
                    println!("{:<8} {node:<10} {memory:<10} {}", process.pid, process.components.join(","));
                }
            }
        }
        Ok(())
    }
}

fn processes(paths: &Paths) -> Vec<Process> {
    let files = fs::read_dir(&paths.run).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut processes: Vec<Process> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| ProcessRecord::alive(&path))
        .map(|record| Process {
            pss_bytes: pss(record.pid),
            pid: record.pid,
            components: record.components,
            node: record.node,
        })
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

/// The process's proportional share of memory, in bytes; 0 when it cannot be read.
fn pss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
