//! Upstream's kubelet in the place of our agent: the same node, with the same credentials.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Account, Place, config, until};

/// A kubelet of upstream that runs.
#[derive(Debug)]
pub(in crate::bench) struct Upstream {
    child: Child,
}

impl Upstream {
    /// Ends the node's own agent, whose pid is given, and starts `program` as the node's kubelet.
    ///
    /// # Errors
    /// When it does not start.
    pub fn replace(
        agent: u32,
        program: &Path,
        place: &Place,
        account: &Account,
        max_pods: u32,
    ) -> Result<Self> {
        let dir = place.own.join("kubelet");
        let config = prepare(&dir, place, max_pods)?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(agent)?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("ending the agent")?;
        until("the end of the agent", None, || !Path::new("/proc").join(agent.to_string()).exists())?;
        config::make_cgroup(&place.cgroup()).context("making the node's cgroups")?;
        let log = fs::File::create(dir.join("kubelet.log"))?;
        let mut command: Command = account.command("nsenter");
        command.arg(format!("--net={}", place.netns().display())).arg(program);
        command.arg("--config").arg(config).arg("--kubeconfig").arg(dir.join("kubeconfig"));
        command.arg("--root-dir").arg(dir.join("root")).arg("--cert-dir").arg(&dir);
        command.arg("--hostname-override").arg(&place.node).arg("--node-ip").arg(ip(place)?).arg("--v=1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("starting upstream's kubelet")?;
        // The node is ready from before: it is this kubelet's once that listens.
        let address = format!("{}:10250", ip(place)?);
        let entered = |path: &Path| -> Option<String> {
            let mut look = Command::new("nsenter");
            look.arg(format!("--net={}", path.display())).args(["cat", "/proc/net/tcp"]);
            Some(String::from_utf8_lossy(&look.output().ok()?.stdout).into_owned())
        };
        let wanted = listener(&address).context("the node's address")?;
        until("upstream's kubelet", Some(&mut child), || {
            entered(&place.netns()).is_some_and(|table| table.contains(&wanted))
        })
        .with_context(|| format!("see {}", dir.join("kubelet.log").display()))?;
        Ok(Self { child })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // One that has ended already cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a listening socket begins in `/proc/net/tcp`.
fn listener(address: &str) -> Option<String> {
    let address: std::net::SocketAddrV4 = address.parse().ok()?;
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X} 00000000:0000 0A", address.port()))
}

fn identity(place: &Place) -> Result<Value> {
    let path = place.data.join("nodes").join(&place.node).join("identity.json");
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn ip(place: &Place) -> Result<String> {
    let identity = identity(place)?;
    Ok(identity.get("ip").and_then(Value::as_str).context("the node's identity has no ip")?.to_owned())
}

/// Writes what the kubelet reads, and gives its configuration.
fn prepare(dir: &Path, place: &Place, max_pods: u32) -> Result<std::path::PathBuf> {
    fs::create_dir_all(dir.join("root"))?;
    let identity = identity(place)?;
    for (file, key) in [
        ("kubeconfig", "kubelet"),
        ("tls.crt", "serving_cert"),
        ("tls.key", "serving_key"),
        ("ca.crt", "client_ca"),
    ] {
        let text = identity.get(key).and_then(Value::as_str);
        fs::write(dir.join(file), text.with_context(|| format!("the node's identity has no {key}"))?)?;
    }
    fs::write(dir.join("resolv.conf"), "nameserver 10.96.0.10\n")?;
    let config = dir.join("config.json");
    let ip = identity.get("ip").and_then(Value::as_str).context("the node's identity has no ip")?;
    let text = config::kubelet(dir, (&place.cgroup(), &place.socket()), ip, max_pods);
    fs::write(&config, text)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_stands_in_the_kernels_table() {
        assert_eq!(listener("127.0.0.1:80").unwrap(), "0100007F:0050 00000000:0000 0A");
        assert_eq!(listener("x"), None);
    }
}
