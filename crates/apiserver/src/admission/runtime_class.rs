//! RuntimeClass: what running under a class costs, and where it is possible (KEP-688).

use schema::{Map, Object, Value};

use super::Attempt;
use super::pod::is_new_pod;
use crate::status::{ApiError, Result};

/// Gives a new pod the overhead, the node selector and the tolerations of its class.
///
/// # Errors
/// 403 when the class does not exist or says otherwise than the pod.
pub fn mutate(attempt: &Attempt<'_>, pod: &mut Object) -> Result<()> {
    if !is_new_pod(attempt) {
        return Ok(());
    }
    let name = pod.name().to_owned();
    let refuse = |why: &str| Err(ApiError::forbidden("", "pods", &name, why));
    let class = match pod.str_at(&["spec", "runtimeClassName"]) {
        None => None,
        Some(class) => match attempt.read("node.k8s.io", "runtimeclasses", class)? {
            Some(class) => Some(class),
            None => {
                return match super::unaskable(class) {
                    Some(why) => Err(ApiError::with_code(500, "", why)),
                    None => refuse(&format!("pod rejected: RuntimeClass {class:?} not found")),
                };
            }
        },
    };
    let overhead = class.as_ref().and_then(|class| class.map_at(&["overhead", "podFixed"]));
    let has_overhead = class.as_ref().is_some_and(|class| class.get("overhead").is_some());
    let given = pod.map_at(&["spec", "overhead"]);
    if has_overhead && given.is_some_and(|given| !given.is_empty() && Some(given) != overhead) {
        return refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    }
    let Some(spec) = pod.struct_mut("spec") else { return Ok(()) };
    if let Some(overhead) = overhead {
        spec.set("overhead", Value::Map(overhead.clone()));
    }
    let Some(scheduling) = class.as_ref().and_then(|class| class.struct_at(&["scheduling"])) else {
        return Ok(());
    };
    if let Some(selector) = scheduling.map_at(&["nodeSelector"]) {
        if let Some(why) = select_nodes(spec, selector) {
            return refuse(&why);
        }
    }
    if let Some(tolerations) = scheduling.list_at(&["tolerations"]) {
        let all: Vec<Value> =
            spec.list_at(&["tolerations"]).unwrap_or_default().iter().chain(tolerations).cloned().collect();
        spec.set("tolerations", Value::List(merged(all)));
    }
    Ok(())
}

/// Refuses a new pod that says it costs more than itself, and is of no class that does: when all else is right.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, pod: &Object) -> Result<()> {
    if !is_new_pod(attempt) || pod.at(&["spec", "overhead"]).is_none() {
        return Ok(());
    }
    let class = match pod.str_at(&["spec", "runtimeClassName"]) {
        None | Some("") => None,
        Some(class) => attempt.read("node.k8s.io", "runtimeclasses", class)?,
    };
    if class.is_some_and(|class| class.get("overhead").is_some()) {
        return Ok(());
    }
    let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    Err(ApiError::forbidden("", "pods", pod.name(), why))
}

/// Adds to the node selector of a pod; the conflict where it selects otherwise.
fn select_nodes(spec: &mut Object, selector: &Map) -> Option<String> {
    let own = spec.map_mut("nodeSelector")?;
    for (key, value) in selector.strings() {
        match own.get_str(key) {
            Some(had) if had != value => {
                return Some(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {had}"
                ));
            }
            _ => {
                own.insert(key, value);
            }
        }
    }
    None
}

/// Tolerations without those that another one says, too.
fn merged(all: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(all.len());
    for (index, toleration) in all.iter().enumerate() {
        let earlier = kept.iter().any(|other| covers(other, toleration));
        let later = all.iter().skip(index + 1).any(|other| other != toleration && covers(other, toleration));
        if !earlier && !later {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether everything that `small` tolerates `big` tolerates as long or longer.
fn covers(big: &Value, small: &Value) -> bool {
    if big == small {
        return true;
    }
    let text = |toleration: &'_ Value, field: &str| {
        toleration.child(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (key, other) = (text(big, "key"), text(small, "key"));
    if key != other && !(key.is_empty() && text(big, "operator") == "Exists") {
        return false;
    }
    let effect = text(big, "effect");
    if effect != text(small, "effect") && !effect.is_empty() {
        return false;
    }
    let seconds = |toleration: &Value| toleration.child("tolerationSeconds").and_then(Value::as_int);
    if effect == "NoExecute" {
        match (seconds(big), seconds(small)) {
            (Some(_), None) => return false,
            (Some(big), Some(small)) if big < small => return false,
            _ => {}
        }
    }
    match text(big, "operator").as_str() {
        "Exists" => true,
        "Equal" | "" => {
            matches!(text(small, "operator").as_str(), "Equal" | "")
                && text(big, "value") == text(small, "value")
        }
        _ => false,
    }
}
