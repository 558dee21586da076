//! `cargo xtask bench`: the budgets of the design, measured; beside another API server, and nodes of other programs, in
//! turn with them, if they are given.
//!
//! The first figure of a row is the processor time that all server processes together took for one operation:
//! other load on the machine hardly moves it. Throughput and latency come second, and a busy machine spoils
//! them. The load comes from one thread of this process, on the same machine.
//!
//! It knows of the servers only what any client may know, what `/proc` tells of their processes, and, for our
//! own, the command line.

mod build;
mod cluster;
mod http;
mod image;
mod kubeconfig;
mod load;
mod manifests;
mod peers;
mod process;
mod rows;
mod run;
mod stats;
mod table;
mod target;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

/// `cargo xtask bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// The rows to run, by name or the beginning of one [default: all]
    rows: Vec<String>,
    /// Show the rows there are
    #[arg(long)]
    list: bool,
    /// How often each row is measured; the table shows the medians
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How long one measurement loads the server, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measure this API server too, in turn with ours
    #[arg(long, value_name = "KUBECONFIG")]
    against: Option<PathBuf>,
    /// The processes of that API server
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "against")]
    against_pids: Vec<u32>,
    /// The same by the names of their programs; nobody else may run one of that name
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "against")]
    against_comm: Vec<String>,
    /// Leave our own out: measure the other API server alone
    #[arg(long, requires = "against")]
    only_against: bool,
    #[command(flatten)]
    programs: peers::Programs,
    /// The program to measure [default: target/release/knarr, built first]
    #[arg(long)]
    knarr: Option<PathBuf>,
    /// Measure a clean debug build of everything as well
    #[arg(long)]
    clean_build: bool,
    /// How to print the table
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Bench {
    /// Measures and prints.
    ///
    /// # Errors
    /// When a row is unknown, or nothing can be measured. A row that fails is said to have failed, and the
    /// others go on.
    pub fn run(mut self) -> Result<()> {
        let root = workspace()?;
        if self.list {
            rows::all(&self).iter().for_each(|row| println!("{:<26} {}", row.name, row.what));
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return again_optimized(&root, self.knarr.is_none());
        }
        let knarr = self.knarr.take().unwrap_or_else(|| root.join("target/release/knarr"));
        if !self.only_against && !knarr.exists() {
            bail!("{} is not there: build it with `cargo build --release -p knarr`", knarr.display());
        }
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        threads.block_on(run::run(&self, &knarr, &root))
    }
}

/// The load must not take the processor from the server: builds both optimized, and does it there.
fn again_optimized(root: &Path, with_knarr: bool) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "-p", "xtask"]).current_dir(root);
    if with_knarr {
        build.args(["-p", "knarr"]);
    }
    if !build.status().context("running cargo build")?.success() {
        bail!("the optimized build failed");
    }
    let error = Command::new(root.join("target/release/xtask")).args(std::env::args_os().skip(1)).exec();
    Err(error).context("running target/release/xtask")
}

fn workspace() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_owned).context("the workspace's root")
}
