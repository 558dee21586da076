//! How much is left, and how evenly processor and memory are used.

use crate::plan::Candidate;
use crate::snapshot::{NodeInfo, weight_of_new};

const RESOURCES: [&str; 2] = ["cpu", "memory"];

fn allocatable(info: &NodeInfo) -> [i64; 2] {
    RESOURCES.map(|resource| info.allocatable.get(resource).copied().unwrap_or_default())
}

/// The more there is left, the better (`LeastAllocated`).
pub(super) fn least_allocated(candidate: &Candidate<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let needed = weight_of_new(candidate.pod, &candidate.needs);
    let of = |info: &&NodeInfo| {
        let (mut sum, mut count) = (0, 0);
        for ((has, used), needed) in allocatable(info).into_iter().zip(info.weight).zip(needed) {
            if has == 0 {
                continue;
            }
            let left = has - used - needed;
            sum += if left < 0 { 0 } else { left.saturating_mul(100) / has };
            count += 1;
        }
        if count == 0 { 0 } else { sum / count }
    };
    nodes.iter().map(of).collect()
}

/// The more evenly resources are used with the pod than without it, the better (`BalancedAllocation`). A pod that asks
/// for nothing changes nothing.
pub(super) fn balanced(candidate: &Candidate<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
    let needed = RESOURCES.map(|resource| candidate.needs.get(resource).copied().unwrap_or_default());
    if needed == [0, 0] {
        return Vec::new();
    }
    let of = |info: &&NodeInfo| {
        let has = allocatable(info);
        let used = RESOURCES.map(|resource| info.used.get(resource).copied().unwrap_or_default());
        let with = [0, 1].map(|at: usize| {
            let sum = |of: &[i64; 2]| of.get(at).copied().unwrap_or_default();
            sum(&used) + sum(&needed)
        });
        50 + (50 + evenness(with, has) - evenness(used, has)) / 2
    };
    nodes.iter().map(of).collect()
}

/// 100 where processor and memory are used to the same part, 50 where one is used up and the other free.
fn evenness(used: [i64; 2], has: [i64; 2]) -> i64 {
    let part = |used: i64, has: i64| (used as f64 / has as f64).min(1.0);
    match (used, has) {
        (_, [0, _] | [_, 0]) => 100,
        ([one, other], [all, whole]) => {
            let apart = ((part(one, all) - part(other, whole)) / 2.0).abs();
            ((1.0 - apart) * 100.0) as i64
        }
    }
}
