//! The node's lease: how others notice that it is gone.

use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use crate::Shared;

const NAMESPACE: &str = "kube-node-lease";
/// Pauses after a lease could not be renewed: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(7));
/// A lease is renewed when so much of its time is over: after 10 seconds of 40.
const RENEWALS: u32 = 4;
/// By so much more, at most, so that nodes which started together do not renew together.
const JITTER: f64 = 0.04;

/// Renews the lease, forever.
pub async fn run(shared: Arc<Shared>) {
    let seconds = shared.config.configuration.fields.node_lease_duration_seconds;
    let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(40)) / RENEWALS;
    let mut retry = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let pause = match renew(&shared).await {
            Ok(()) => {
                retry.reset();
                period.mul_f64(1.0 + JITTER * shared.config.random.below(1001) as f64 / 1000.0)
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease is not renewed yet");
                retry.next_pause()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(shared: &Shared) -> Result<(), kube::Error> {
    let name = &shared.config.node_name;
    let seconds = shared.config.configuration.fields.node_lease_duration_seconds;
    let leases: Api<Lease> = Api::namespaced(shared.client.clone(), NAMESPACE);
    let renew_time = Some(MicroTime(shared.config.clock.now()));
    let patch = serde_json::json!({"spec": {"renewTime": renew_time, "holderIdentity": name, "leaseDurationSeconds": seconds}});
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    let node = Api::<Node>::all(shared.client.clone()).get(name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(seconds),
            renew_time,
            ..LeaseSpec::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}
