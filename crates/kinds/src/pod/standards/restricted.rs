//! The restricted level: what current practice of hardening asks for.

use std::collections::BTreeSet;

use schema::Object;

use super::super::validate::read::{flag, int, items, sub, text, texts};
use super::baseline::{added, proc_mount, seccomp, seccomp_type};
use super::{Finding, Subject, context, named, plural, quoted, setters};

/// All checks by their id.
pub(super) fn checks(subject: Subject<'_>, minor: u32) -> Vec<Finding> {
    // What Windows knows nothing of.
    let foreign = minor >= 25 && subject.is_windows();
    let relaxed = minor >= 35 && subject.has_own_users();
    let mut findings = Vec::new();
    if minor >= 8 && !foreign {
        findings.push(privilege_escalation(subject));
    }
    if minor >= 22 && !foreign {
        findings.push(capabilities(subject));
    }
    if minor >= 35 {
        findings.push(proc_mount(subject));
    }
    findings.push(volumes(subject));
    if !relaxed {
        findings.push(run_as_non_root(subject));
        if minor >= 23 {
            findings.push(run_as_user(subject));
        }
    }
    if minor >= 19 && !foreign {
        findings.push(seccomp(subject).or_else(|| seccomp_missing(subject)));
    }
    findings
}

fn privilege_escalation(subject: Subject<'_>) -> Finding {
    let containers = subject.containers(|container| {
        context(container).and_then(|context| flag(context, "allowPrivilegeEscalation")) != Some(false)
    });
    (!containers.is_empty()).then(|| {
        let who = named(&containers);
        let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
        ("allowPrivilegeEscalation != false", detail)
    })
}

fn capabilities(subject: Subject<'_>) -> Finding {
    let kept = subject.containers(|container| {
        let capabilities = context(container).and_then(|context| sub(context, "capabilities"));
        !capabilities.is_some_and(|capabilities| texts(capabilities, "drop").any(|name| name == "ALL"))
    });
    let mut bad = BTreeSet::new();
    let adding = subject.containers(|container| {
        let own: Vec<&str> = added(container).filter(|name| *name != "NET_BIND_SERVICE").collect();
        bad.extend(own.iter().copied());
        !own.is_empty()
    });
    let mut details = Vec::new();
    if !kept.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&kept)));
    }
    if !adding.is_empty() {
        let (who, bad) = (named(&adding), quoted(bad));
        details.push(format!("{who} must not include {bad} in securityContext.capabilities.add"));
    }
    (!details.is_empty()).then(|| ("unrestricted capabilities", details.join("; ")))
}

fn volumes(subject: Subject<'_>) -> Finding {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let source = |volume: &'_ Object| {
        let mut fields = volume.fields().map(|(field, _)| field.json.to_string());
        fields.find(|field| field != "name").unwrap_or_else(|| "unknown".to_owned())
    };
    let bad: Vec<(&str, String)> = items(subject.spec, "volumes")
        .map(|volume| (text(volume, "name"), source(volume)))
        .filter(|(_, source)| !ALLOWED.contains(&source.as_str()))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<&str> = bad.iter().map(|(_, kind)| kind.as_str()).collect();
    let (what, uses) = (plural("volume", "volumes", bad.len()), plural("uses", "use", bad.len()));
    let kind = plural("restricted volume type", "restricted volume types", kinds.len());
    let names = quoted(bad.iter().map(|(name, _)| *name));
    Some(("restricted volume types", format!("{what} {names} {uses} {kind} {}", quoted(kinds))))
}

fn run_as_non_root(subject: Subject<'_>) -> Finding {
    const REASON: &str = "runAsNonRoot != true";
    let of = |context: Option<&Object>| context.and_then(|context| flag(context, "runAsNonRoot"));
    let pod = of(subject.context());
    let explicit = subject.containers(|container| of(context(container)) == Some(false));
    if let Some(who) = setters(pod == Some(false), &explicit) {
        return Some((REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let silent = subject.containers(|container| pod != Some(true) && of(context(container)).is_none());
    (!silent.is_empty())
        .then(|| (REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent))))
}

fn run_as_user(subject: Subject<'_>) -> Finding {
    let is_root = |context: Option<&Object>| context.and_then(|context| int(context, "runAsUser")) == Some(0);
    let containers = subject.containers(|container| is_root(context(container)));
    let who = setters(is_root(subject.context()), &containers)?;
    Some(("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

fn seccomp_missing(subject: Subject<'_>) -> Finding {
    if seccomp_type(subject.context()).is_some() {
        return None;
    }
    let silent = subject.containers(|container| seccomp_type(context(container)).is_none());
    (!silent.is_empty()).then(|| {
        let who = named(&silent);
        let detail = format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        );
        ("seccompProfile", detail)
    })
}
