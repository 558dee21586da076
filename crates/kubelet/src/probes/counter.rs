//! Turns answers into verdicts by thresholds. Pure.

/// What follows from the answers so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    Unhealthy,
}

/// Counts equal answers in a row.
#[derive(Debug)]
pub struct Counter {
    successes: u64,
    failures: u64,
    last: Option<bool>,
    row: u64,
    verdict: Option<Verdict>,
}

impl Counter {
    /// With the thresholds of success and failure.
    pub fn new(successes: u64, failures: u64) -> Self {
        Self { successes, failures, last: None, row: 0, verdict: None }
    }

    /// Counts an answer. A verdict, if it is a new one.
    pub fn count(&mut self, success: bool) -> Option<Verdict> {
        self.row = if self.last == Some(success) { self.row + 1 } else { 1 };
        self.last = Some(success);
        let (threshold, verdict) = match success {
            true => (self.successes, Verdict::Healthy),
            false => (self.failures, Verdict::Unhealthy),
        };
        if self.row < threshold || self.verdict == Some(verdict) {
            return None;
        }
        self.verdict = Some(verdict);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_come_at_thresholds_and_only_when_they_change() {
        let mut counter = Counter::new(2, 3);
        let answers = [true, true, true, false, false, true, false, false, false, false, true, true];
        let verdicts: Vec<_> = answers.into_iter().map(|answer| counter.count(answer)).collect();
        let (up, down) = (Some(Verdict::Healthy), Some(Verdict::Unhealthy));
        assert_eq!(verdicts, [None, up, None, None, None, None, None, None, down, None, None, up]);
    }
}
