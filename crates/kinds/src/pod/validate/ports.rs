//! Ports of containers, and of the host.

use std::collections::BTreeSet;

use schema::Object;

use super::read::{int, is_true, items, text};
use crate::content;
use crate::field::{At, Errors};

/// Checks the ports of one container.
pub(super) fn ports(container: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (index, port) in items(container, "ports").enumerate() {
        let at = at.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let problems = content::port_name(name);
            if !problems.is_empty() {
                errors.each(&at.child("name"), name, problems);
            } else if !names.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
        }
        match int(port, "containerPort").unwrap_or_default() {
            0 => errors.required(&at.child("containerPort"), ""),
            number => number_in_range(number, &at.child("containerPort"), errors),
        }
        match int(port, "hostPort").unwrap_or_default() {
            0 => {}
            number => number_in_range(number, &at.child("hostPort"), errors),
        }
        match text(port, "protocol") {
            "" => errors.required(&at.child("protocol"), ""),
            "TCP" | "UDP" | "SCTP" => {}
            other => errors.not_supported(&at.child("protocol"), other, &["SCTP", "TCP", "UDP"]),
        }
    }
}

fn number_in_range(number: i64, at: &At<'_>, errors: &mut Errors) {
    for problem in content::port_number(number) {
        errors.invalid(at, number, problem);
    }
}

/// No two of these containers want the same port of the host.
pub(super) fn host_ports<'o>(containers: impl Iterator<Item = &'o Object>, at: &At<'_>, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.enumerate() {
        for (position, port) in items(container, "ports").enumerate() {
            let number = int(port, "hostPort").unwrap_or_default();
            if number == 0 {
                continue;
            }
            let (protocol, ip) = (text(port, "protocol"), text(port, "hostIP"));
            if !taken.insert((protocol, ip, number)) {
                let (at, shown) = (at.index(index), format!("{protocol}/{ip}/{number}"));
                let at = at.child("ports");
                errors.duplicate(&at.index(position).child("hostPort"), &shown);
            }
        }
    }
}

/// A pod in the host's network has the ports of its containers on the host.
pub(super) fn host_network(spec: &Object, at: &At<'_>, is_pod: bool, errors: &mut Errors) {
    if !is_true(spec, "hostNetwork") {
        return;
    }
    let at = at.child("containers");
    for (index, container) in items(spec, "containers").enumerate() {
        let at = at.index(index);
        let at = at.child("ports");
        for (position, port) in items(container, "ports").enumerate() {
            let host = int(port, "hostPort").unwrap_or_default();
            let inside = int(port, "containerPort").unwrap_or_default();
            if (is_pod || host != 0) && host != inside {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&at.index(position).child("hostPort"), host, why);
            }
        }
    }
}
