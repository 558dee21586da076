//! Takes nodes away from a cluster that goes on: their pods end with their grace while others may take over, then the
//! nodes themselves and everything they have on this machine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};

use super::down;
use crate::cluster::{ProcessRecord, Settings};
use crate::paths::Paths;

/// How much longer than the longest grace of its pods a node is waited for.
const BEYOND: Duration = Duration::from_secs(5);
/// However long their grace is.
const LONGEST: Duration = Duration::from_secs(300);
/// How often it is looked whether pods are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Marks pods that only show what a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Removes the nodes beyond the first `nodes`, the last one first. Doing it again is no error.
///
/// # Errors
/// Those of the API, and of what a node leaves on the machine.
pub fn to(nodes: u32, paths: &Paths, settings: &Settings, kubeconfig: &str) -> Result<()> {
    for number in (nodes + 1..=settings.nodes).rev() {
        let name = &settings.node_name(number);
        eprintln!("removing node {name}");
        super::block_on(async {
            let client = client::connect::kubeconfig(kubeconfig).await?;
            let is_alive = ProcessRecord::alive(&paths.process(&format!("agent-{name}"))).is_some();
            empty(&client, name, is_alive).await
        })
        .with_context(|| format!("ending the pods of node {name}"))?;
        down::end_node(paths, Some(settings), name)?;
        super::block_on(async { forget(&client::connect::kubeconfig(kubeconfig).await?, name).await })
            .with_context(|| format!("deleting node {name}"))?;
        net::namespace::remove(&paths.netns(name))?;
        super::block_on(async { Ok(settings.host_network().remove_node(number).await?) })?;
        down::remove_node_cgroups(&settings.name, name)?;
        for folder in [paths.node_run(name), paths.node(name)] {
            down::unmount_below(&folder)?;
            down::remove(&folder)?;
        }
    }
    Ok(())
}

/// Lets no more pods come, and ends those that are there. Their kubelet, if there is one, gives them their grace.
async fn empty(client: &kube::Client, name: &str, is_alive: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let cordon = Patch::Merge(serde_json::json!({"spec": {"unschedulable": true}}));
    match nodes.patch(name, &PatchParams::default(), &cordon).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        other => drop(other?),
    }
    let mut going = BTreeSet::new();
    let mut grace = Duration::ZERO;
    for pod in pods(client, name).await? {
        if pod.metadata.annotations.as_ref().is_some_and(|known| known.contains_key(MIRROR)) {
            continue;
        }
        let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        grace = grace.max(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        delete(client, &pod, &DeleteParams::default()).await?;
        going.extend(pod.metadata.uid);
    }
    let deadline = Instant::now() + (grace + BEYOND).min(LONGEST);
    while is_alive && !going.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        let left: BTreeSet<_> =
            pods(client, name).await?.into_iter().filter_map(|pod| pod.metadata.uid).collect();
        going.retain(|uid| left.contains(uid));
    }
    Ok(())
}

/// Deletes the node, and what is left of its pods: nobody will say any more that they have ended.
async fn forget(client: &kube::Client, name: &str) -> Result<()> {
    match Api::<Node>::all(client.clone()).delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other?),
    }
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for pod in pods(client, name).await? {
        delete(client, &pod, &at_once).await?;
    }
    Ok(())
}

async fn pods(client: &kube::Client, node: &str) -> Result<Vec<Pod>> {
    let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    Ok(Api::<Pod>::all(client.clone()).list(&of_node).await?.items)
}

async fn delete(client: &kube::Client, pod: &Pod, params: &DeleteParams) -> Result<()> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match pods.delete(meta.name.as_deref().unwrap_or_default(), params).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}
