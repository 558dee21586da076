//! Ingresses, network policies, endpoints and service addresses.

use std::collections::BTreeSet;

use schema::{Object, Value};

use super::{AGE, NAME, Printed, age_cell, joined, name, selector, text, text_or};
use crate::edit;
use crate::rules::{Cell, Column};

pub(super) fn printed(group: &str, kind: &str) -> Option<Printed> {
    Some(match (group, kind) {
        ("networking.k8s.io", "Ingress") => (INGRESS, ingress),
        ("networking.k8s.io", "IngressClass") => (CLASS, class),
        ("networking.k8s.io", "NetworkPolicy") => {
            (const { &[NAME, text("Pod-Selector"), AGE] }, |policy, now| {
                vec![name(policy), selector(policy, &["spec", "podSelector"]), age_cell(policy, now)]
            })
        }
        ("networking.k8s.io", "ServiceCIDR") => (const { &[NAME, text("CIDRs"), AGE] }, |cidr, now| {
            vec![name(cidr), Cell::Text(joined(cidr, &["spec", "cidrs"])), age_cell(cidr, now)]
        }),
        ("networking.k8s.io", "IPAddress") => (const { &[NAME, text("ParentRef"), AGE] }, address),
        ("", "Endpoints") => (const { &[NAME, text("Endpoints"), AGE] }, |endpoints, now| {
            vec![name(endpoints), Cell::Text(addresses(endpoints)), age_cell(endpoints, now)]
        }),
        _ => return None,
    })
}

/// At most three of a list, and how many more there are.
fn some_of(all: &[String]) -> String {
    match all {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first},{second},{third} + {} more...", rest.len())
        }
        all => all.join(","),
    }
}

const INGRESS: &[Column] = &[NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE];

fn ingress(ingress: &Object, now: i64) -> Vec<Cell> {
    let points: BTreeSet<&str> = edit::structs(ingress, &["status", "loadBalancer", "ingress"])
        .filter_map(|point| {
            ["ip", "hostname"].iter().map(|field| edit::get(point, &[field])).find(|at| !at.is_empty())
        })
        .collect();
    let tls = ingress.list_at(&["spec", "tls"]).is_some_and(|tls| !tls.is_empty());
    vec![
        name(ingress),
        text_or(ingress, &["spec", "ingressClassName"], "<none>"),
        Cell::Text(hosts(ingress)),
        Cell::Text(points.into_iter().collect::<Vec<_>>().join(",")),
        Cell::Text(if tls { "80, 443" } else { "80" }.to_owned()),
        age_cell(ingress, now),
    ]
}

/// Upstream counts rules, not hosts, for what it leaves out.
fn hosts(ingress: &Object) -> String {
    let rules: Vec<&str> =
        edit::structs(ingress, &["spec", "rules"]).map(|rule| edit::get(rule, &["host"])).collect();
    let named: Vec<&str> = rules.iter().copied().filter(|host| !host.is_empty()).collect();
    match named.as_slice() {
        [] => "*".to_owned(),
        [first, second, third, _, ..] => {
            format!("{first},{second},{third} + {} more...", rules.len().saturating_sub(3))
        }
        all => all.join(","),
    }
}

const CLASS: &[Column] = &[NAME, text("Controller"), text("Parameters"), AGE];

fn class(class: &Object, now: i64) -> Vec<Cell> {
    let default = class.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
    let shown = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
    let parameters = class.struct_at(&["spec", "parameters"]).map(|parameters| {
        let group = parameters.str_at(&["apiGroup"]).map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", edit::get(parameters, &["kind"]), edit::get(parameters, &["name"]))
    });
    vec![
        Cell::Text(shown),
        text_or(class, &["spec", "controller"], ""),
        Cell::Text(parameters.unwrap_or_else(|| "<none>".to_owned())),
        age_cell(class, now),
    ]
}

fn address(address: &Object, now: i64) -> Vec<Cell> {
    let parent = address.struct_at(&["spec", "parentRef"]).map(|parent| {
        let part = |field: &str| edit::get(parent, &[field]);
        let mut shown = match part("group") {
            "" => part("resource").to_lowercase(),
            group => format!("{}.{group}", part("resource")).to_lowercase(),
        };
        for piece in [part("namespace"), part("name")].into_iter().filter(|piece| !piece.is_empty()) {
            shown.push('/');
            shown.push_str(piece);
        }
        shown
    });
    vec![name(address), Cell::Text(parent.unwrap_or_else(|| "<none>".to_owned())), age_cell(address, now)]
}

fn addresses(endpoints: &Object) -> String {
    let subsets: Vec<&Object> = edit::structs(endpoints, &["subsets"]).collect();
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips: Vec<&str> =
            edit::structs(subset, &["addresses"]).map(|address| edit::get(address, &["ip"])).collect();
        let ports: Vec<i64> = edit::structs(subset, &["ports"])
            .filter_map(|port| port.get("port").and_then(Value::as_int))
            .collect();
        if ports.is_empty() {
            all.extend(ips.iter().map(|&ip| ip.to_owned()));
        }
        for port in ports {
            all.extend(ips.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    some_of(&all)
}
