//! Lists, and lists as sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Answer, length};
use crate::EvalError;
use crate::value::Value;

/// No list that a function makes is longer.
const MOST: i64 = 1_000_000;

fn list(all: Vec<Value>) -> Value {
    Value::List(Arc::new(all))
}

/// Calls a function of these; `None` for others.
pub fn call(name: &str, args: &[Value]) -> Option<Answer> {
    use Value::{Bool, Int, List};
    Some(match (name, args) {
        ("lists.range", [Int(number)]) if *number > MOST => {
            Err(EvalError::Argument(format!("lists.range() size exceeds {MOST}")))
        }
        ("lists.range", [Int(number)]) => Ok(list((0..*number).map(Int).collect())),
        ("sets.contains", [List(all), List(some)]) => Ok(Bool(holds(all, some))),
        ("sets.equivalent", [List(a), List(b)]) => Ok(Bool(holds(a, b) && holds(b, a))),
        ("sets.intersects", [List(a), List(b)]) => Ok(Bool(a.iter().any(|one| has(b, one)))),
        (_, [List(all), rest @ ..]) => return of_list(name, all, rest),
        _ => return None,
    })
}

fn has(all: &[Value], one: &Value) -> bool {
    all.iter().any(|known| known.equals(one))
}

fn holds(all: &[Value], some: &[Value]) -> bool {
    some.iter().all(|one| has(all, one))
}

fn of_list(name: &str, all: &[Value], args: &[Value]) -> Option<Answer> {
    use Value::{Bool, Int};
    let place = |found: Option<usize>| Ok(found.map_or(Int(-1), length));
    Some(match (name, args) {
        ("isSorted", []) => is_sorted(all).map(Bool),
        ("sum", []) => sum(all),
        ("min", []) => extreme(all, Ordering::Less, "min"),
        ("max", []) => extreme(all, Ordering::Greater, "max"),
        ("indexOf", [one]) => place(all.iter().position(|known| known.equals(one))),
        ("lastIndexOf", [one]) => place(all.iter().rposition(|known| known.equals(one))),
        ("slice", [Int(from), Int(to)]) => slice(all, *from, *to),
        ("flatten", []) => flatten(all, 1).map(list),
        ("flatten", [Int(depth)]) => flatten(all, *depth).map(list),
        ("distinct", []) => {
            let mut seen: Vec<Value> = Vec::new();
            for one in all {
                if !has(&seen, one) {
                    seen.push(one.clone());
                }
            }
            Ok(list(seen))
        }
        ("reverse", []) => Ok(list(all.iter().rev().cloned().collect())),
        ("sort", []) => sorted(all).map(list),
        _ => return None,
    })
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, EvalError> {
    a.order(b).ok_or(EvalError::Overload)
}

fn is_sorted(all: &[Value]) -> Result<bool, EvalError> {
    for pair in all.windows(2) {
        if let [a, b] = pair
            && compare(a, b)? == Ordering::Greater
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of an empty list it is the zero of its type, which nobody knows any more: an integer does.
fn sum(all: &[Value]) -> Answer {
    let mut rest = all.iter();
    let Some(first) = rest.next() else { return Ok(Value::Int(0)) };
    rest.try_fold(first.clone(), |sum, one| crate::eval::operator("_+_", &[sum, one.clone()]))
}

fn extreme(all: &[Value], wanted: Ordering, name: &str) -> Answer {
    let mut rest = all.iter();
    let Some(first) = rest.next() else {
        return Err(EvalError::Argument(format!("{name} called on empty list")));
    };
    rest.try_fold(first, |best, one| Ok(if compare(one, best)? == wanted { one } else { best })).cloned()
}

fn slice(all: &[Value], from: i64, to: i64) -> Answer {
    let bad = |why: &str| EvalError::Argument(format!("cannot slice({from}, {to}), {why}"));
    if from < 0 || to < 0 {
        return Err(bad("negative indexes not supported"));
    }
    if from > to {
        return Err(bad("start index must be less than or equal to end index"));
    }
    let place = |at: i64| usize::try_from(at).unwrap_or(usize::MAX);
    let found = all.get(place(from)..place(to));
    found.map(|found| list(found.to_vec())).ok_or_else(|| bad(&format!("list is length {}", all.len())))
}

fn flatten(all: &[Value], depth: i64) -> Result<Vec<Value>, EvalError> {
    if depth < 0 {
        return Err(EvalError::Argument("level must be non-negative".to_owned()));
    }
    let mut flat = Vec::new();
    for one in all {
        match one {
            Value::List(inner) if depth > 0 => flat.extend(flatten(inner, depth - 1)?),
            other => flat.push(other.clone()),
        }
    }
    Ok(flat)
}

fn sorted(all: &[Value]) -> Result<Vec<Value>, EvalError> {
    let comparable = |value: &Value| {
        use Value::{Bool, Bytes, Double, Duration, Int, Text, Time, Uint};
        matches!(value, Int(_) | Uint(_) | Double(_) | Bool(_) | Duration(_) | Time(_) | Text(_) | Bytes(_))
    };
    let Some(first) = all.first() else { return Ok(Vec::new()) };
    if !comparable(first) {
        return Err(EvalError::Argument("list elements must be comparable".to_owned()));
    }
    if !all.iter().all(|one| std::mem::discriminant(one) == std::mem::discriminant(first)) {
        return Err(EvalError::Argument("list elements must have the same type".to_owned()));
    }
    let mut sorted = all.to_vec();
    sorted.sort_by(|a, b| a.order(b).unwrap_or(Ordering::Equal));
    Ok(sorted)
}
