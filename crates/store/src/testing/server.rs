//! A real etcd on loopback, built from its Go module by `crates/testkit/etcd`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::etcd::{Etcd, EtcdOptions};

/// The etcd program: `<checkout>/.cache/bin/etcd`, built when it is missing (about a minute).
pub fn etcd_binary() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = checkout.join(".cache/bin");
    fs::create_dir_all(&dir).unwrap();
    let binary = dir.join("etcd");
    let lock = File::create(dir.join("etcd.lock")).unwrap();
    lock.lock().unwrap();
    if !binary.exists() {
        let new = dir.join("etcd.new");
        let built = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .args([fs::canonicalize(&dir).unwrap().join("etcd.new"), PathBuf::from(".")])
            .current_dir(checkout.join("crates/testkit/etcd"))
            .status();
        match built {
            Ok(status) if status.success() => fs::rename(new, &binary).unwrap(),
            other => panic!("building etcd with `go build` in crates/testkit/etcd failed: {other:?}"),
        }
    }
    fs::canonicalize(binary).unwrap()
}

/// A running etcd with a directory of its own. Dropping it kills it and removes the directory.
pub struct EtcdServer {
    child: Child,
    endpoint: String,
    dir: TempDir,
}

impl EtcdServer {
    /// Starts a server on free loopback ports and waits until it answers.
    pub async fn start() -> Self {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::try_start().await {
                Ok(server) => return server,
                // Another process may have taken a port between its choice and its use.
                Err(error) if attempts == 3 => panic!("etcd did not start: {error}"),
                Err(_) => {}
            }
        }
    }

    async fn try_start() -> Result<Self, String> {
        let dir = TempDir::with_prefix("knarr-etcd-").unwrap();
        let (client, peer) = free_ports();
        let endpoint = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(etcd_binary())
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut server = Self { child, endpoint, dir };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let options =
                EtcdOptions { request_timeout: Duration::from_millis(500), ..EtcdOptions::default() };
            let error = match Etcd::connect(&self.endpoints(), None, options).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let ended = self.child.try_wait().unwrap().is_some();
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_else(|e| e.to_string());
                return Err(format!("{error}\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where clients connect to.
    pub fn endpoints(&self) -> Vec<String> {
        vec![self.endpoint.clone()]
    }

    /// Kills the server now, as a crash would.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> (u16, u16) {
    let (a, b) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())
}
