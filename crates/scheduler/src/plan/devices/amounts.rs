//! Amounts that devices share: capacity that several claims take parts of, and counters that partitions of one device
//! have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, Device, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use schema::quantity::{Format, Quantity};

use super::Allocated;
use super::pools::{Counters, Pool, devices};

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the API server has accepted can be read.
pub fn read(text: &Text) -> Quantity {
    text.0.parse().unwrap_or_default()
}

/// Adds to an amount.
pub fn add(all: &mut Amounts, name: &str, more: &Quantity) {
    let sum = all.get(name).map_or_else(|| more.clone(), |known| known.add(more));
    all.insert(name.to_owned(), sum);
}

/// Takes from amounts.
pub fn subtract(all: &mut Amounts, less: &Amounts) {
    for (name, amount) in less {
        add(all, name, &amount.neg());
    }
}

/// What a request takes of a capacity: what it asks for, as the policy rounds it up.
fn taken(asked: Option<&Text>, capacity: &DeviceCapacity) -> Quantity {
    let policy = capacity.request_policy.as_ref();
    let Some(asked) = asked.map(read) else {
        let default = policy.and_then(|policy| policy.default.as_ref());
        return read(default.unwrap_or(&capacity.value));
    };
    let Some(policy) = policy else { return asked };
    if let Some(range) = &policy.valid_range {
        let min = read(&range.min);
        if asked < min {
            return min;
        }
        let Some(step) = range.step.as_ref().map(|step| read(step).value()).filter(|step| *step > 0) else {
            return asked;
        };
        let steps = (asked.value() - min.value()).unsigned_abs().div_ceil(step.unsigned_abs());
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        return Quantity::from_int(min.value().saturating_add(steps.saturating_mul(step)), Format::BinarySi);
    }
    let values = policy.valid_values.iter().flatten().map(read);
    values.into_iter().find(|value| asked <= *value).unwrap_or(asked)
}

fn breaks(taken: &Quantity, policy: Option<&CapacityRequestPolicy>) -> bool {
    let Some(policy) = policy else { return false };
    if policy.default.as_ref().is_some_and(|default| read(default) == *taken) {
        return false;
    }
    if let Some(range) = &policy.valid_range {
        let step = range.step.as_ref().map(|step| read(step).value()).filter(|step| *step > 0);
        return range.max.as_ref().is_some_and(|max| *taken > read(max))
            || step.is_some_and(|step| (taken.value() - read(&range.min).value()) % step != 0);
    }
    let values = policy.valid_values.as_deref().unwrap_or_default();
    !values.is_empty() && !values.iter().any(|value| read(value) == *taken)
}

/// What a request takes of a device's capacity; `None` when the device cannot give so much beside `before`.
pub fn consumed(
    asked: Option<&BTreeMap<String, Text>>,
    device: &Device,
    before: &[Option<&Amounts>],
) -> Option<Amounts> {
    let capacity = device.capacity.as_ref();
    let has = |name: &String| capacity.is_some_and(|capacity| capacity.contains_key(name));
    if !asked.into_iter().flatten().all(|(name, _)| has(name)) {
        return None;
    }
    let mut all = Amounts::new();
    for (name, capacity) in capacity.into_iter().flatten() {
        let taken = taken(asked.and_then(|asked| asked.get(name)), capacity);
        if breaks(&taken, capacity.request_policy.as_ref()) {
            return None;
        }
        let others = before.iter().flatten().filter_map(|amounts| amounts.get(name));
        if others.fold(taken.clone(), |sum, other| sum.add(other)) > read(&capacity.value) {
            return None;
        }
        all.insert(name.clone(), taken);
    }
    Some(all)
}

/// What is left of a pool's counters beside devices that are somebody's.
pub fn left(pool: &Pool, allocated: &Allocated) -> Counters {
    let mut left = pool.counters.clone();
    for device in pool.slices.iter().chain(&pool.others).flat_map(|slice| devices(slice)) {
        let id = (pool.driver.clone(), pool.name.clone(), device.name.clone());
        if allocated.devices.contains(&id) || allocated.shared.contains(&id) {
            consume(&mut left, device, -1);
        }
    }
    left
}

/// Adds what a device uses of counters, or takes it away.
pub fn consume(counters: &mut Counters, device: &Device, sign: i32) {
    for consumption in device.consumes_counters.iter().flatten() {
        let set = counters.entry(consumption.counter_set.clone()).or_default();
        for (name, counter) in &consumption.counters {
            let amount = read(&counter.value);
            add(set, name, &if sign < 0 { amount.neg() } else { amount });
        }
    }
}

/// Whether as much is left as is used.
pub fn suffices(left: &Counters, used: &Counters) -> bool {
    left.iter().all(|(set, left)| {
        let used = used.get(set);
        let zero = Quantity::default();
        left.iter().all(|(name, left)| *left >= *used.and_then(|used| used.get(name)).unwrap_or(&zero))
    })
}
