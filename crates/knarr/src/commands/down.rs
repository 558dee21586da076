//! `knarr down`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Which;
use crate::cluster::{ProcessRecord, Settings, cgroup_mounts};
use crate::paths::Paths;

/// How long a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(20);
/// How many pods are removed at the same time.
const AT_ONCE: usize = 16;

/// `knarr down`
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    which: Which,
    /// Remove the cluster's files as well: everything in it is lost
    #[arg(long)]
    purge: bool,
}

impl Down {
    /// Ends the cluster's processes.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        let settings = Settings::load(&paths.settings())?;
        let nodes = super::local_nodes(&paths, settings.as_ref())?;
        for node in &nodes {
            end_node(&paths, settings.as_ref(), node)?;
        }
        stop(&paths.process("server"))?;
        if !nodes.is_empty() {
            remove_cgroups(&self.which.name)?;
        }
        if let Some(settings) = settings.filter(|settings| settings.nodes > 0) {
            for node in &nodes {
                net::namespace::remove(&paths.netns(node))?;
            }
            super::block_on(async { Ok(settings.host_network().remove().await?) })?;
        }
        unmount_below(&paths.run)?;
        unmount_below(&paths.data)?;
        remove(&paths.run)?;
        if self.purge {
            remove(&paths.data)?;
        }
        Ok(())
    }
}

/// Ends a node's processes, and its pods.
pub(super) fn end_node(paths: &Paths, settings: Option<&Settings>, node: &str) -> Result<()> {
    stop(&paths.process(&format!("agent-{node}")))?;
    remove_pods_of(paths, settings, node).with_context(|| format!("removing the pods of node {node}"))?;
    stop(&paths.process(&format!("runtime-{node}")))
}

/// The pods go by way of the runtime that knows them. If it has died, it is started once more for this.
fn remove_pods_of(paths: &Paths, settings: Option<&Settings>, node: &str) -> Result<()> {
    let external = settings.is_some_and(|settings| settings.runtime_endpoint.is_some());
    if external || !paths.node(node).join("runtime").exists() {
        return Ok(());
    }
    let process = format!("runtime-{node}");
    if ProcessRecord::alive(&paths.process(&process)).is_none() {
        let cni = crate::cni::Cni::remembered(&paths.node(node))?.arguments();
        let flags = crate::runtime_flags::RuntimeFlags::remembered(&paths.node(node))?.arguments();
        let mut arguments = vec!["node-runtime", "--name", &paths.name, "--node", node];
        arguments.extend(cni.iter().chain(&flags).map(String::as_str));
        if !paths.netns(node).exists() {
            arguments.push("--host-network");
        }
        super::daemon::start(&paths.log(&process), &arguments, &paths.data)?;
    }
    super::block_on(remove_pods(&paths.cri_socket(node)))
}

pub(super) fn stop(path: &std::path::Path) -> Result<()> {
    match ProcessRecord::alive(path) {
        Some(record) => end(path, &record),
        None => Ok(()),
    }
}

/// Stops and removes every pod of a runtime.
async fn remove_pods(socket: &std::path::Path) -> Result<()> {
    let since = Instant::now();
    // It may just have been started.
    let (mut runtime, _) = loop {
        match cri::connect(&socket.display().to_string()).await {
            Ok(connected) => break connected,
            Err(error) if since.elapsed() > GRACE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    // One pod that resists for a moment does not save the others: all are tried, and those that are left once more.
    for last in [false, false, true] {
        let list = runtime.list_pod_sandbox(cri::v1::ListPodSandboxRequest::default()).await?.into_inner();
        let removals = list.items.into_iter().map(|sandbox| remove_pod(runtime.clone(), sandbox.id));
        let results: Vec<Result<()>> =
            futures::stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
        match results.into_iter().find_map(Result::err) {
            None => return Ok(()),
            Some(error) if last => return Err(error),
            Some(error) => tracing::warn!(%error, "a pod is not removed yet"),
        }
    }
    Ok(())
}

async fn remove_pod(mut runtime: cri::RuntimeClient, id: String) -> Result<()> {
    let failed = || format!("removing pod sandbox {id}");
    let stop = cri::v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    runtime.stop_pod_sandbox(stop).await.with_context(failed)?;
    let remove = cri::v1::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
    runtime.remove_pod_sandbox(remove).await.with_context(failed)?;
    Ok(())
}

/// Removes the cluster's cgroups from every hierarchy, the deepest first.
fn remove_cgroups(name: &str) -> Result<()> {
    for root in cgroup_mounts()? {
        remove_tree(&std::path::Path::new(&root).join("knarr").join(name));
    }
    Ok(())
}

/// The same of one of its nodes.
pub(super) fn remove_node_cgroups(name: &str, node: &str) -> Result<()> {
    for root in cgroup_mounts()? {
        remove_tree(&std::path::Path::new(&root).join("knarr").join(name).join(node));
    }
    Ok(())
}

fn remove_tree(dir: &std::path::Path) {
    let children = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    children.filter(|path| path.is_dir()).for_each(|path| remove_tree(&path));
    // One that is not empty yet, or not there, is not ours to worry about here.
    let _ = fs::remove_dir(dir);
}

/// Unmounts everything below a directory, the innermost first. What was hidden below another mount comes to light when
/// that is gone: upstream's kubelet binds its folder to itself, over mounts of whoever had it before.
pub(super) fn unmount_below(dir: &std::path::Path) -> Result<()> {
    loop {
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
        let points = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).map(mount_point);
        let mut found: Vec<PathBuf> = points.filter(|path| path != dir && path.starts_with(dir)).collect();
        found.sort_unstable();
        let mut unmounted = false;
        for path in found.iter().rev() {
            match nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH) {
                Ok(()) => unmounted = true,
                // What was shared with another of them has gone with it.
                Err(nix::errno::Errno::EINVAL) => {}
                Err(error) => return Err(error).with_context(|| format!("unmounting {}", path.display())),
            }
        }
        if !unmounted {
            return Ok(());
        }
    }
}

/// A path in `/proc/self/mounts`, where spaces and the like stand as `\040`.
fn mount_point(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        match u8::from_str_radix(code, 8) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend_from_slice(code.as_bytes()),
        }
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

fn end(path: &std::path::Path, record: &ProcessRecord) -> Result<()> {
    let pid = Pid::from_raw(record.pid);
    kill(pid, Signal::SIGTERM).with_context(|| format!("ending process {pid}"))?;
    let since = Instant::now();
    while ProcessRecord::alive(path).is_some() {
        if since.elapsed() > GRACE {
            kill(pid, Signal::SIGKILL).with_context(|| format!("killing process {pid}"))?;
        }
        if since.elapsed() > GRACE * 2 {
            bail!("process {pid} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(super) fn remove(dir: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        for (text, path) in [
            ("/run/knarr", "/run/knarr"),
            ("/a\\040b\\134c", "/a b\\c"),
            ("/\\303\\244", "/ä"),
            ("\\011", "\t"),
            ("/a\\", "/a"),
        ] {
            assert_eq!(mount_point(text), PathBuf::from(path));
        }
    }
}
