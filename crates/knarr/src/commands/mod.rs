//! The command line.

/// Prints a line. That nobody reads it is an error, and ends the command without a word: see `is_unread`.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($line)*)?
    }};
}

mod agent;
mod check;
mod cni;
mod daemon;
mod down;
mod existing;
mod identity;
mod image;
mod image_build;
pub mod log;
mod networks;
mod node_processes;
mod process;
mod shrink;
mod status;
mod token;
mod up;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use auth::kubeconfig::Credential;
use auth::pki::Pki;
use base::{SystemClock, SystemRandom};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::{ProcessRecord, Settings};
use crate::component;
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
    #[arg(long, global = true, default_value = "knarr", env = "KNARR_NAME")]
    pub name: String,
    /// Where its files are kept [default: /var/lib/knarr/NAME]
    #[arg(long, global = true, env = "KNARR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Which {
    fn paths(&self) -> Paths {
        Paths::new(&self.name, self.data_dir.as_deref(), home().as_deref())
    }
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
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
    /// Join this machine as a node to a cluster elsewhere
    Agent(agent::Agent),
    /// Make, list and remove the tokens by which machines join
    Token(token::Token),
    /// Show what this machine lacks to run nodes
    Check(check::Check),
    /// Run an API server by itself (also as kube-apiserver)
    #[command(display_name = "Kubernetes", version = kinds::KUBERNETES_VERSION)]
    Apiserver(Box<component::apiserver::ApiServer>),
    /// Run a scheduler by itself (also as kube-scheduler)
    #[command(display_name = "Kubernetes", version = kinds::KUBERNETES_VERSION)]
    Scheduler(component::scheduler::Scheduler),
    /// Run the controllers by themselves (also as kube-controller-manager)
    #[command(display_name = "Kubernetes", version = kinds::KUBERNETES_VERSION)]
    ControllerManager(Box<component::controller_manager::ControllerManager>),
    /// Run a kubelet by itself (also as kubelet)
    #[command(display_name = "Kubernetes", version = kinds::KUBERNETES_VERSION)]
    Kubelet(Box<component::kubelet::Kubelet>),
    /// Run a container runtime by itself
    Runtime(component::runtime::Runtime),
    /// Connect a pod for another container runtime, as a CNI plugin (also as knarr-cni)
    Cni(cni::Cni),
    /// Run the container runtime of a node of a cluster on this machine
    #[command(hide = true)]
    NodeRuntime(process::Node),
    /// Run the rest of a node in the foreground
    #[command(hide = true)]
    Node(process::Node),
    /// Work with the images of the cluster's nodes
    Image(image::Image),
    /// Show the version
    Version {
        /// How to print it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
}

/// Every component can also be called by its upstream name: `kube-apiserver --secure-port 6443` is
/// `knarr apiserver --secure-port 6443`.
pub fn by_program_name(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str());
    let command = match name {
        Some("kube-apiserver") => "apiserver",
        Some("kube-scheduler") => "scheduler",
        Some("kube-controller-manager") => "controller-manager",
        Some("kubelet") => "kubelet",
        Some("knarr-cni") => "cni",
        _ if cni::is_called(&arguments) => "cni",
        _ => return arguments,
    };
    arguments.insert(1, command.into());
    arguments
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
        Command::Agent(agent) => agent.run(),
        Command::Token(token) => token.run(),
        Command::Check(check) => check.run(),
        Command::Apiserver(component) => serve(component.logging.clone(), component.run()),
        Command::Scheduler(component) => serve(component.logging.clone(), component.run()),
        Command::ControllerManager(component) => serve(component.logging.clone(), component.run()),
        Command::Kubelet(component) => {
            let log = log::log(component.logging.v, component.logging.format());
            base::memory::one_heap();
            on_all_processors(component.run(log))
        }
        Command::Runtime(component) => {
            base::memory::one_heap();
            serve(component.logging.clone(), component.run())
        }
        Command::Cni(cni) => cni.run(),
        Command::NodeRuntime(node) => node.run_runtime(),
        Command::Node(node) => node.run_agent(),
        Command::Image(image) => image.run(),
        Command::Version { output } => version(output),
    }
}

fn version(output: Output) -> Result<()> {
    let (own, kubernetes) = (env!("CARGO_PKG_VERSION"), kinds::KUBERNETES_VERSION);
    match output {
        Output::Text => say!("knarr {own} (Kubernetes {kubernetes})"),
        Output::Json => {
            let version = serde_json::json!({"version": own, "kubernetesVersion": kubernetes});
            say!("{}", serde_json::to_string_pretty(&version)?);
        }
    }
    Ok(())
}

/// Whether a command ended because whoever read what it prints had enough, as `head` does.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let of_pipe = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref::<std::io::Error>().is_some_and(of_pipe)
}

/// Runs a component on all processors, with its log on standard error.
fn serve(logging: crate::component::Logging, component: impl Future<Output = Result<()>>) -> Result<()> {
    log::log(logging.v, logging.format());
    on_all_processors(component)
}

fn on_all_processors(component: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(component)
}

#[expect(clippy::disallowed_methods, reason = "configuration is read once, here")]
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The cluster's nodes on this machine: those that `knarr up` made, and one that joined with `knarr agent`.
fn local_nodes(paths: &Paths, settings: Option<&Settings>) -> Result<Vec<String>> {
    let mut nodes = settings.map(Settings::node_names).unwrap_or_default();
    for record in ProcessRecord::all(&paths.run)? {
        nodes.extend(record.node.filter(|node| !nodes.contains(node)));
    }
    Ok(nodes)
}

/// A kubeconfig of the administrator that is good for a few minutes, from the cluster's own keys.
fn administrator(paths: &Paths, settings: &Settings) -> Result<String> {
    let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
    let admin = pki.issue_client("kubernetes-admin", &["system:masters"], Duration::from_secs(300))?;
    let server = format!("https://127.0.0.1:{}", settings.port);
    crate::join::kubeconfig_of(&server, pki.ca_pem(), Credential::Certificate(&admin))
}

/// A runtime for commands that talk to the cluster.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Arguments {
        let words = by_program_name(line.split_whitespace().map(OsString::from));
        Arguments::try_parse_from(words).unwrap()
    }

    #[test]
    fn a_component_answers_to_its_upstream_name() {
        let command = parsed("/usr/bin/kube-scheduler --kubeconfig /k --leader-elect=false").command;
        assert!(matches!(command, Command::Scheduler(_)), "{command:?}");
        let command =
            parsed("kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=7443").command;
        assert!(matches!(command, Command::Apiserver(_)), "{command:?}");
        let line =
            "kube-controller-manager --kubeconfig=/k --use-service-account-credentials=true --leader-elect";
        assert!(matches!(parsed(line).command, Command::ControllerManager(_)));
        assert!(matches!(parsed("/opt/cni/bin/knarr-cni").command, Command::Cni(_)));
        for line in ["kubelet --kubeconfig /k --v=4", "kubelet -v 4 --kubeconfig /k"] {
            let Command::Kubelet(kubelet) = parsed(line).command else { panic!("{line}") };
            assert_eq!(kubelet.logging.v, Some(4), "{line}");
        }
        assert!(matches!(parsed("knarr version").command, Command::Version { .. }));
    }
}
