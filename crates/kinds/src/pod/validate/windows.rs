//! What differs between operating systems: options that only one of them knows.

use schema::Object;

use super::read::{containers, flag, has, is_true, list, maybe, sub, text};
use crate::content;
use crate::field::{At, Errors, Json};

/// Checks `windowsOptions`.
pub(super) fn options(options: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(options) = options else { return };
    if let Some(name) = maybe(options, "gmsaCredentialSpecName") {
        errors.each(&at.child("gmsaCredentialSpecName"), name, content::subdomain(name));
    }
    if let Some(spec) = maybe(options, "gmsaCredentialSpec") {
        let at = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > 64 * 1024 {
            errors.invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = maybe(options, "runAsUserName") {
        for problem in user_name(name) {
            errors.invalid(&at.child("runAsUserName"), name, format!("runAsUserName{problem}"));
        }
    }
}

/// What is wrong with `DOMAIN\user`.
fn user_name(name: &str) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if name.is_empty() {
        return vec![" cannot be an empty string"];
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return vec![" cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec![" cannot contain more than one backslash"],
    };
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            problems.push("'s Domain length must be under 256 characters");
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            problems.push("'s Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        problems.push("'s User cannot be empty");
    } else if user.len() > 104 {
        problems.push("'s User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        problems.push("'s User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        problems.push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    problems
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn host_process(object: &Object) -> Option<bool> {
    sub(sub(object, "securityContext")?, "windowsOptions").and_then(|options| flag(options, "hostProcess"))
}

/// Containers of a Windows pod are processes of the host all or none.
pub(super) fn host_processes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let (mut all, mut hosted) = (0, 0);
    let pod = host_process(spec);
    for (field, index, container) in containers(spec) {
        all += 1;
        let own = host_process(container);
        if let (Some(pod), Some(own)) = (pod, own) {
            if pod != own {
                let at = at.child(field);
                let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
                let at = at.index(index);
                errors.invalid(&at.child("securityContext.windowsOptions.hostProcess"), own, why);
            }
        }
        hosted += i32::from(own.or(pod) == Some(true));
    }
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(at, "", why);
    }
    if !is_true(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&at.child("hostNetwork"), false, why);
    }
}

/// Checks `os`, and what the pod's operating system does not know.
pub(super) fn os(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(os) = sub(spec, "os") else { return };
    match text(os, "name") {
        "" => errors.required(&at.child("os.name"), ""),
        "linux" => linux(spec, at, errors),
        "windows" => {
            windows_pod(spec, at, errors);
            windows_containers(spec, at, errors);
        }
        other => errors.not_supported(&at.child("os"), other, &["linux", "windows"]),
    }
}

fn linux(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    let has_options = |object: &Object| {
        sub(object, "securityContext").is_some_and(|context| has(context, "windowsOptions"))
    };
    if has_options(spec) {
        errors.forbidden(&at.child("securityContext.windowsOptions"), WHY);
    }
    for (field, index, container) in containers(spec) {
        if has_options(container) {
            let at = at.child(field);
            errors.forbidden(&at.index(index).child("securityContext.windowsOptions"), WHY);
        }
    }
}

const FOREIGN: &str = "cannot be set for a windows pod";

fn windows_pod(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(context) = sub(spec, "securityContext") else { return };
    let context_at = at.child("securityContext");
    let inside = |fields: &[&str], errors: &mut Errors| {
        for field in fields {
            if has(context, field) && !(*field == "sysctls" && list(context, field).is_empty()) {
                errors.forbidden(&context_at.child(field), FOREIGN);
            }
        }
    };
    inside(&["appArmorProfile", "seLinuxOptions"], errors);
    if has(spec, "hostUsers") {
        errors.forbidden(&at.child("hostUsers"), FOREIGN);
    }
    for field in ["hostPID", "hostIPC"] {
        if is_true(spec, field) {
            errors.forbidden(&at.child(field), FOREIGN);
        }
    }
    inside(&["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"], errors);
    if has(spec, "shareProcessNamespace") {
        errors.forbidden(&at.child("shareProcessNamespace"), FOREIGN);
    }
    let rest =
        ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"];
    inside(&rest, errors);
}

fn windows_containers(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    const FIELDS: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for (field, index, container) in containers(spec) {
        let Some(context) = sub(container, "securityContext") else { continue };
        let at = at.child(field);
        let at = at.index(index);
        let at = at.child("securityContext");
        for field in FIELDS.iter().filter(|field| has(context, field)) {
            errors.forbidden(&at.child(field), FOREIGN);
        }
    }
}

/// As JSON shows a list of texts.
pub(super) fn shown_list<'t>(texts: impl Iterator<Item = &'t str>) -> Json {
    let quoted: Vec<String> = texts.map(|text| format!("{text:?}")).collect();
    Json(format!("[{}]", quoted.join(",")))
}
