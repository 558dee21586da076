//! Follows claims and templates: what each change makes worth a look.

use std::sync::Arc;

use base::TaskGroup;
use client::{Change, Index, Informer, Reflector, Resource};
use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimTemplate as Template};

use super::{Key, claim_name, pod, template_name};
use crate::context::Queues;
use crate::device_taints;
use crate::view::key;

/// Begins the informers of claims and templates; `pods` has pods by their claims.
pub fn start_informers(
    client: &kube::Client,
    queues: &Queues,
    pods: &Arc<Index>,
    tasks: &TaskGroup,
) -> (Reflector<Claim>, Reflector<Template>) {
    let resource = |kind, plural| Resource::all("resource.k8s.io", "v1", kind, plural);
    let mut claims: Informer<Claim> =
        Informer::new(client.clone(), resource("ResourceClaim", "resourceclaims"));
    let taints = queues.device_taints.clone();
    claims.on_change(move |change| {
        let (new, old) = match change {
            Change::Set { new, old, .. } => (Some(*new), *old),
            Change::Removed { old, .. } => (None, Some(*old)),
        };
        let all = new.into_iter().chain(old);
        all.flat_map(|claim| device_taints::users(claim)).for_each(|pod| taints.add(pod));
    });
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
        for pod in known.of(&claim_name(namespace, name)) {
            queue.add(Key::Pod(pod));
        }
    });
    let mut templates: Informer<Template> =
        Informer::new(client.clone(), resource("ResourceClaimTemplate", "resourceclaimtemplates"));
    let (queue, known) = (queues.resource_claims.clone(), pods.clone());
    templates.on_change(move |change| {
        let Change::Set { new, .. } = change else { return };
        let name = new.metadata.name.as_deref().unwrap_or_default();
        let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
        for pod in known.of(&template_name(namespace, name)) {
            queue.add(Key::Pod(pod));
        }
    });
    (claims.start(tasks), templates.start(tasks))
}
