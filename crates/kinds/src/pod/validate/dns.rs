//! Names of the pod, and how it finds others: host names, host aliases, DNS.

use schema::Object;

use super::read::{is_true, items, maybe, sub, text, texts};
use super::windows::shown_list;
use crate::content;
use crate::field::{At, Errors};

/// Checks `dnsConfig`, and that it is there when nothing else says where names are looked up.
pub(super) fn config(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let config = sub(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        };
        if texts(config, "nameservers").next().is_none() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.child("nameservers"), why);
            return;
        }
    }
    let Some(config) = config else { return };
    let servers_at = at.child("nameservers");
    if texts(config, "nameservers").count() > 3 {
        let why = "must not have more than 3 nameservers";
        errors.invalid(&servers_at, shown_list(texts(config, "nameservers")), why);
    }
    for (index, server) in texts(config, "nameservers").enumerate() {
        errors.each(&servers_at.index(index), server, content::ip(server));
    }
    searches(config, &at.child("searches"), errors);
    for (index, option) in items(config, "options").enumerate() {
        if text(option, "name").is_empty() {
            let at = at.child("options");
            errors.required(&at.index(index), "must not be empty");
        }
    }
}

fn searches(config: &Object, at: &At<'_>, errors: &mut Errors) {
    let all = || texts(config, "searches");
    if all().count() > 32 {
        errors.invalid(at, shown_list(all()), "must not have more than 32 search paths");
    }
    let length: usize = all().map(|search| search.len() + 1).sum();
    if length > 2048 + 1 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(at, shown_list(all()), why);
    }
    for (index, search) in all().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.each(&at.index(index), search, content::subdomain_with_underscore(search));
    }
}

/// Checks `hostAliases`.
pub(super) fn host_aliases(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, alias) in items(spec, "hostAliases").enumerate() {
        let (at, ip) = (at.index(index), text(alias, "ip"));
        errors.each(&at.child("ip"), ip, content::ip(ip));
        let names_at = at.child("hostnames");
        for (position, name) in texts(alias, "hostnames").enumerate() {
            errors.each(&names_at.index(position), name, content::subdomain(name));
        }
    }
}

/// Checks `hostnameOverride` (KEP-4762).
pub(super) fn hostname_override(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(name) = maybe(spec, "hostnameOverride") else { return };
    let at = at.child("hostnameOverride");
    if is_true(spec, "setHostnameAsFQDN") {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if is_true(spec, "hostNetwork") {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&at, 64);
    }
    errors.each(&at, name, content::subdomain(name));
}
