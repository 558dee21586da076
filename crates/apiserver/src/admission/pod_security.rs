//! PodSecurity: the labels of a namespace say how much its pods may do (KEP-2579).

use kinds::field::Errors;
use kinds::pod::standards::{Policy, Subject, violations};
use schema::{Map, Object, Value};

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// Refuses pods, and warns of pods and of what makes them.
///
/// # Errors
/// 403 for a pod that its namespace does not allow, 422 for a namespace with labels that say nothing.
pub fn validate(attempt: &Attempt<'_>, object: &Object, warnings: &mut Vec<String>) -> Result<()> {
    let group = attempt.resource.group.as_str();
    let sub = attempt.authorized.info().subresource.as_str();
    if attempt.operation == Operation::Delete {
        return Ok(());
    }
    match (group, attempt.resource.plural.as_str(), sub) {
        ("", "namespaces", "") => namespace(attempt, object),
        ("", "pods", "" | "ephemeralcontainers") => pod(attempt, object, warnings),
        (_, _, "") => match template_path(group, &attempt.resource.plural) {
            Some(path) => owner(attempt, object.struct_at(path), warnings),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn template_path(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    Some(match (group, plural) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        ("", "podtemplates") => &["template"],
        _ => return None,
    })
}

/// The labels of a namespace mean something, when they are new.
fn namespace(attempt: &Attempt<'_>, namespace: &Object) -> Result<()> {
    let read = |labels: Option<&Map>| {
        let mut errors = Errors::new();
        Policy::read(labels, &mut errors);
        errors
    };
    let errors = read(namespace.labels());
    let known = attempt.old.map(|old| read(old.labels()));
    if errors.is_empty() || known.is_some_and(|known| known == errors) {
        return Ok(());
    }
    Err(ApiError::invalid("", "Namespace", namespace.name(), &errors))
}

fn policy(attempt: &Attempt<'_>) -> Result<Policy> {
    let namespace = attempt.read("", "namespaces", attempt.namespace())?;
    // Labels that say nothing count as the strictest, which the reading does.
    Ok(Policy::read(namespace.as_ref().and_then(Object::labels), &mut Errors::new()))
}

fn subject(object: &Object) -> Option<Subject<'_>> {
    let spec = object.struct_at(&["spec"])?;
    Some(Subject { spec, annotations: object.annotations() })
}

fn pod(attempt: &Attempt<'_>, pod: &Object, warnings: &mut Vec<String>) -> Result<()> {
    let policy = policy(attempt)?;
    if policy.is_privileged() || attempt.old.is_some_and(|old| !changed(pod, old)) {
        return Ok(());
    }
    let Some(subject) = subject(pod) else { return Ok(()) };
    if let Some(what) = violations(subject, policy.enforce) {
        let why = format!("violates PodSecurity \"{}\": {what}", policy.enforce);
        return Err(ApiError::forbidden("", "pods", pod.name(), &why));
    }
    warn(subject, policy, warnings);
    Ok(())
}

fn owner(attempt: &Attempt<'_>, template: Option<&Object>, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(subject) = template.and_then(subject) {
        warn(subject, policy(attempt)?, warnings);
    }
    Ok(())
}

fn warn(subject: Subject<'_>, policy: Policy, warnings: &mut Vec<String>) {
    if let Some(what) = violations(subject, policy.warn) {
        warnings.push(format!("would violate PodSecurity \"{}\": {what}", policy.warn));
    }
}

/// Whether a change could make a pod do more: other images, or more containers.
fn changed(new: &Object, old: &Object) -> bool {
    let images = |pod: &Object, list: &str| -> Vec<(String, String)> {
        let text = |container: &Value, field: &str| {
            container.child(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let containers = pod.list_at(&["spec", list]).unwrap_or_default();
        containers.iter().map(|container| (text(container, "name"), text(container, "image"))).collect()
    };
    let differs = |list: &str| {
        let only_images = |pod| images(pod, list).into_iter().map(|(_, image)| image).collect::<Vec<_>>();
        only_images(new) != only_images(old)
    };
    let had = images(old, "ephemeralContainers");
    ["containers", "initContainers"].into_iter().any(differs)
        || images(new, "ephemeralContainers").iter().any(|container| !had.contains(container))
}
