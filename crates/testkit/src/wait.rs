//! Waiting for what comes true by itself.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again and again until `ask` gives something.
///
/// # Panics
/// When it did not within [`DEADLINE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same for a condition.
///
/// # Panics
/// When it did not come true within [`DEADLINE`].
pub async fn until_true<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    until(what, || {
        let asked = ask();
        async move { asked.await.then_some(()) }
    })
    .await;
}
