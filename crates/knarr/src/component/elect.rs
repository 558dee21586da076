//! Leadership: of several processes of one component, one works.

use std::time::Duration;

use base::{SharedClock, Shutdown, TaskGroup};
use clap::Args;
use client::leader::Election;

/// Upstream's flags of leader election.
#[derive(Debug, Clone, Args)]
pub struct LeaderElection {
    /// Work only while holding the lease that others compete for
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    leader_elect: bool,
    /// How long a holder may be silent before others take over
    #[arg(long, default_value = "15s", value_parser = super::go_duration)]
    leader_elect_lease_duration: Duration,
    /// How often a holder renews
    #[arg(long, default_value = "2s", value_parser = super::go_duration)]
    leader_elect_retry_period: Duration,
    /// The name of the lease [default: the component's]
    #[arg(long)]
    leader_elect_resource_name: Option<String>,
    /// The namespace of the lease
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
}

impl LeaderElection {
    /// The election, if there is to be one.
    pub fn election(&self, component: &str, identity: &str) -> Option<Election> {
        self.leader_elect.then(|| Election {
            namespace: self.leader_elect_resource_namespace.clone(),
            name: self.leader_elect_resource_name.clone().unwrap_or_else(|| component.to_owned()),
            identity: identity.to_owned(),
            lease: self.leader_elect_lease_duration,
            renew: self.leader_elect_retry_period,
        })
    }
}

/// Who competes: the host and something that no other process on it has, as upstream's `host_uuid`.
pub fn identity(own: &str) -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}_{own}", host.unwrap_or_else(|| "localhost".to_owned()))
}

/// Works while leading, again and again until the shutdown; without an election, works at once. Whatever the work
/// has started ends with its leadership.
pub async fn lead<W>(
    election: Option<Election>,
    client: kube::Client,
    clock: SharedClock,
    shutdown: Shutdown,
    work: impl Fn(TaskGroup) -> W,
) where
    W: Future<Output = ()>,
{
    while !shutdown.is_triggered() {
        let tasks = TaskGroup::new(&shutdown);
        match &election {
            Some(election) => {
                election.run(client.clone(), clock.clone(), shutdown.clone(), || work(tasks.clone())).await;
            }
            None => tokio::select! {
                () = shutdown.wait() => {}
                () = work(tasks.clone()) => {}
            },
        }
        tasks.stop().await;
    }
}
