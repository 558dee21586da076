//! What `knarr up` is asked of a cluster that is there already. How many nodes it has may change; everything else is as
//! the cluster was made, and whoever asks for something else is told so.

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Node;

use super::down;
use super::up::ANSWER;
use crate::cluster::{ProcessRecord, Settings};
use crate::paths::Paths;

/// What was asked for, where it was.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The API server's port; 0: any.
    pub port: Option<u16>,
    /// Where objects are kept.
    pub store: Option<String>,
    /// Addresses of IPv6.
    pub dual_stack: bool,
    /// The runtime to use instead of our own.
    pub runtime_endpoint: Option<String>,
    /// Pods of a node.
    pub max_pods: Option<u32>,
    /// How many nodes.
    pub nodes: Option<u32>,
    /// Who connects pods.
    pub cni: crate::cni::Cni,
    /// What runtimes are told.
    pub runtime: crate::runtime_flags::RuntimeFlags,
    /// What kubelets are told.
    pub kubelet: crate::kubelet_files::KubeletFiles,
    /// Which features are turned on or off.
    pub features: crate::feature_gates::FeatureGates,
}

/// How many nodes the cluster is to have.
///
/// # Errors
/// When something is asked for that cannot become of it.
pub fn nodes(known: &Settings, asked: &Asked) -> Result<u32> {
    let differs = [
        ("--port", asked.port.is_some_and(|port| port != 0 && port != known.port), known.port.to_string()),
        ("--store", asked.store.as_ref().is_some_and(|store| *store != known.store), known.store.clone()),
        ("--dual-stack", asked.dual_stack && !known.dual_stack, "addresses of IPv4 alone".to_owned()),
        (
            "--container-runtime-endpoint",
            asked.runtime_endpoint.is_some() && asked.runtime_endpoint != known.runtime_endpoint,
            known.runtime_endpoint.clone().unwrap_or_else(|| "its own runtime".to_owned()),
        ),
        ("--max-pods", asked.max_pods.is_some_and(|pods| pods != known.max_pods), known.max_pods.to_string()),
        (
            "flags of CNI",
            asked.cni != crate::cni::Cni::default() && asked.cni != known.cni,
            "other ones".to_owned(),
        ),
        (
            "flags of the runtime",
            asked.runtime != crate::runtime_flags::RuntimeFlags::default() && asked.runtime != known.runtime,
            "other ones".to_owned(),
        ),
        (
            "--kubelet-config or --kubelet-config-dir",
            asked.kubelet != crate::kubelet_files::KubeletFiles::default() && asked.kubelet != known.kubelet,
            "other ones".to_owned(),
        ),
        (
            "--feature-gates",
            !asked.features.is_empty() && asked.features != known.features,
            "other ones".to_owned(),
        ),
    ];
    if let Some((flag, _, has)) = differs.into_iter().find(|(_, differs, _)| *differs) {
        bail!(
            "{flag} cannot be changed: cluster {:?} was made with {has}; leave it out, or begin anew after `knarr down --purge`",
            known.name
        );
    }
    match asked.nodes {
        Some(nodes) if nodes > 0 && known.nodes == 0 => bail!(
            "cluster {:?} was made without nodes on this machine and cannot be given any: begin anew after `knarr down --purge`",
            known.name
        ),
        Some(0) if known.nodes > 0 => bail!(
            "cluster {:?} keeps at least one node: stop it with `knarr down`, or ask for --nodes 1",
            known.name
        ),
        Some(nodes) => Ok(nodes),
        None => Ok(known.nodes),
    }
}

/// A kubelet does not make its node again that somebody deleted: those of such nodes are to begin anew.
pub async fn restart_deleted(kubeconfig: &str, paths: &Paths, settings: &Settings) -> Result<()> {
    let nodes: kube::Api<Node> = kube::Api::all(client::connect::kubeconfig(kubeconfig).await?);
    for name in settings.node_names() {
        let record = paths.process(&format!("agent-{name}"));
        if ProcessRecord::alive(&record).is_none() {
            continue;
        }
        // Who cannot be asked now is asked when nodes are waited for.
        let asked = tokio::time::timeout(ANSWER, nodes.get_metadata_opt(&name)).await;
        if matches!(asked, Ok(Ok(None))) {
            down::stop(&record)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(nodes: u32) -> Settings {
        let text = format!(
            r#"{{"name": "a", "index": 0, "port": 6443, "store": "embedded", "nodes": {nodes},
            "runtime_endpoint": null, "advertise": "172.30.0.1"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_number_of_nodes_may_change_and_stays_unless_asked_for() {
        let of = |nodes, asked| super::nodes(&known(nodes), &Asked { nodes: asked, ..Asked::default() });
        assert_eq!(of(3, None).unwrap(), 3);
        assert_eq!(of(3, Some(5)).unwrap(), 5);
        assert_eq!(of(3, Some(1)).unwrap(), 1);
        assert_eq!(of(0, None).unwrap(), 0);
        assert!(of(3, Some(0)).unwrap_err().to_string().contains("keeps at least one node"));
        assert!(of(0, Some(1)).unwrap_err().to_string().contains("without nodes"));
    }

    #[test]
    fn what_cannot_change_is_refused_unless_it_is_the_same() {
        let refused = |asked: Asked| super::nodes(&known(1), &asked).err().map(|error| error.to_string());
        let same = Asked {
            port: Some(6443),
            store: Some("embedded".to_owned()),
            max_pods: Some(110),
            ..Asked::default()
        };
        assert_eq!(refused(same), None);
        assert_eq!(refused(Asked { port: Some(0), ..Asked::default() }), None);
        for (asked, told) in [
            (
                Asked { port: Some(7443), ..Asked::default() },
                "--port cannot be changed: cluster \"a\" was made with 6443;",
            ),
            (
                Asked { max_pods: Some(500), ..Asked::default() },
                "--max-pods cannot be changed: cluster \"a\" was made with 110;",
            ),
            (Asked { dual_stack: true, ..Asked::default() }, "--dual-stack cannot be changed"),
            (
                Asked { runtime_endpoint: Some("unix:///a".to_owned()), ..Asked::default() },
                "--container-runtime-endpoint cannot be changed: cluster \"a\" was made with its own runtime;",
            ),
            (
                Asked { store: Some("etcd=http://127.0.0.1:2379".to_owned()), ..Asked::default() },
                "--store cannot be changed: cluster \"a\" was made with embedded;",
            ),
        ] {
            let error = refused(asked).unwrap();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
