//! What many ask for at the same moment, asked once: the files of a hundred pods that start together come from the same
//! few objects.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Whoever asks while a request is under way is answered by the next one, together with all who ask by then: an answer
/// is never older than its question. Nothing is kept that nobody waits for.
pub struct Together<K: Eq + Hash, V> {
    questions: Mutex<HashMap<K, Arc<Question<V>>>>,
}

struct Question<V> {
    /// How often it was asked.
    asked: AtomicU64,
    /// How often it had been asked when the last request began, and what that one brought.
    last: tokio::sync::Mutex<Option<(u64, V)>>,
}

impl<K: Eq + Hash, V> Default for Together<K, V> {
    fn default() -> Self {
        Self { questions: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Together<K, V> {
    /// The answer to a question, by a request of its own or of somebody who asked at the same time.
    pub async fn ask<F: Future<Output = V>>(&self, key: K, request: impl FnOnce() -> F) -> V {
        let waiting = self.wait(key);
        let question = &waiting.question;
        let own = question.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = question.last.lock().await;
        if let Some((_, answer)) = last.as_ref().filter(|(asked, _)| own < *asked) {
            return answer.clone();
        }
        let asked = question.asked.load(Ordering::SeqCst);
        let answer = request().await;
        *last = Some((asked, answer.clone()));
        answer
    }

    fn wait(&self, key: K) -> Waiting<'_, K, V> {
        let new = || Arc::new(Question { asked: AtomicU64::new(0), last: tokio::sync::Mutex::new(None) });
        let question = self.questions.lock().entry(key.clone()).or_insert_with(new).clone();
        Waiting { all: self, key, question }
    }
}

/// Somebody who waits for an answer, or gave up.
struct Waiting<'a, K: Eq + Hash, V> {
    all: &'a Together<K, V>,
    key: K,
    question: Arc<Question<V>>,
}

impl<K: Eq + Hash, V> Drop for Waiting<'_, K, V> {
    fn drop(&mut self) {
        let mut questions = self.all.questions.lock();
        // The table's and our own.
        if Arc::strong_count(&self.question) == 2 {
            questions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_at_the_same_time_shares_a_request_that_began_later() {
        let (together, requests) = (Arc::new(Together::default()), Arc::new(AtomicUsize::new(0)));
        let ask = |key: &'static str| {
            let (together, requests) = (together.clone(), requests.clone());
            async move {
                let request = || async move {
                    let number = requests.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    number
                };
                together.ask(key, request).await
            }
        };
        let first = tokio::spawn(ask("a"));
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..10).map(|_| tokio::spawn(ask("a"))).collect();
        tokio::task::yield_now().await;
        // Who gives up is missed by nobody.
        others[0].abort();
        assert_eq!(ask("b").await, 1, "another question has another answer");
        assert_eq!(first.await.unwrap(), 0);
        for other in others.into_iter().skip(1) {
            assert_eq!(other.await.unwrap(), 2, "the first request may have seen what was there before");
        }
        assert!(together.questions.lock().is_empty(), "nothing is kept");
        assert_eq!(ask("a").await, 3);
    }
}
