//! The baseline level: nothing that is known to lead out of the pod.

use std::collections::BTreeSet;

use schema::{Map, Object};

use super::super::validate::annotations::{APP_ARMOR, SECCOMP, SECCOMP_POD};
use super::super::validate::read::{has, int, is_true, items, maybe, sub, text, texts};
use super::{Finding, Subject, context, named, plural, quoted, setters};

/// All checks by their id; those that a restricted one replaces are left out.
pub(super) fn checks(subject: Subject<'_>, minor: u32, replaced: bool) -> Vec<Finding> {
    let keep = |replaced_from: u32| !(replaced && minor >= replaced_from);
    let mut findings = vec![app_armor(subject)];
    if keep(22) {
        findings.push(capabilities(subject));
    }
    findings.push(host_namespaces(subject));
    if keep(0) {
        findings.push(host_paths(subject));
    }
    findings.push(host_ports(subject));
    if minor >= 34 {
        findings.push(probe_hosts(subject));
    }
    findings.push(privileged(subject));
    if keep(35) && !(minor >= 35 && subject.has_own_users()) {
        findings.push(proc_mount(subject));
    }
    findings.push(se_linux(subject, minor));
    if keep(19) {
        findings.push(if minor < 19 { seccomp_annotations(subject) } else { seccomp(subject) });
    }
    findings.push(sysctls(subject, minor));
    findings.push(host_process(subject));
    findings
}

fn app_armor(subject: Subject<'_>) -> Finding {
    let mut values = BTreeSet::new();
    let mut is_bad = |context: Option<&Object>| {
        let profile = context.and_then(|context| sub(context, "appArmorProfile"));
        let kind = profile.map(|profile| text(profile, "type").to_owned());
        let bad = kind.filter(|kind| !matches!(kind.as_str(), "RuntimeDefault" | "Localhost"));
        let found = bad.is_some();
        values.extend(bad);
        found
    };
    let pod = is_bad(subject.context());
    let containers = subject.containers(|container| is_bad(context(container)));
    let mut who: Vec<String> = setters(pod, &containers).into_iter().collect();
    let mut values: Vec<String> = values.into_iter().collect();
    let annotations: Vec<String> = subject
        .annotations
        .into_iter()
        .flat_map(Map::strings)
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter(|(_, value)| !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let values = quoted(values.iter().map(String::as_str));
    Some((reason, format!("{} must not set AppArmor profile type to {values}", who.join(" and "))))
}

/// What containers get anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The capabilities that a container adds.
pub(super) fn added(container: &Object) -> impl Iterator<Item = &str> {
    let capabilities = context(container).and_then(|context| sub(context, "capabilities"));
    capabilities.into_iter().flat_map(|capabilities| texts(capabilities, "add"))
}

fn capabilities(subject: Subject<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let containers = subject.containers(|container| {
        let before: Vec<&str> =
            added(container).filter(|capability| !DEFAULT_CAPABILITIES.contains(capability)).collect();
        bad.extend(before.iter().copied());
        !before.is_empty()
    });
    (!containers.is_empty()).then(|| {
        let (who, bad) = (named(&containers), quoted(bad));
        let detail = format!("{who} must not include {bad} in securityContext.capabilities.add");
        ("non-default capabilities", detail)
    })
}

fn host_namespaces(subject: Subject<'_>) -> Finding {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is_true(subject.spec, field))
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| ("host namespaces", shared.join(", ")))
}

fn host_paths(subject: Subject<'_>) -> Finding {
    let volumes: Vec<&str> = items(subject.spec, "volumes")
        .filter(|volume| has(volume, "hostPath"))
        .map(|volume| text(volume, "name"))
        .collect();
    (!volumes.is_empty()).then(|| {
        let what = plural("volume", "volumes", volumes.len());
        ("hostPath volumes", format!("{what} {}", quoted(volumes)))
    })
}

fn host_ports(subject: Subject<'_>) -> Finding {
    let mut ports = BTreeSet::new();
    let containers = subject.containers(|container| {
        let own: Vec<String> = items(container, "ports")
            .filter_map(|port| int(port, "hostPort").filter(|number| *number != 0))
            .map(|number| number.to_string())
            .collect();
        let any = !own.is_empty();
        ports.extend(own);
        any
    });
    (!containers.is_empty()).then(|| {
        let uses = plural("uses", "use", containers.len());
        let what = plural("hostPort", "hostPorts", ports.len());
        let list = ports.into_iter().collect::<Vec<_>>().join(", ");
        ("hostPort", format!("{} {uses} {what} {list}", named(&containers)))
    })
}

