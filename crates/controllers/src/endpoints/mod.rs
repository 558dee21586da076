//! `Endpoints`, for whoever still reads or writes them instead of endpoint slices: those of Services that select pods are
//! made ([`plan`]), and those that somebody wrote for a Service without a selector become slices ([`mirror`]).

pub mod mirror;
pub mod plan;
pub mod run;
pub mod subsets;

use client::{Informer, Reflector, Resource};
use k8s_openapi::api::core::v1::Endpoints;

use crate::context::Queues;

/// Begins to follow them.
pub fn start_informer(
    client: &kube::Client,
    queues: &Queues,
    tasks: &base::TaskGroup,
) -> Reflector<Endpoints> {
    let mut endpoints: Informer<Endpoints> =
        Informer::new(client.clone(), Resource::all("", "v1", "Endpoints", "endpoints"));
    let queue = queues.endpoints.clone();
    endpoints.on_change(move |change| queue.add(change.key().to_owned()));
    endpoints.start(tasks)
}
