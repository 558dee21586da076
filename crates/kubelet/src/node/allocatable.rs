//! What a node has, and what of it pods can be given: less what the system and Kubernetes are said to need, and less
//! what must be left for nobody to be evicted at once. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeStatus;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use schema::quantity::{Format, Quantity};

use crate::configuration::Fields;
use crate::devices::is_extended;
use crate::eviction::{Settings, Signal};
use crate::machine::Machine;

/// Amounts of resources: the processor in thousandths, everything else in units.
pub type Amounts = BTreeMap<String, i64>;

fn number(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// What the node has; `disk` is of its root directory's file system, in bytes.
pub fn capacity(machine: &Machine, pods: u32, disk: u64) -> Amounts {
    let mut amounts = BTreeMap::from([
        ("cpu".to_owned(), number(machine.cpu_millis)),
        ("memory".to_owned(), number(machine.memory)),
        ("pods".to_owned(), i64::from(pods)),
        ("ephemeral-storage".to_owned(), number(disk)),
    ]);
    for (size, bytes) in &machine.huge_pages {
        amounts.insert(format!("hugepages-{size}"), number(*bytes));
    }
    amounts
}

/// The most pods: `podsPerCore` may say fewer than `maxPods`.
pub fn pods(machine: &Machine, most: u32, per_core: i32) -> u32 {
    match u32::try_from(per_core) {
        Ok(per_core) if per_core > 0 => {
            let cores = u32::try_from(machine.cpu_millis / 1000).unwrap_or(u32::MAX);
            most.min(cores.saturating_mul(per_core))
        }
        _ => most,
    }
}

/// What system and Kubernetes keep, and what must be left over for nobody to be evicted.
///
/// # Errors
/// Names a reservation that is no quantity.
pub fn reserved(capacity: &Amounts, fields: &Fields, eviction: &Settings) -> Result<Amounts, String> {
    let mut all = Amounts::new();
    for (list, reserved) in
        [("systemReserved", &fields.system_reserved), ("kubeReserved", &fields.kube_reserved)]
    {
        for (name, text) in reserved {
            let quantity: Quantity =
                text.parse().map_err(|_| format!("{list}: {name}: {text:?} is no quantity"))?;
            let amount = if name == "cpu" { quantity.milli() } else { quantity.value() };
            *all.entry(name.clone()).or_default() += amount;
        }
    }
    let hard = eviction.thresholds.iter().filter(|threshold| threshold.grace.is_none());
    for threshold in hard {
        let name = match threshold.signal {
            Signal::Memory => "memory",
            Signal::NodeDisk => "ephemeral-storage",
            _ => continue,
        };
        let amount = threshold.least.of(capacity.get(name).copied().unwrap_or(0));
        *all.entry(name.to_owned()).or_default() += amount;
    }
    Ok(all)
}

/// What all pods together may use of processors and memory: they may come near to where somebody is evicted. Huge pages are
/// taken off what the scheduler may give, and not off what the kernel allows.
///
/// # Errors
/// Names a reservation that is no quantity.
pub fn together(machine: &Machine, fields: &Fields) -> Result<Amounts, String> {
    let mut capacity = capacity(machine, 0, 0);
    capacity.retain(|name, _| matches!(name.as_str(), "cpu" | "memory"));
    allocatable(&capacity, fields, &Settings { thresholds: Vec::new(), ..Settings::default() })
}

/// What pods can be given. What is reserved beyond what there is leaves nothing.
///
/// # Errors
/// Names a reservation that is no quantity.
pub fn allocatable(capacity: &Amounts, fields: &Fields, eviction: &Settings) -> Result<Amounts, String> {
    let mut left = capacity.clone();
    for (name, amount) in reserved(capacity, fields, eviction)? {
        if let Some(left) = left.get_mut(&name) {
            *left = left.saturating_sub(amount).max(0);
        }
    }
    // What huge pages hold is no memory for anything else.
    let huge: i64 =
        capacity.iter().filter(|(name, _)| name.starts_with("hugepages-")).map(|(_, bytes)| bytes).sum();
    if let Some(memory) = left.get_mut("memory") {
        *memory = memory.saturating_sub(huge).max(0);
    }
    Ok(left)
}

/// As the node's object says it.
pub fn written(amounts: &Amounts) -> BTreeMap<String, Text> {
    let text = |(name, amount): (&String, &i64)| {
        let text = match name.as_str() {
            "cpu" if amount % 1000 == 0 => (amount / 1000).to_string(),
            "cpu" => format!("{amount}m"),
            "pods" => amount.to_string(),
            _ => binary(*amount),
        };
        (name.clone(), Text(text))
    };
    amounts.iter().map(text).collect()
}

fn decimal(count: i64) -> String {
    Quantity::from_int(count, Format::DecimalSi).to_string()
}

fn binary(bytes: i64) -> String {
    Quantity::from_int(bytes, Format::BinarySi).to_string()
}

/// As the node's object says it, with what plugins provide. What somebody else wrote of the node (a resource that is
/// advertised by hand) stays, and all of it can be given.
pub fn with_devices(
    amounts: &Amounts,
    devices: &BTreeMap<String, (i64, i64)>,
    before: Option<&NodeStatus>,
    which: fn((i64, i64)) -> i64,
) -> BTreeMap<String, Text> {
    let mut all = written(amounts);
    all.extend(devices.iter().map(|(name, both)| (name.clone(), Text(decimal(which(*both))))));
    for (name, text) in before.and_then(|before| before.capacity.as_ref()).into_iter().flatten() {
        if is_extended(name) && !all.contains_key(name) {
            all.insert(name.clone(), text.clone());
        }
    }
    all
}

/// Whether two statuses name other amounts.
pub fn differ(old: &NodeStatus, new: &NodeStatus) -> bool {
    old.capacity != new.capacity || old.allocatable != new.allocatable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;

    fn machine() -> Machine {
        Machine {
            cpu_millis: 4000,
            memory: 8 << 30,
            huge_pages: vec![("2Mi".to_owned(), 64 << 20)],
            ..Machine::default()
        }
    }

    #[test]
    fn reservations_thresholds_and_huge_pages_are_taken_off() {
        let mut fields = Configuration::defaults().unwrap().fields;
        fields.system_reserved = BTreeMap::from([("cpu".to_owned(), "500m".to_owned())]);
        fields.kube_reserved = BTreeMap::from([
            ("cpu".to_owned(), "1".to_owned()),
            ("memory".to_owned(), "1Gi".to_owned()),
            ("pid".to_owned(), "100".to_owned()),
        ]);
        let all = capacity(&machine(), 110, 100 << 30);
        let left = allocatable(&all, &fields, &Settings::default()).unwrap();
        assert_eq!(left["cpu"], 2500);
        assert_eq!(left["memory"], (8 << 30) - (1 << 30) - (100 << 20) - (64 << 20));
        assert_eq!(left["ephemeral-storage"], 90 << 30);
        assert_eq!((left["pods"], left["hugepages-2Mi"], left.len()), (110, 64 << 20, 5));
        fields.kube_reserved.insert("memory".to_owned(), "1Ti".to_owned());
        assert_eq!(allocatable(&all, &fields, &Settings::default()).unwrap()["memory"], 0);
        fields.kube_reserved.insert("memory".to_owned(), "much".to_owned());
        assert!(
            allocatable(&all, &fields, &Settings::default()).unwrap_err().contains("kubeReserved: memory")
        );
    }

    #[test]
    fn devices_are_told_and_what_was_advertised_by_hand_stays() {
        let text = |list: &[(&str, &str)]| -> BTreeMap<String, Text> {
            list.iter().map(|(name, text)| ((*name).to_owned(), Text((*text).to_owned()))).collect()
        };
        let before = NodeStatus {
            capacity: Some(text(&[("x.com/dongle", "4"), ("x.com/gpu", "9"), ("cpu", "1"), ("old", "1")])),
            ..NodeStatus::default()
        };
        let devices = BTreeMap::from([("x.com/gpu".to_owned(), (2048, 3))]);
        let amounts = Amounts::from([("cpu".to_owned(), 2000)]);
        let of = |which: fn((i64, i64)) -> i64| with_devices(&amounts, &devices, Some(&before), which);
        assert_eq!(of(|(all, _)| all), text(&[("cpu", "2"), ("x.com/dongle", "4"), ("x.com/gpu", "2048")]));
        assert_eq!(of(|(_, some)| some), text(&[("cpu", "2"), ("x.com/dongle", "4"), ("x.com/gpu", "3")]));
    }

    #[test]
    fn amounts_are_written_as_upstream_writes_them() {
        let amounts = Amounts::from([
            ("cpu".to_owned(), 2500),
            ("memory".to_owned(), 1025 << 10),
            ("ephemeral-storage".to_owned(), 1001),
            ("pods".to_owned(), 110),
            ("hugepages-2Mi".to_owned(), 0),
        ]);
        let text = written(&amounts);
        for (name, wanted) in [
            ("cpu", "2500m"),
            ("memory", "1025Ki"),
            ("ephemeral-storage", "1001"),
            ("pods", "110"),
            ("hugepages-2Mi", "0"),
        ] {
            assert_eq!(text[name].0, wanted);
        }
    }

    #[test]
    fn pods_per_core_may_say_fewer() {
        assert_eq!(
            (pods(&machine(), 110, 0), pods(&machine(), 110, 10), pods(&machine(), 30, 10)),
            (110, 40, 30)
        );
    }
}
