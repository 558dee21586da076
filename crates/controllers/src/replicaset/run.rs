//! Applies a replica set's plan.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};

use super::plan::{Plan, plan};
use crate::context::Context;
use crate::expect::Expectations;
use crate::view::{PodView, split};

/// The controller's state beside what the informers hold.
pub struct ReplicaSets {
    context: Arc<Context>,
    /// What was done and not yet told.
    pub expectations: Expectations,
}

impl ReplicaSets {
    /// The controller.
    pub fn new(context: Arc<Context>) -> Self {
        let expectations = Expectations::new(context.clock.clone());
        Self { context, expectations }
    }

    /// Brings one replica set closer to what it asks for.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, key: String) -> Result<Option<Duration>, kube::Error> {
        let Some(set) = self.context.informers.replica_sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(None);
        };
        let (namespace, _) = split(&key);
        let pods = self.context.informers.pods.in_namespace(namespace);
        let plan = plan(&set, &pods, self.context.clock.now());
        let may_act = self.expectations.satisfied(&key);
        let acted = if may_act { self.act(&key, &set, &plan).await } else { Ok(()) };
        if set.status.as_ref() != Some(&plan.status) {
            if let Err(error) = &acted {
                tracing::debug!(%key, %error, "the status is written although pods could not be");
            }
            self.write_status(&set, &plan).await?;
        }
        acted?;
        Ok(plan.again_in.map(Duration::from_secs))
    }

    async fn write_status(&self, set: &ReplicaSet, plan: &Plan) -> Result<(), kube::Error> {
        let (namespace, name) = (&set.metadata.namespace, &set.metadata.name);
        let (namespace, name) =
            (namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
        let sets: Api<ReplicaSet> = Api::namespaced(self.context.clients.replica_sets.clone(), namespace);
        let told = ReplicaSet { status: Some(plan.status.clone()), ..set.clone() };
        match sets.replace_status(name, &PostParams::default(), &told).await {
            // Who lost a race is told of the winner by the informer, and looks again then.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn act(&self, key: &str, set: &ReplicaSet, plan: &Plan) -> Result<(), kube::Error> {
        let (namespace, _) = split(key);
        let pods: Api<Pod> = Api::namespaced(self.context.clients.replica_sets.clone(), namespace);
        let own = owner(set);
        for pod in &plan.adopt {
            let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": [own]}});
            ignore_gone(
                pods.patch(&pod.metadata.name, &PatchParams::default(), &Patch::Strategic(&patch)).await,
            )?;
        }
        for pod in &plan.release {
            let patch = serde_json::json!({"metadata": {
                "uid": pod.metadata.uid, "ownerReferences": [{"$patch": "delete", "uid": own.uid}],
            }});
            ignore_gone(
                pods.patch(&pod.metadata.name, &PatchParams::default(), &Patch::Strategic(&patch)).await,
            )?;
        }
        self.create(key, set, &pods, &own, plan.create).await?;
        let deletions = plan.delete.iter().map(|pod| self.delete(key, set, &pods, pod));
        join_all(deletions).await.into_iter().collect()
    }

    /// Makes pods: one, then two, then four and so on, so that a cluster that refuses them is not stormed.
    async fn create(
        &self,
        key: &str,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        own: &OwnerReference,
        count: usize,
    ) -> Result<(), kube::Error> {
        let mut left = count;
        let mut batch = 1;
        if count > 0 {
            self.expectations.begin(key);
        }
        while left > 0 {
            let now = batch.min(left);
            let made = join_all((0..now).map(|_| self.create_one(key, set, pods, own))).await;
            made.into_iter().collect::<Result<(), _>>()?;
            left -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(
        &self,
        key: &str,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        own: &OwnerReference,
    ) -> Result<(), kube::Error> {
        let Some(template) = set.spec.template.clone() else { return Ok(()) };
        let metadata = template.metadata.unwrap_or_default();
        let pod = Pod {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default())),
                labels: metadata.labels,
                annotations: metadata.annotations,
                finalizers: metadata.finalizers,
                owner_references: Some(vec![own.clone()]),
                ..ObjectMeta::default()
            },
            spec: template.spec,
            ..Pod::default()
        };
        match pods.create(&PostParams::default(), &pod).await {
            Ok(made) => {
                self.expectations.created(key, made.metadata.uid.as_deref().unwrap_or_default());
                let name = made.metadata.name.unwrap_or_default();
                self.context.recorder.named("replicaset-controller").normal(
                    reference(set),
                    "SuccessfulCreate",
                    format!("Created pod: {name}"),
                );
                Ok(())
            }
            // The namespace is going: there is nothing left to do here.
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains("being terminated") =>
            {
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {error}");
                self.context.recorder.named("replicaset-controller").warning(
                    reference(set),
                    "FailedCreate",
                    message,
                );
                Err(error)
            }
        }
    }

    async fn delete(
        &self,
        key: &str,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        pod: &PodView,
    ) -> Result<(), kube::Error> {
        let meta = &pod.metadata;
        self.expectations.deleting(key, &meta.uid);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(meta.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        match pods.delete(&meta.name, &params).await {
            Ok(_) => {
                let message = format!("Deleted pod: {}", meta.name);
                self.context.recorder.named("replicaset-controller").normal(
                    reference(set),
                    "SuccessfulDelete",
                    message,
                );
                Ok(())
            }
            Err(error) => {
                self.expectations.observed(key, &meta.uid, true);
                match error {
                    kube::Error::Api(status) if status.code == 404 => Ok(()),
                    error => Err(error),
                }
            }
        }
    }
}

fn ignore_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn owner(set: &ReplicaSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn reference(set: &ReplicaSet) -> k8s_openapi::api::core::v1::ObjectReference {
    crate::context::reference("apps/v1", "ReplicaSet", &set.metadata)
}
