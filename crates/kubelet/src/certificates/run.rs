//! Renews one certificate, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth::pki::{CertKey, Holder, PkiError, holder};
use base::{Backoff, SharedClock, SharedRandom};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::plan::renew_at;
use super::{FileError, Files, RequestError, Wanted, request};

/// How long an answer is waited for before a new request is made, as upstream.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The wall clock is looked at so often: it may be set, and a machine that sleeps does not count the time.
const LOOK: Duration = Duration::from_secs(3600);
/// Pauses after a failure, as upstream's.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(32));
/// Into how many parts the jitter is divided.
const GRAINS: u64 = 1 << 20;

/// What is done with a new certificate.
pub type Use = Box<dyn Fn(&CertKey) -> Result<(), String> + Send + Sync>;

/// One certificate and its renewals.
pub struct Renewal {
    /// What it says.
    pub wanted: Wanted,
    /// Where it is kept.
    pub files: Files,
    /// Who asks while the certificate is valid.
    pub own: kube::Client,
    /// Who asks while it is not.
    pub first: kube::Client,
    /// What is done with a new one.
    pub uses: Use,
    /// Whether it is renewed. Otherwise it is asked for once.
    pub goes_on: bool,
    /// Whether the one that is held serves only to ask for the first of its own.
    pub at_once: bool,
    /// The time.
    pub clock: SharedClock,
    /// Randomness.
    pub random: SharedRandom,
    /// What the metrics tell.
    pub measure: Arc<Measure>,
}

/// What is told of a certificate's renewals.
#[derive(Debug, Default)]
pub struct Measure {
    /// When the certificate ends.
    pub not_after: Mutex<Option<Timestamp>>,
    /// How often a renewal failed.
    pub failures: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the new certificate cannot be kept: {0}")]
    Keep(#[from] FileError),
    #[error("the new certificate cannot be read: {0}")]
    Read(#[from] PkiError),
    #[error("the new certificate cannot be used: {0}")]
    Use(String),
}

impl Renewal {
    /// Renews the certificate before it ends. `held` is the one that is used already; without one, one is asked for
    /// at once.
    pub async fn run(self, held: Option<Holder>) {
        let mut held = held;
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut at_once = self.at_once;
        loop {
            *self.measure.not_after.lock() = held.as_ref().map(|held| held.not_after);
            let at_once = std::mem::take(&mut at_once);
            if let Some(held) = held.as_ref().filter(|_| !at_once) {
                if !self.goes_on {
                    return;
                }
                self.wait(held).await;
            }
            held = Some(self.renewed(held.as_ref(), &mut backoff).await);
        }
    }

    /// Until it is time for the next one.
    async fn wait(&self, held: &Holder) {
        let share = self.random.below(GRAINS) as f64 / GRAINS as f64;
        let Some(at) = renew_at(held, &self.wanted, share) else { return };
        loop {
            let left = at.duration_since(self.clock.now());
            if !left.is_positive() {
                return;
            }
            tokio::time::sleep(left.unsigned_abs().min(LOOK)).await;
        }
    }

    /// The next one, however long that takes.
    async fn renewed(&self, held: Option<&Holder>, backoff: &mut Backoff) -> Holder {
        loop {
            match self.renew(held).await {
                Ok(new) if self.wanted.is_met_by(&new) => {
                    tracing::info!(signer = self.wanted.signer, until = %new.not_after, "a new certificate is used");
                    backoff.reset();
                    return new;
                }
                Ok(new) => {
                    // The next one may be better, and must not be asked for all the time.
                    tracing::warn!(signer = self.wanted.signer, asked = ?self.wanted, given = ?new, "the cluster signed something else than it was asked for");
                    tokio::time::sleep(backoff.next_jittered(self.random.as_ref())).await;
                    return new;
                }
                Err(error) => {
                    self.measure.failures.fetch_add(1, Ordering::Relaxed);
                    let until = held.map(|held| held.not_after.to_string()).unwrap_or_default();
                    tracing::error!(%error, until, "the node's certificate is not renewed yet");
                    tokio::time::sleep(backoff.next_jittered(self.random.as_ref())).await;
                }
            }
        }
    }

    async fn renew(&self, held: Option<&Holder>) -> Result<Holder, Failure> {
        let is_valid = held.is_some_and(|held| self.clock.now() < held.not_after);
        let client = if is_valid { &self.own } else { &self.first };
        let cert = request(client, &self.wanted, PATIENCE).await?;
        let new = holder(&cert.cert_pem)?;
        self.files.save(&cert, self.clock.now())?;
        (self.uses)(&cert).map_err(Failure::Use)?;
        Ok(new)
    }
}

#[cfg(test)]
mod tests;