fn probe_hosts(subject: Subject<'_>) -> Finding {
    let mut hosts = BTreeSet::new();
    let mut containers = subject.containers(|container| {
        let lifecycle = sub(container, "lifecycle");
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| sub(container, probe));
        let hooks = ["postStart", "preStop"].map(|hook| lifecycle.and_then(|l| sub(l, hook)));
        let handlers = probes.into_iter().chain(hooks).flatten();
        let own: Vec<&str> = handlers
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| sub(handler, kind)))
            .flatten()
            .map(|action| text(action, "host"))
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(own.iter().copied());
        !own.is_empty()
    });
    containers.sort_unstable();
    (!containers.is_empty()).then(|| {
        let uses = plural("uses", "use", containers.len());
        let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
        ("probe or lifecycle host", format!("{} {uses} {what} {}", named(&containers), quoted(hosts)))
    })
}

fn privileged(subject: Subject<'_>) -> Finding {
    let containers = subject.containers(|c| context(c).is_some_and(|context| is_true(context, "privileged")));
    (!containers.is_empty()).then(|| {
        ("privileged", format!("{} must not set securityContext.privileged=true", named(&containers)))
    })
}

/// Checks that nobody looks at more of `/proc` than usual.
pub(super) fn proc_mount(subject: Subject<'_>) -> Finding {
    let mut kinds = BTreeSet::new();
    let containers = subject.containers(|container| {
        let kind = context(container).and_then(|context| maybe(context, "procMount"));
        let bad = kind.filter(|kind| *kind != "Default");
        kinds.extend(bad);
        bad.is_some()
    });
    (!containers.is_empty()).then(|| {
        let who = named(&containers);
        ("procMount", format!("{who} must not set securityContext.procMount to {}", quoted(kinds)))
    })
}

fn se_linux(subject: Subject<'_>, minor: u32) -> Finding {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |context: Option<&Object>| {
        let Some(options) = context.and_then(|context| sub(context, "seLinuxOptions")) else { return false };
        let kind = text(options, "type");
        let known = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (minor >= 31 && kind == "container_engine_t");
        if !known {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) = (!text(options, "user").is_empty(), !text(options, "role").is_empty());
        user |= has_user;
        role |= has_role;
        !known || has_user || has_role
    };
    let pod = is_bad(subject.context());
    let containers = subject.containers(|container| is_bad(context(container)));
    let who = setters(pod, &containers)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        let kind = plural("type", "types", types.len());
        what.push(format!("{kind} {}", quoted(types.iter().map(String::as_str))));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Some(("seLinuxOptions", detail))
}

fn seccomp_annotations(subject: Subject<'_>) -> Finding {
    let annotations = subject.annotations?;
    let mut bad = BTreeSet::new();
    let mut look = |key: &str| {
        let value = annotations.get_str(key).filter(|value| {
            !matches!(*value, "runtime/default" | "docker/default") && !value.starts_with("localhost/")
        });
        if let Some(value) = value {
            bad.insert(format!("{key}={value:?}"));
        }
    };
    look(SECCOMP_POD);
    for name in subject.containers(|_| true) {
        look(&format!("{SECCOMP}{name}"));
    }
    (!bad.is_empty()).then(|| {
        let what = plural("annotation", "annotations", bad.len());
        let list = bad.into_iter().collect::<Vec<_>>().join(", ");
        ("seccompProfile", format!("forbidden {what} {list}"))
    })
}

/// The type of a seccomp profile, if one is set.
pub(super) fn seccomp_type(context: Option<&Object>) -> Option<&str> {
    sub(context?, "seccompProfile").map(|profile| text(profile, "type"))
}

/// Checks that no profile was turned off.
pub(super) fn seccomp(subject: Subject<'_>) -> Finding {
    let mut kinds = BTreeSet::new();
    let mut is_bad = |context: Option<&Object>| {
        let bad = seccomp_type(context).filter(|kind| !matches!(*kind, "Localhost" | "RuntimeDefault"));
        kinds.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let pod = is_bad(subject.context());
    let containers = subject.containers(|container| is_bad(context(container)));
    let who = setters(pod, &containers)?;
    let kinds = quoted(kinds.iter().map(String::as_str));
    Some(("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {kinds}")))
}

/// Kernel settings that reach no further than the pod, with the version that allowed them.
const SAFE_SYSCTLS: [(&str, u32); 14] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

fn sysctls(subject: Subject<'_>, minor: u32) -> Finding {
    let safe = |name: &str| SAFE_SYSCTLS.iter().any(|(known, since)| *known == name && minor >= *since);
    let bad: Vec<&str> = items(subject.context()?, "sysctls")
        .map(|sysctl| text(sysctl, "name"))
        .filter(|name| !safe(name))
        .collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls", bad.join(", ")))
}

fn host_process(subject: Subject<'_>) -> Finding {
    let is_bad = |context: Option<&Object>| {
        let options = context.and_then(|context| sub(context, "windowsOptions"));
        options.is_some_and(|options| is_true(options, "hostProcess"))
    };
    let containers = subject.containers(|container| is_bad(context(container)));
    let who = setters(is_bad(subject.context()), &containers)?;
    Some(("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true")))
}
