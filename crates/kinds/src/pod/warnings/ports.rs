//! Ports that stand twice.

use std::collections::BTreeMap;

use schema::Object;

use super::Warnings;
use crate::field::At;
use crate::pod::validate::read::{containers, int, items, text};

struct Known<'o> {
    place: String,
    host_ip: &'o str,
    host_port: i64,
}

/// Looks at the ports of all containers together.
pub(super) fn check(spec: &Object, at: &At<'_>, warnings: &mut Warnings) {
    let mut known: BTreeMap<(i64, &str), Vec<Known<'_>>> = BTreeMap::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut same_names = Vec::new();
    for (field, index, container) in containers(spec) {
        let at = at.child(field);
        let at = at.index(index);
        let at = at.child("ports");
        for (index, port) in items(container, "ports").enumerate() {
            let at = at.index(index);
            let number = |field: &str| int(port, field).unwrap_or_default();
            let (host_ip, host_port) = (text(port, "hostIP"), number("hostPort"));
            let (inside, protocol) = (number("containerPort"), text(port, "protocol"));
            let name = text(port, "name");
            if !host_ip.is_empty() && host_port == 0 {
                let shown = format!(
                    "{{Name:{name} HostPort:0 ContainerPort:{inside} Protocol:{protocol} HostIP:{host_ip}}}"
                );
                warnings.push(&at, format!("hostIP set without hostPort: {shown}"));
            }
            let others = known.entry((inside, protocol)).or_default();
            for other in others.iter() {
                if let Some(what) = conflict(host_ip, host_port, other) {
                    warnings.push(&at, format!("{what} port definition with {}", other.place));
                }
            }
            others.push(Known { place: at.to_string(), host_ip, host_port });
            if name.is_empty() {
                continue;
            }
            match names.get(name) {
                Some(other) => same_names.push(format!(
                    "{at}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                )),
                None => {
                    names.insert(name, at.to_string());
                }
            }
        }
    }
    warnings.all.append(&mut same_names);
}

fn conflict(host_ip: &str, host_port: i64, other: &Known<'_>) -> Option<&'static str> {
    if host_ip == other.host_ip && host_port == other.host_port {
        Some("duplicate")
    } else if host_port == 0 || other.host_port == 0 {
        Some("overlapping")
    } else if host_port == other.host_port && host_ip.is_empty() != other.host_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}
