//! The command line.

mod down;
mod image;
mod process;
mod status;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::paths::Paths;

/// Kubernetes, whole, in one small and fast program.
#[derive(Debug, Parser)]
#[command(name = "knarr", version, about, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which cluster.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The cluster's name
    #[arg(long, default_value = "knarr", env = "KNARR_NAME")]
    pub name: String,
    /// Where its files are kept [default: /var/lib/knarr/NAME]
    #[arg(long, env = "KNARR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Which {
    fn paths(&self) -> Paths {
        Paths::new(&self.name, self.data_dir.as_deref(), home().as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine, or bring a stopped one back
    Up(up::Up),
    /// Stop a cluster; --purge removes its files as well
    Down(down::Down),
    /// Show a cluster's nodes and processes
    Status(status::Status),
    /// Run the control plane in the foreground
    Server(process::Server),
    /// Run a node's container runtime in the foreground
    Runtime(process::Node),
    /// Run the rest of a node in the foreground
    #[command(hide = true)]
    Node(process::Node),
    /// Work with the images of the cluster's nodes
    Image(image::Image),
    /// Show the version
    Version,
}

/// Every component can also be called by its upstream name.
pub fn by_program_name(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    arguments.collect()
}

/// Runs a command.
///
/// # Errors
/// What went wrong, to what, and what to do.
pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Up(up) => up.run(),
        Command::Down(down) => down.run(),
        Command::Status(status) => status.run(),
        Command::Server(server) => server.run(),
        Command::Runtime(node) => node.run_runtime(),
        Command::Node(node) => node.run_agent(),
        Command::Image(image) => image.run(),
        Command::Version => {
            println!("knarr {} (Kubernetes v1.37)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "configuration is read once, here")]
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// A runtime for commands that talk to the cluster.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
