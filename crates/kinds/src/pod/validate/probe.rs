//! Probes, lifecycle hooks and stop signals.

use schema::{Object, Value};

use super::read::{has, int, items, list, maybe, sub, text};
use crate::content;
use crate::field::{At, Errors};

/// Checks the probes and hooks of a container that may have them.
pub(super) fn lifecycle_and_probes(
    container: &Object,
    os: Option<&str>,
    grace: Option<i64>,
    at: &At<'_>,
    errors: &mut Errors,
) {
    if let Some(lifecycle) = sub(container, "lifecycle") {
        let at = at.child("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = sub(lifecycle, hook) {
                check_handler(handler, grace, &at.child(hook), errors);
            }
        }
        if let Some(signal) = lifecycle.get("stopSignal").and_then(Value::as_str) {
            stop_signal(signal, os, &at.child("stopSignal"), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = sub(container, name) {
            check_probe(probe, name, grace, &at.child(name), errors);
        }
    }
}

fn check_probe(probe: &Object, name: &str, grace: Option<i64>, at: &At<'_>, errors: &mut Errors) {
    check_handler(probe, grace, at, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        let value = int(probe, field).unwrap_or_default();
        if value < 0 {
            errors.invalid(&at.child(field), value, "must be greater than or equal to 0");
        }
    }
    let own_grace = int(probe, "terminationGracePeriodSeconds");
    if let Some(seconds) = own_grace.filter(|&seconds| seconds <= 0) {
        errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
    if name == "readinessProbe" {
        if let Some(seconds) = own_grace {
            let why = "must not be set for readinessProbes";
            errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, why);
        }
        return;
    }
    let successes = int(probe, "successThreshold").unwrap_or_default();
    if successes != 1 {
        errors.invalid(&at.child("successThreshold"), successes, "must be 1");
    }
}

fn check_handler(handler: &Object, grace: Option<i64>, at: &At<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = sub(handler, kind) else { continue };
        let at = at.child(kind);
        count += 1;
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if list(action, "command").is_empty() => errors.required(&at.child("command"), ""),
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" => port(action.get("port"), &at.child("port"), errors),
            "grpc" => grpc(action, &at, errors),
            "sleep" => sleep(action, grace, &at, errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(get: &Object, at: &At<'_>, errors: &mut Errors) {
    if text(get, "path").is_empty() {
        errors.required(&at.child("path"), "");
    }
    port(get.get("port"), &at.child("port"), errors);
    let scheme = text(get, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&at.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in items(get, "httpHeaders") {
        let name = text(header, "name");
        errors.each(&at.child("httpHeaders"), name, content::header(name));
    }
    protocol(get, &at.child("protocol"), errors);
}

/// How HTTP is spoken (KEP-5999): the second version in the clear, and with the pod itself.
fn protocol(get: &Object, at: &At<'_>, errors: &mut Errors) {
    match maybe(get, "protocol") {
        Some(two @ "HTTP2") if text(get, "scheme") == "HTTPS" => {
            errors.invalid(at, two, "HTTP2 cannot be combined with scheme HTTPS");
        }
        Some(two @ "HTTP2") if !text(get, "host").is_empty() => {
            errors.invalid(at, two, "HTTP2 cannot be combined with a host");
        }
        None | Some("HTTP1" | "HTTP2") => {}
        Some(other) => errors.not_supported(at, other, &["HTTP1", "HTTP2"]),
    }
}

fn grpc(action: &Object, at: &At<'_>, errors: &mut Errors) {
    port(action.get("port"), &at.child("port"), errors);
    if let Some(mode) = maybe(action, "mode").filter(|mode| !matches!(*mode, "Plaintext" | "TLS")) {
        errors.not_supported(&at.child("mode"), mode, &["Plaintext", "TLS"]);
    }
}

/// A port by number or by name.
fn port(port: Option<&Value>, at: &At<'_>, errors: &mut Errors) {
    match port {
        Some(Value::Str(name)) => errors.each(at, name, content::port_name(name)),
        other => {
            let number = other.and_then(Value::as_int).unwrap_or_default();
            for problem in content::port_number(number) {
                // Shown as JSON would show it, which is the same for a number.
                errors.invalid(at, number, problem);
            }
        }
    }
}

fn sleep(sleep: &Object, grace: Option<i64>, at: &At<'_>, errors: &mut Errors) {
    let seconds = int(sleep, "seconds").unwrap_or_default();
    if let Some(grace) = grace.filter(|&grace| seconds < 0 || seconds > grace) {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(at, seconds, why);
    }
}

const LINUX_SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(signal: &str, os: Option<&str>, at: &At<'_>, errors: &mut Errors) {
    let known: &[&str] = match os {
        None => {
            errors.forbidden(at, "may not be set for containers with empty `spec.os.name`");
            return;
        }
        Some("windows") => &["SIGKILL", "SIGTERM"],
        Some("linux") => &LINUX_SIGNALS,
        Some(_) => return,
    };
    if !known.contains(&signal) {
        errors.not_supported(at, signal, known);
    }
}

/// A container that runs to its end before the others has neither probes nor hooks.
pub(super) fn forbid_for_init(container: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if has(container, field) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&at.child(field), why);
        }
    }
}
