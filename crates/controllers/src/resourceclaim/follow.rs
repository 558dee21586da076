//! Follows claims and templates: what each change makes worth a look.

use base::TaskGroup;
use client::{Change, Informer, Reflector, Resource};
use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimTemplate as Template};

use super::{Key, Named, named, pod};
use crate::context::Queues;
use crate::view::{PodView, key};

/// Begins the informers of claims and templates.
pub fn start_informers(
    client: &kube::Client,
    queues: &Queues,
    pods: &Reflector<PodView>,
    tasks: &TaskGroup,
) -> (Reflector<Claim>, Reflector<Template>) {
    let resource = |kind, plural| Resource::all("resource.k8s.io", "v1", kind, plural);
    let mut claims: Informer<Claim> =
        Informer::new(client.clone(), resource("ResourceClaim", "resourceclaims"));
    let (queue, known) = (queues.resource_claims.clone(), pods.clone());
    claims.on_change(move |change| {
        let claim = match change {
            Change::Set { key, new, .. } => {
                queue.add(Key::Claim((*key).to_owned()));
                *new
            }
            Change::Removed { old, .. } => *old,
        };
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        if let Some((owner, _)) = pod::owner(claim) {
            return queue.add(Key::Pod(key(namespace, owner)));
        }
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let uses = |pod: &PodView| {
            let mut all = pod.spec.resource_claims.iter();
            all.any(|claim| matches!(named(pod, claim), Named::Claim { name: used, .. } if used == name))
        };
        for pod in known.in_namespace(namespace).iter().filter(|pod| uses(pod)) {
            queue.add(Key::Pod(pod.metadata.key()));
        }
    });
    let mut templates: Informer<Template> =
        Informer::new(client.clone(), resource("ResourceClaimTemplate", "resourceclaimtemplates"));
    let (queue, known) = (queues.resource_claims.clone(), pods.clone());
    templates.on_change(move |change| {
        let Change::Set { new, .. } = change else { return };
        let name = new.metadata.name.as_deref();
        let wants = |pod: &PodView| {
            let mut all = pod.spec.resource_claims.iter();
            all.any(|claim| claim.resource_claim_template_name.as_deref() == name)
        };
        let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
        for pod in known.in_namespace(namespace).iter().filter(|pod| wants(pod)) {
            queue.add(Key::Pod(pod.metadata.key()));
        }
    });
    (claims.start(tasks), templates.start(tasks))
}
