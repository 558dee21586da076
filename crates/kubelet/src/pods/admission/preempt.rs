//! Whom a critical pod replaces (`pkg/kubelet/preemption`): as few as can be, of best effort before burstable before
//! guaranteed, and of those that would do the ones that ask for least.

use std::cmp::Ordering;

use super::Demand;
use super::fit::Short;

/// A pod that could go.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub uid: String,
    /// `BestEffort`, `Burstable` or `Guaranteed`.
    pub qos: &'static str,
    pub demand: Demand,
}

/// Of a resource so much has to be freed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    resource: String,
    amount: i64,
}

/// The uids of those that have to go for `short` to be freed.
///
/// # Errors
/// Upstream's words for what nobody can free.
pub fn choose(candidates: &[Candidate], short: &[Short]) -> Result<Vec<String>, String> {
    let needs: Vec<Need> =
        short.iter().map(|s| Need { resource: s.resource.clone(), amount: s.missing() }).collect();
    let of = |qos: &str| candidates.iter().filter(|one| one.qos == qos).collect::<Vec<&Candidate>>();
    let (best_effort, burstable, guaranteed) = (of("BestEffort"), of("Burstable"), of("Guaranteed"));
    let lower = [best_effort.clone(), burstable.clone()].concat();
    // Each class gives only what those below it cannot.
    let guaranteed = fewest(guaranteed, without(&needs, &lower))?;
    let burstable = fewest(burstable, without(&needs, &[best_effort.clone(), guaranteed.clone()].concat()))?;
    let best_effort =
        fewest(best_effort, without(&needs, &[burstable.clone(), guaranteed.clone()].concat()))?;
    let all = best_effort.into_iter().chain(burstable).chain(guaranteed);
    Ok(all.map(|one| one.uid.clone()).collect())
}

/// What is still needed when these are gone.
fn without(needs: &[Need], gone: &[&Candidate]) -> Vec<Need> {
    let left = needs.iter().map(|need| {
        let freed: i64 = gone.iter().map(|one| one.demand.of(&need.resource)).sum();
        Need { resource: need.resource.clone(), amount: need.amount - freed }
    });
    left.filter(|need| need.amount > 0).collect()
}

fn fewest(mut from: Vec<&Candidate>, mut needs: Vec<Need>) -> Result<Vec<&Candidate>, String> {
    let mut chosen = Vec::new();
    while !needs.is_empty() {
        let order = |a: &&Candidate, b: &&Candidate| {
            distance(&needs, a).partial_cmp(&distance(&needs, b)).unwrap_or(Ordering::Equal).then_with(|| {
                let asks = |one: &Candidate| (one.demand.of("memory"), one.demand.of("cpu"));
                asks(a).cmp(&asks(b))
            })
        };
        let best = from.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b)).map(|(index, _)| index);
        let Some(index) = best else {
            let told: String =
                needs.iter().map(|need| format!("(res: {}, q: {}), ", need.resource, need.amount)).collect();
            return Err(format!("no set of running pods found to reclaim resources: [{told}]"));
        };
        let one = from.swap_remove(index);
        needs = without(&needs, &[one]);
        chosen.push(one);
    }
    Ok(chosen)
}

/// How far a pod is from freeing all that is needed; every resource weighs the same.
fn distance(needs: &[Need], one: &Candidate) -> f64 {
    let parts = needs.iter().map(|need| {
        let left = (need.amount - one.demand.of(&need.resource)).max(0);
        (left as f64 / need.amount as f64).powi(2)
    });
    parts.sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pod(uid: &str, qos: &'static str, cpu: i64, memory: i64) -> Candidate {
        let amounts = [("cpu", cpu), ("memory", memory), ("pods", 1)];
        let amounts: BTreeMap<String, i64> = amounts.map(|(name, amount)| (name.to_owned(), amount)).into();
        Candidate { uid: uid.to_owned(), qos, demand: Demand { amounts, ..Demand::default() } }
    }

    fn short(list: &[(&str, i64)]) -> Vec<Short> {
        let of = |(resource, missing): &(&str, i64)| Short {
            resource: (*resource).to_owned(),
            requested: *missing,
            used: 10,
            capacity: 10,
        };
        list.iter().map(of).collect()
    }

    /// The pods of upstream's own test (`preemption_test.go`).
    fn pods() -> Vec<Candidate> {
        vec![
            pod("best-effort", "BestEffort", 0, 0),
            pod("burstable", "Burstable", 100, 100),
            pod("high-burstable", "Burstable", 300, 300),
            pod("guaranteed", "Guaranteed", 100, 100),
            pod("high-guaranteed", "Guaranteed", 300, 300),
        ]
    }

    #[test]
    fn as_few_and_as_small_as_can_be_go() {
        for (needs, wanted) in [
            (&[("pods", 1)][..], &["best-effort"][..]),
            (&[("cpu", 50)], &["burstable"]),
            (&[("cpu", 250), ("memory", 250)], &["high-burstable"]),
            (&[("cpu", 400)], &["high-burstable", "burstable"]),
            (&[("cpu", 500)], &["high-burstable", "burstable", "guaranteed"]),
            (&[("memory", 450), ("pods", 3)], &["high-burstable", "burstable", "guaranteed"]),
        ] {
            let mut chosen = choose(&pods(), &short(needs)).unwrap();
            let mut wanted: Vec<String> = wanted.iter().map(|uid| (*uid).to_owned()).collect();
            chosen.sort();
            wanted.sort();
            assert_eq!(chosen, wanted, "{needs:?}");
        }
    }

    #[test]
    fn what_nobody_can_free_is_told() {
        assert_eq!(
            choose(&pods()[..2], &short(&[("cpu", 250)])),
            Err("no set of running pods found to reclaim resources: [(res: cpu, q: 150), ]".to_owned())
        );
        assert!(choose(&[], &short(&[("pods", 1)])).is_err());
    }
}
