//! `knarr up`: returns when the cluster is ready; does nothing that is done already.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auth::kubeconfig::{self, Credential, Entry};
use auth::pki::Pki;
use base::{SystemClock, SystemRandom};
use clap::Args;

use super::Which;
use crate::cluster::{ProcessRecord, Settings};
use crate::paths::Paths;

/// How long the control plane may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// `knarr up`
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    which: Which,
    /// Where to write the administrator's kubeconfig [default: ~/.kube/config, merged]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API server's port; 0 picks a free one
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// How many nodes to run on this machine
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// Run no node: the control plane alone, which needs no root
    #[arg(long)]
    control_plane_only: bool,
    /// Where to keep objects: embedded, or etcd=URL
    #[arg(long, default_value = "embedded")]
    store: String,
    /// A container runtime to use instead of our own
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
}

impl Up {
    /// Starts what does not run.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        fs::create_dir_all(&paths.data).with_context(|| format!("making {}", paths.data.display()))?;
        fs::create_dir_all(&paths.run).with_context(|| format!("making {}", paths.run.display()))?;
        let settings = match Settings::load(&paths.settings())? {
            Some(settings) => settings,
            None => self.first_settings(&paths)?,
        };
        self.start_server(&paths)?;
        self.write_kubeconfig(&paths, &settings)?;
        println!("cluster {:?} is ready at https://127.0.0.1:{}", settings.name, settings.port);
        Ok(())
    }

    fn first_settings(&self, paths: &Paths) -> Result<Settings> {
        let port = match self.port {
            0 => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
            port => {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
                    format!("port {port} is taken: choose another with --port, or --port 0 for a free one")
                })?;
                port
            }
        };
        let settings = Settings {
            name: self.which.name.clone(),
            index: 0,
            port,
            store: self.store.clone(),
            nodes: if self.control_plane_only { 0 } else { self.nodes },
            runtime_endpoint: self.container_runtime_endpoint.clone(),
            advertise: Ipv4Addr::LOCALHOST,
        };
        settings.save(&paths.settings())?;
        Ok(settings)
    }

    fn start_server(&self, paths: &Paths) -> Result<()> {
        let record = paths.process("server");
        if ProcessRecord::alive(&record).is_some() {
            return Ok(());
        }
        let _ = fs::remove_file(&record);
        let log = paths.log("server");
        let mut child = daemon(&log, &["server", "--name", &self.which.name], &paths.data)?;
        let since = Instant::now();
        while ProcessRecord::alive(&record).is_none() {
            if let Some(status) = child.try_wait()? {
                bail!("the control plane ended ({status}):\n{}\nits log is {}", last_lines(&log), log.display());
            }
            if since.elapsed() > PATIENCE {
                bail!("the control plane is not ready after {PATIENCE:?}; its log is {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn write_kubeconfig(&self, paths: &Paths, settings: &Settings) -> Result<()> {
        let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
        let year = Duration::from_secs(365 * 24 * 3600);
        let admin = pki.issue_client("kubernetes-admin", &["system:masters"], year)?;
        let server = format!("https://127.0.0.1:{}", settings.port);
        let entry = Entry {
            name: &settings.name,
            server: &server,
            ca_pem: pki.ca_pem(),
            credential: Credential::Certificate(&admin),
        };
        let path = match (&self.kubeconfig, super::home()) {
            (Some(path), _) => path.clone(),
            (None, Some(home)) => home.join(".kube/config"),
            (None, None) => bail!("HOME is not set: say where to write the kubeconfig with --kubeconfig"),
        };
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let merged = kubeconfig::merge(old.as_deref(), &entry)
            .with_context(|| format!("{} cannot be merged into: write to another file with --kubeconfig", path.display()))?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        auth::pki::write_private(&path, &merged)?;
        Ok(())
    }
}

/// Starts a process of our own program that outlives this one.
fn daemon(log: &Path, arguments: &[&str], data: &Path) -> Result<std::process::Child> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("opening {}", log.display()))?;
    let program = std::env::current_exe().context("finding our own program")?;
    let child = Command::new(program)
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("starting a process of the cluster")?;
    Ok(child)
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}

