//! `knarr scheduler`, also as `kube-scheduler`.

use std::path::PathBuf;

use anyhow::Result;
use base::{Random, Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;

use super::elect::{self, LeaderElection};
use crate::feature_gates::FeatureGates;

/// `knarr scheduler`
#[derive(Debug, Args)]
pub struct Scheduler {
    #[command(flatten)]
    pub logging: super::Logging,
    /// How the API server is reached, and as whom
    #[arg(long)]
    kubeconfig: PathBuf,
    #[command(flatten)]
    election: LeaderElection,
    #[command(flatten)]
    features: FeatureGates,
}

impl Scheduler {
    /// Schedules until the process is told to stop.
    ///
    /// # Errors
    /// When the API server cannot be reached by the kubeconfig.
    pub async fn run(self) -> Result<()> {
        // No gate changes anything here; a wrong one is refused.
        self.features.gates()?;
        let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
        let client = super::connect(&self.kubeconfig).await?;
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let election = self.election.election("kube-scheduler", &elect::identity(&SystemRandom.uuid()));
        let leading = shutdown.clone();
        tasks.spawn_graceful(async move {
            let work = |tasks| {
                let (client, clock, random) = (client.clone(), clock.clone(), random.clone());
                async move { scheduler::run(client, clock, random, &tasks).await }
            };
            elect::lead(election, client.clone(), clock.clone(), leading, work).await;
        });
        super::wait_for_end(&shutdown).await?;
        shutdown.trigger();
        tasks.stop().await;
        Ok(())
    }
}
