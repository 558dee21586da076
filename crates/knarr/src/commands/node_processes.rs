//! The processes of a cluster's nodes, and when they are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Node;

use super::daemon;
use super::up::{ANSWER, PATIENCE};
use crate::cluster::{ProcessRecord, Settings};
use crate::paths::Paths;

/// The processes that each node has, with the command that runs them.
fn node_processes(settings: &Settings) -> impl Iterator<Item = (String, &'static str, String)> {
    let external = settings.runtime_endpoint.is_some();
    settings.node_names().into_iter().flat_map(move |node| {
        [("runtime", "node-runtime"), ("agent", "node")]
            .into_iter()
            .filter(move |(process, _)| !(external && *process == "runtime"))
            .map(move |(process, command)| (format!("{process}-{node}"), command, node.clone()))
    })
}

/// Processes that were alive, by name, with their pids.
pub type Alive = BTreeSet<(String, i32)>;

/// Processes that this one started, by name: they may not have written their records yet.
pub type Children = BTreeMap<String, Child>;

/// Starts what does not run, and says what does: some of it may be about to end.
pub fn start(paths: &Paths, settings: &Settings, children: &mut Children) -> Result<Alive> {
    let mut found = Alive::new();
    for (process, command, node) in node_processes(settings) {
        if let Some(record) = ProcessRecord::alive(&paths.process(&process)) {
            found.insert((process, record.pid));
            continue;
        }
        if let Some(child) = children.get_mut(&process)
            && child.try_wait()?.is_none()
        {
            continue;
        }
        let mut arguments = vec![command, "--name", &settings.name, "--node", &node];
        let flags = [settings.cni.arguments(), settings.runtime.arguments()].concat();
        if command == "node-runtime" {
            arguments.extend(flags.iter().map(String::as_str));
        }
        let child = daemon::start(&paths.log(&process), &arguments, &paths.data)?;
        children.insert(process, child);
    }
    Ok(found)
}

/// What came of waiting for nodes.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// All are ready.
    Ready,
    /// A process that had been started has ended.
    Ended,
}

/// Waits until every node says that it is ready, or a process ends.
pub async fn wait(
    kubeconfig: &str,
    paths: &Paths,
    settings: &Settings,
    mut seen: Alive,
    children: &mut Children,
) -> Result<Waited> {
    let client = client::connect::kubeconfig(kubeconfig).await?;
    let nodes: kube::Api<Node> = kube::Api::all(client);
    let since = Instant::now();
    // Each writes its record once it runs; one that was there and is gone has ended.
    let mut waiting = settings.node_names();
    loop {
        let mut alive = true;
        let processes = node_processes(settings).map(|(process, ..)| process);
        for process in processes.chain(["server".to_owned()]) {
            match ProcessRecord::alive(&paths.process(&process)) {
                Some(record) => drop(seen.insert((process, record.pid))),
                None if seen.iter().any(|(known, _)| *known == process) => return Ok(Waited::Ended),
                None => {
                    if let Some(child) = children.get_mut(&process)
                        && child.try_wait()?.is_some()
                        && ProcessRecord::alive(&paths.process(&process)).is_none()
                    {
                        return Ok(Waited::Ended);
                    }
                    alive = false;
                }
            }
        }
        if waiting.is_empty() && alive && crate::node::runtimes_answer(paths, settings) {
            return Ok(Waited::Ready);
        }
        let mut left = Vec::new();
        let mut trouble = String::new();
        for name in waiting {
            match tokio::time::timeout(ANSWER, nodes.get_opt(&name)).await {
                Ok(Ok(node)) if is_ready(node.as_ref()) => {}
                // Its plugins come by way of the cluster.
                Ok(Ok(Some(_))) if settings.cni.waits_for_plugins() => {}
                Ok(Ok(_)) => left.push(name),
                Ok(Err(error)) => {
                    trouble = format!(" ({error})");
                    left.push(name);
                }
                Err(_) => {
                    trouble = format!(" (the API server does not answer within {ANSWER:?})");
                    left.push(name);
                }
            }
        }
        waiting = left;
        if since.elapsed() > PATIENCE {
            bail!(
                "not ready after {PATIENCE:?}: {}{trouble}; see the logs of these nodes",
                waiting.join(", ")
            );
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()).and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
