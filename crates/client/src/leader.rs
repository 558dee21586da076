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

    /// Waits to be the leader, works, and ends when the lease is lost or the shutdown comes. Returns whether it
    /// ever led.
    pub async fn run<W: Future<Output = ()>>(
        &self,
        client: kube::Client,
        clock: SharedClock,
        shutdown: Shutdown,
        work: impl FnOnce() -> W,
    ) -> bool {
        let leases: Api<Lease> = Api::namespaced(client, &self.namespace);
        let mut seen = None;
        loop {
            match self.attempt(&leases, &clock, &mut seen).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = %self.name, %error, "the election could not be held"),
            }
            tokio::select! {
                () = shutdown.wait() => return false,
                () = tokio::time::sleep(self.renew) => {}
            }
        }
        tracing::info!(lease = %self.name, identity = %self.identity, "became leader");
        tokio::select! {
            () = work() => {}
            () = self.keep(&leases, &clock) => tracing::error!(lease = %self.name, "lost the lease"),
            () = shutdown.wait() => self.release(&leases).await,
        }
        true
    }

    /// Renews until that fails for as long as the lease lasts.
    async fn keep(&self, leases: &Api<Lease>, clock: &SharedClock) {
        let mut renewed = clock.monotonic();
        let mut seen = None;
        loop {
            tokio::time::sleep(self.renew).await;
            match self.attempt(leases, clock, &mut seen).await {
                Ok(true) => renewed = clock.monotonic(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(lease = %self.name, %error, "the lease could not be renewed");
                    if clock.monotonic().saturating_sub(renewed) > self.lease {
                        return;
                    }
                }
            }
        }
    }

    /// Takes or renews the lease. `seen` is the last state of another's lease and when it was first seen: clocks of
    /// different machines are never compared.
    async fn attempt(
        &self,
        leases: &Api<Lease>,
        clock: &SharedClock,
        seen: &mut Option<(Lease, Duration)>,
    ) -> Result<bool, kube::Error> {
        let now = MicroTime(clock.now());
        let Some(mut lease) = leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(now.clone(), now, 0)),
            };
            return won(leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or_default();
        if holder == self.identity {
            let acquired = spec.acquire_time.unwrap_or_else(|| now.clone());
            lease.spec = Some(self.spec(acquired, now, transitions));
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
            return Ok(false);
        }
        lease.spec = Some(self.spec(now.clone(), now, transitions + 1));
        won(leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, acquired: MicroTime, renewed: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(renewed),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the lease back, so that the next one need not wait.
    async fn release(&self, leases: &Api<Lease>) {
        let Ok(Some(mut lease)) = leases.get_opt(&self.name).await else { return };
        if let Some(spec) = &mut lease.spec {
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                let released = leases.replace(&self.name, &PostParams::default(), &lease).await;
                if let Err(error) = released {
                    tracing::info!(lease = %self.name, %error, "the lease was not given back");
                }
            }
        }
    }
}

/// Somebody else's write in between is a loss, not a failure.
fn won(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
