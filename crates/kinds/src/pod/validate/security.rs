//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use schema::Object;

use super::read::{containers, flag, has, int, is_true, items, list, maybe, sub, text, texts};
use super::{paths, shown, windows};
use crate::content;
use crate::field::{At, Errors, Json};

pub(super) fn number(context: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    if let Some(value) = int(context, field) {
        for problem in content::id(value) {
            errors.invalid(&at.child(field), value, problem);
        }
    }
}

/// Checks the security context of a pod.
pub(super) fn of_pod(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(context) = sub(spec, "securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        number(context, field, at, errors);
    }
    let groups_at = at.child("supplementalGroups");
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let group = group.as_int().unwrap_or_default();
        for problem in content::id(group) {
            errors.invalid(&groups_at.index(index), group, problem);
        }
    }
    sysctls(spec, context, &at.child("sysctls"), errors);
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], at, errors);
    seccomp(sub(context, "seccompProfile"), &at.child("seccompProfile"), errors);
    windows::options(sub(context, "windowsOptions"), &at.child("windowsOptions"), errors);
    app_armor(sub(context, "appArmorProfile"), &at.child("appArmorProfile"), errors);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], at, errors);
    one_of(context, "seLinuxChangePolicy", &["MountOption", "Recursive"], at, errors);
}

/// The host's processes or the pod's: not both.
pub(super) fn shared_processes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    if is_true(spec, "shareProcessNamespace") && is_true(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.child("securityContext.shareProcessNamespace"), true, why);
    }
}

fn one_of(object: &Object, field: &str, allowed: &[&str], at: &At<'_>, errors: &mut Errors) {
    if let Some(value) = maybe(object, field).filter(|value| !allowed.contains(value)) {
        errors.not_supported(&at.child(field), value, allowed);
    }
}

/// Whether a name is one of kernel settings: segments of `[a-z0-9]([-_a-z0-9]*[a-z0-9])?`, by dots or slashes.
pub(crate) fn is_sysctl(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |text: &str| {
        let bytes = text.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn sysctls(spec: &Object, context: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in items(context, "sysctls").enumerate() {
        let (at, name) = (at.index(index), text(sysctl, "name"));
        let at = at.child("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, why);
        } else if seen.contains(name) {
            errors.duplicate(&at, name);
        }
        let dotted = name.replace('/', ".");
        let network = dotted.starts_with("net.");
        let ipc = ["kernel.sem", "kernel.shm_rmid_forced"].contains(&dotted.as_str())
            || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| dotted.starts_with(prefix));
        if network && is_true(spec, "hostNetwork") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if ipc && is_true(spec, "hostIPC") {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
        seen.insert(name);
    }
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(profile: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let kind = text(profile, "type");
    if kind.is_empty() {
        errors.required(&at.child("type"), "type is required when seccompProfile is set");
    } else if !PROFILES.contains(&kind) {
        errors.not_supported(&at.child("type"), kind, &PROFILES);
    }
    let place = at.child("localhostProfile");
    match (kind, maybe(profile, "localhostProfile")) {
        ("Localhost", None) => errors.required(&place, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(path)) => paths::descending(path, &place, errors),
        (_, Some(_)) => {
            let value = Json(shown::internal(profile));
            errors.invalid(&place, value, "can only be set when seccomp type is Localhost");
        }
        (_, None) => {}
    }
}

/// Checks an AppArmor profile.
pub(crate) fn app_armor(profile: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(profile) = profile else { return };
    let (kind, path) = (text(profile, "type"), maybe(profile, "localhostProfile"));
    let place = at.child("localhostProfile");
    match (kind, path) {
        ("Localhost", None | Some("")) => {
            errors.required(&place, "must be set when AppArmor type is Localhost");
        }
        ("Localhost", Some(path)) => {
            if path.trim() != path {
                errors.invalid(&place, path, "must not be padded with whitespace");
            }
            if path.len() > 4095 {
                errors.too_long(&place, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(path)) => {
            errors.invalid(&place, path, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&at.child("type"), "type is required when appArmorProfile is set"),
        (other, _) => errors.not_supported(&at.child("type"), other, &PROFILES),
    }
}

/// Checks the security context of a container.
pub(super) fn of_container(container: &Object, host_users: bool, at: &At<'_>, errors: &mut Errors) {
    let Some(context) = sub(container, "securityContext") else { return };
    number(context, "runAsUser", at, errors);
    number(context, "runAsGroup", at, errors);
    if let Some(mount) = maybe(context, "procMount") {
        if !matches!(mount, "Default" | "Unmasked") {
            errors.not_supported(&at.child("procMount"), mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            errors.invalid(&at.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(sub(context, "seccompProfile"), &at.child("seccompProfile"), errors);
    if flag(context, "allowPrivilegeEscalation") == Some(false) {
        let mut refuse = |why: &str| errors.invalid(at, Json(shown::internal(context)), why);
        if is_true(context, "privileged") {
            refuse("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = sub(context, "capabilities").into_iter().flat_map(|caps| texts(caps, "add"));
        for _ in added.filter(|capability| *capability == "CAP_SYS_ADMIN") {
            refuse("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    windows::options(sub(context, "windowsOptions"), &at.child("windowsOptions"), errors);
    app_armor(sub(context, "appArmorProfile"), &at.child("appArmorProfile"), errors);
}

/// A pod with users of its own shares little else with its node (KEP-127).
pub(super) fn host_users(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    if flag(spec, "hostUsers") != Some(false) {
        return;
    }
    // The last two as upstream spells them.
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if is_true(spec, field) {
            errors.forbidden(&at.child(shown), "when `hostUsers` is false");
        }
    }
    for (field, index, container) in containers(spec) {
        if has(container, "volumeDevices") {
            let at = at.child(field);
            errors.forbidden(&at.index(index).child("volumeDevices"), "when `hostUsers` is false");
        }
    }
}
