//! Leader election by a Lease, as client-go's `leaderelection` does it: one holder works, the others wait.

use std::time::Duration;

use base::{SharedClock, Shutdown};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

/// Who competes for what.
#[derive(Debug, Clone)]
pub struct Election {
    /// The lease's namespace: `kube-system`.
    pub namespace: String,
    /// The lease's name, such as `kube-scheduler`.
    pub name: String,
    /// Who competes.
    pub identity: String,
    /// How long a holder may be silent before others take over.
    pub lease: Duration,
    /// How often a holder renews.
    pub renew: Duration,
}

impl Election {
    /// An election with upstream's times: 15 s, renewed every 2 s.
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(2),
        }
    }

    /// How long a holder that cannot renew goes on: shorter than others wait, as upstream's 10 s of 15 s.
    fn patience(&self) -> Duration {
        self.lease * 2 / 3
    }

    /// Waits to be the leader, works, and ends when the lease is lost or the shutdown comes. Returns whether it
    /// ever led. The work is dropped before the lease is given back, and before anybody else may take it.
    pub async fn run<W: Future<Output = ()>>(
        &self,
        client: kube::Client,
        clock: SharedClock,
        shutdown: Shutdown,
        work: impl FnOnce() -> W,
    ) -> bool {
        let leases: Api<Lease> = Api::namespaced(client, &self.namespace);
        let mut seen = None;
        let taken = loop {
            let asked = clock.monotonic();
            tokio::select! {
                () = shutdown.wait() => return false,
                outcome = self.attempt_within(self.patience(), &leases, &clock, &mut seen) => match outcome {
                    Ok(Outcome::Held) => break asked,
                    Ok(Outcome::Others | Outcome::Raced) => {}
                    Err(why) => tracing::warn!(lease = %self.name, %why, "the election could not be held"),
                },
            }
            tokio::select! {
                () = shutdown.wait() => return false,
                () = tokio::time::sleep(self.renew) => {}
            }
        };
        tracing::info!(lease = %self.name, identity = %self.identity, "became leader");
        tokio::select! {
            () = work() => {}
            () = self.keep(taken, &leases, &clock) => tracing::error!(lease = %self.name, "lost the lease"),
            () = shutdown.wait() => self.release(&leases).await,
        }
        true
    }

    /// Renews until somebody else holds the lease, or until that failed for too long. `renewed` is when the last
    /// renewal was asked for: others saw it no earlier.
    async fn keep(&self, mut renewed: Duration, leases: &Api<Lease>, clock: &SharedClock) {
        let mut seen = None;
        let left = |renewed: Duration| (renewed + self.patience()).saturating_sub(clock.monotonic());
        loop {
            // The less is left, the sooner it is tried again.
            let pause = (left(renewed) / 2).max(Duration::from_millis(100));
            tokio::time::sleep(self.renew.min(pause)).await;
            let asked = clock.monotonic();
            match self.attempt_within(left(renewed), leases, clock, &mut seen).await {
                Ok(Outcome::Held) => renewed = asked,
                Ok(Outcome::Others) => return,
                Ok(Outcome::Raced) => {}
                Err(why) => tracing::warn!(lease = %self.name, %why, "the lease could not be renewed"),
            }
            if left(renewed).is_zero() {
                return;
            }
        }
    }

    /// A request that hangs leaves time for another one before the patience is over.
    async fn attempt_within(
        &self,
        limit: Duration,
        leases: &Api<Lease>,
        clock: &SharedClock,
        seen: &mut Option<(Lease, Duration)>,
    ) -> Result<Outcome, String> {
        let limit = limit.min(self.patience() / 2);
        match tokio::time::timeout(limit, self.attempt(leases, clock, seen)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    /// Takes or renews the lease. `seen` is the last state of another's lease and when it was first seen: clocks of
    /// different machines are never compared.
    async fn attempt(
        &self,
        leases: &Api<Lease>,
        clock: &SharedClock,
        seen: &mut Option<(Lease, Duration)>,
    ) -> Result<Outcome, kube::Error> {
        let now = MicroTime(clock.now());
        let Some(mut lease) = leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(LeaseSpec::default(), now.clone(), now, 0)),
            };
            return won(leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or_default();
        if holder == self.identity {
            let acquired = spec.acquire_time.clone().unwrap_or_else(|| now.clone());
            lease.spec = Some(self.spec(spec, acquired, now, transitions));
            return won(leases.replace(&self.name, &PostParams::default(), &lease).await);
        }
        let silent = match seen {
            Some((known, since)) if known.spec == lease.spec => clock.monotonic().saturating_sub(*since),
            _ => {
                *seen = Some((lease.clone(), clock.monotonic()));
                Duration::ZERO
            }
        };
        let length = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        if !holder.is_empty() && silent < Duration::from_secs(length) {
            return Ok(Outcome::Others);
        }
        lease.spec = Some(self.spec(spec, now.clone(), now, transitions + 1));
        won(leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// `old` with us as the holder; what others put there stays.
    fn spec(&self, old: LeaseSpec, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..old
        }
    }

    /// Gives the lease back, so that the next one need not wait.
    async fn release(&self, leases: &Api<Lease>) {
        match tokio::time::timeout(self.renew, self.give_back(leases)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(lease = %self.name, %error, "the lease was not given back"),
            Err(_) => tracing::info!(lease = %self.name, "the lease was not given back in time"),
        }
    }

    async fn give_back(&self, leases: &Api<Lease>) -> Result<(), kube::Error> {
        let Some(mut lease) = leases.get_opt(&self.name).await? else { return Ok(()) };
        if let Some(spec) = &mut lease.spec {
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
        }
        Ok(())
    }
}

/// How an attempt to take or renew a lease ended.
enum Outcome {
    /// It is ours, as of now.
    Held,
    /// Somebody else has it.
    Others,
    /// Somebody else wrote in between; who holds it is not known.
    Raced,
}

/// Somebody else's write in between is no failure.
fn won(result: Result<Lease, kube::Error>) -> Result<Outcome, kube::Error> {
    match result {
        Ok(_) => Ok(Outcome::Held),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Raced),
        Err(error) => Err(error),
    }
}
