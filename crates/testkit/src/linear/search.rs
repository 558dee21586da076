use std::collections::HashSet;

use super::{Answer, Ask, State};

/// One operation of one client. Times are of one steady clock.
#[derive(Debug, Clone)]
pub struct Operation {
    /// When it was asked.
    pub called: u64,
    /// When it was answered.
    pub returned: u64,
    /// What was asked.
    pub ask: Ask,
    /// What was answered.
    pub answer: Answer,
}

impl Operation {
    fn is_open(&self) -> bool {
        self.answer == Answer::Unknown
    }
}

/// Which operations have their place in the order already.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed(Vec<u64>);

impl Placed {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn with(&self, index: usize) -> Self {
        let mut more = self.clone();
        more.0[index / 64] |= 1 << (index % 64);
        more
    }
}

/// Looks for an order that explains the history of one object, which is not there at first.
///
/// # Errors
/// The operations of which none can come next, after the longest order that could be found.
pub fn check(history: &[Operation]) -> Result<(), Vec<Operation>> {
    let mut operations: Vec<&Operation> = history.iter().collect();
    operations.sort_by_key(|operation| operation.called);
    let closed = operations.iter().filter(|operation| !operation.is_open()).count();
    let start = (Placed(vec![0; operations.len().div_ceil(64)]), State::default(), 0);
    let (mut tried, mut stack) = (HashSet::new(), vec![start]);
    let mut longest = (0, Vec::new());
    while let Some((placed, state, done)) = stack.pop() {
        if done == closed {
            return Ok(());
        }
        if !tried.insert((placed.clone(), state.clone())) {
            continue;
        }
        let next = candidates(&operations, &placed);
        if longest.1.is_empty() || done > longest.0 {
            longest = (done, next.iter().map(|&index| operations[index].clone()).collect());
        }
        // The one that returns first is tried first: that is mostly the right one.
        let mut next = next;
        next.sort_by_key(|&index| std::cmp::Reverse(operations[index].returned));
        for index in next {
            let operation = operations[index];
            if let Some(state) = state.step(&operation.ask, &operation.answer) {
                stack.push((placed.with(index), state, done + usize::from(!operation.is_open())));
            }
        }
    }
    Err(longest.1)
}

/// What can come next: everything that was called before the first return of what has no place yet.
fn candidates(operations: &[&Operation], placed: &Placed) -> Vec<usize> {
    let mut first_return = u64::MAX;
    let mut found = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.called > first_return {
            break;
        }
        if placed.has(index) {
            continue;
        }
        found.push(index);
        if !operation.is_open() {
            first_return = first_return.min(operation.returned);
        }
    }
    found.retain(|&index| operations[index].called <= first_return);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(rows: &[(u64, u64, Ask, Answer)]) -> Vec<Operation> {
        rows.iter()
            .map(|(called, returned, ask, answer)| Operation {
                called: *called,
                returned: *returned,
                ask: ask.clone(),
                answer: answer.clone(),
            })
            .collect()
    }

    #[test]
    fn what_one_server_could_have_answered_is_accepted() {
        use Answer::{Absent, Changed, Exists, Holds, Removed, Unknown};
        use Ask::{Create, Delete, Patch, Read, Update};
        let good: [&[(u64, u64, Ask, Answer)]; 7] = [
            &[],
            &[(1, 2, Read, Absent), (3, 4, Create(1), Holds(1, 5)), (5, 6, Read, Holds(1, 5))],
            // A read beside a write may see either.
            &[(1, 9, Create(1), Holds(1, 5)), (2, 3, Read, Absent), (4, 5, Read, Holds(1, 5))],
            // Two with the same version: one wins, whichever was asked first.
            &[
                (1, 2, Create(1), Holds(1, 5)),
                (3, 8, Update(2, 5), Changed),
                (4, 7, Update(3, 5), Holds(3, 6)),
            ],
            &[
                (1, 2, Create(1), Holds(1, 5)),
                (3, 9, Patch(2), Holds(2, 7)),
                (4, 8, Patch(3), Holds(3, 6)),
                (10, 11, Read, Holds(2, 7)),
                (12, 13, Create(4), Exists),
                (14, 15, Delete, Removed),
                (16, 17, Patch(5), Absent),
            ],
            // What was never answered may have been done much later, or not at all.
            &[
                (1, 2, Create(1), Holds(1, 5)),
                (3, 4, Patch(2), Unknown),
                (5, 6, Read, Holds(1, 5)),
                (7, 8, Read, Holds(2, 6)),
            ],
            &[(1, 2, Create(1), Holds(1, 5)), (3, 4, Delete, Unknown), (5, 6, Read, Holds(1, 5))],
        ];
        for rows in good {
            assert!(check(&history(rows)).is_ok(), "{rows:?}");
        }
    }

    #[test]
    fn what_no_server_could_have_answered_is_refused() {
        use Answer::{Absent, Changed, Exists, Holds, Removed, Unknown};
        use Ask::{Create, Delete, Patch, Read, Update};
        let created = (1, 2, Create(1), Holds(1, 5));
        let bad: [&[(u64, u64, Ask, Answer)]; 9] = [
            // A stale read.
            &[created.clone(), (3, 4, Patch(2), Holds(2, 6)), (5, 6, Read, Holds(1, 5))],
            // A read of what nobody wrote.
            &[created.clone(), (3, 4, Read, Holds(7, 7))],
            // A lost update: both with the same version.
            &[created.clone(), (3, 6, Update(2, 5), Holds(2, 6)), (4, 7, Update(3, 5), Holds(3, 7))],
            // Two readers that disagree on the order.
            &[
                created.clone(),
                (3, 10, Patch(2), Holds(2, 6)),
                (3, 10, Patch(3), Holds(3, 7)),
                (11, 12, Read, Holds(2, 6)),
            ],
            // A revision that goes back.
            &[created.clone(), (3, 4, Patch(2), Holds(2, 4))],
            // Refused without a reason.
            &[created.clone(), (3, 4, Update(2, 5), Changed)],
            &[(1, 2, Create(1), Exists)],
            &[created.clone(), (3, 4, Delete, Removed), (5, 6, Delete, Removed)],
            // What was asked later cannot have been seen before.
            &[created, (3, 4, Read, Absent), (5, 6, Delete, Unknown)],
        ];
        for rows in bad {
            assert!(check(&history(rows)).is_err(), "{rows:?}");
        }
    }

    #[test]
    fn a_long_history_of_many_at_once_is_decided_soon() {
        let mut rows = vec![(0, 1, Ask::Create(0), Answer::Holds(0, 1))];
        for round in 0..150u64 {
            let start = 2 + round * 10;
            for writer in 0..5 {
                let value = round * 5 + writer + 1;
                rows.push((start + writer, start + 9, Ask::Patch(value), Answer::Holds(value, value + 1)));
            }
        }
        assert!(check(&history(&rows)).is_ok());
        rows.push((10_000, 10_001, Ask::Read, Answer::Holds(3, 4)));
        assert!(check(&history(&rows)).is_err());
    }
}
