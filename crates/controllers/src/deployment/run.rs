//! Applies a deployment's plan.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};

use super::plan::{Action, HASH_LABEL, REVISION, plan};
use crate::context::{Context, reference};
use crate::view::split;

/// Brings one deployment closer to what it asks for.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: String) -> Result<Option<Duration>, kube::Error> {
    let Some(deployment) = context.informers.deployments.get(&key) else { return Ok(None) };
    let (namespace, name) = split(&key);
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let sets: Vec<Arc<ReplicaSet>> = context
        .informers
        .replica_sets
        .in_namespace(namespace)
        .into_iter()
        .filter(|set| {
            let owners = set.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
        })
        .collect();
    let plan = plan(&deployment, &sets, context.clock.now());
    let api: Api<ReplicaSet> = Api::namespaced(context.clients.deployments.clone(), namespace);
    for action in &plan.actions {
        act(context, &api, &deployment, action).await?;
    }
    let deployments: Api<Deployment> = Api::namespaced(context.clients.deployments.clone(), namespace);
    let told = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
    let mut current = (*deployment).clone();
    let revision = plan.revision.as_ref().filter(|revision| Some(*revision) != told);
    if let Some(revision) = revision {
        let annotations = current.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), revision.clone());
    }
    // Both are written as the status is: what an author notes counts for the generation, and this does not.
    if revision.is_some() || current.status.as_ref() != Some(&plan.status) {
        current.status = Some(plan.status);
        if let Err(error) = deployments.replace_status(name, &PostParams::default(), &current).await {
            return after_race(error);
        }
    }
    Ok(plan.again_in.map(Duration::from_secs))
}

/// Who lost a race is told of the winner by the informer, and looks again then.
fn after_race(error: kube::Error) -> Result<Option<Duration>, kube::Error> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(None),
        error => Err(error),
    }
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn act(
    context: &Arc<Context>,
    sets: &Api<ReplicaSet>,
    deployment: &Deployment,
    action: &Action,
) -> Result<(), kube::Error> {
    let about = || reference("apps/v1", "Deployment", &deployment.metadata);
    let recorder = || context.recorder.named("deployment-controller");
    match action {
        Action::Create { hash, replicas, annotations } => {
            let Some(set) = new_set(deployment, hash, *replicas, annotations) else { return Ok(()) };
            let name = set.metadata.name.clone().unwrap_or_default();
            match sets.create(&PostParams::default(), &set).await {
                Ok(_) => {
                    if *replicas > 0 {
                        let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                        recorder().normal(about(), "ScalingReplicaSet", message);
                    }
                    Ok(())
                }
                // Our own, which the informer has not told yet.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(error),
            }
        }
        Action::Scale { name, from, to, annotations } => {
            let patch =
                serde_json::json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
            gone_is_fine(sets.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            recorder().normal(about(), "ScalingReplicaSet", message);
            Ok(())
        }
        Action::Annotate { name, annotations } => {
            let patch = serde_json::json!({"metadata": {"annotations": annotations}});
            gone_is_fine(sets.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
        }
        Action::Delete { name } => gone_is_fine(sets.delete(name, &DeleteParams::default()).await),
    }
}

fn new_set(
    deployment: &Deployment,
    hash: &str,
    replicas: i32,
    annotations: &std::collections::BTreeMap<String, String>,
) -> Option<ReplicaSet> {
    let spec = &deployment.spec;
    let mut template = spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = metadata.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: deployment.metadata.name.clone()?,
        uid: deployment.metadata.uid.clone()?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref()?)),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    })
}
