//! Whether the API server can be reached: one line when it cannot any more, and one when it can again, however many
//! requests fail between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The same client, which tells when its server is lost and found.
pub fn watched(client: kube::Client) -> kube::Client {
    let lost = Arc::<AtomicBool>::default();
    crate::around(client, move |client, request| {
        let lost = lost.clone();
        async move {
            let answer = client.send(request).await;
            // Whatever it answers, it is there.
            match (turned(&lost, answer.is_err()), &answer) {
                (Some(true), Err(error)) => {
                    tracing::warn!(error = %told(error), "the API server cannot be reached; trying again");
                }
                (Some(false), _) => tracing::info!("the API server can be reached again"),
                _ => {}
            }
            answer
        }
    })
}

/// What is to be told after a request: the server was lost or found. Pure but for what it remembers.
fn turned(lost: &AtomicBool, failed: bool) -> Option<bool> {
    (lost.swap(failed, Ordering::AcqRel) != failed).then_some(failed)
}

/// An error with its causes, each once.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let lost = AtomicBool::new(false);
        let told: Vec<_> =
            [false, true, true, true, false, false, true].map(|failed| turned(&lost, failed)).into();
        assert_eq!(told, [None, Some(true), None, None, Some(false), None, Some(true)]);
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the request failed")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("connection refused"));
        assert_eq!(super::told(&error), "the request failed: connection refused");
    }
}
