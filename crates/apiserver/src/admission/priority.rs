//! Priority (of pods) and DefaultTolerationSeconds.

use schema::{Object, Value};

use super::Attempt;
use super::pod::is_new_pod;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// A new pod has the priority of its class.
///
/// # Errors
/// 403 when the class does not exist.
pub fn priority(attempt: &Attempt<'_>, pod: &mut Object) -> Result<()> {
    if !is_new_pod(attempt) {
        keep(attempt, pod);
        return Ok(());
    }
    let pod_name = pod.name().to_owned();
    let Some(spec) = pod.struct_mut("spec") else { return Ok(()) };
    let class_name = spec.str_at(&["priorityClassName"]).unwrap_or_default().to_owned();
    let class = if class_name.is_empty() {
        default_class(attempt)?
    } else {
        let class = attempt.read("scheduling.k8s.io", "priorityclasses", &class_name)?;
        if class.is_none() {
            let why = format!("no PriorityClass with name {class_name} was found");
            return Err(ApiError::forbidden("", "pods", &pod_name, &why));
        }
        class
    };
    let value = class.as_ref().and_then(|class| class.int_at(&["value"])).unwrap_or_default();
    if spec.int_at(&["priority"]).is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            spec.int_at(&["priority"]).unwrap_or_default()
        );
        return Err(ApiError::forbidden("", "pods", &pod_name, &why));
    }
    spec.set("priority", Value::Int(value));
    let policy = class
        .as_ref()
        .and_then(|class| class.str_at(&["preemptionPolicy"]))
        .unwrap_or("PreemptLowerPriority");
    if let Some(given) = spec.str_at(&["preemptionPolicy"]).filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden("", "pods", &pod_name, &why));
    }
    spec.set("preemptionPolicy", policy);
    if let Some(class) = class.filter(|_| class_name.is_empty()) {
        spec.set("priorityClassName", class.name());
    }
    Ok(())
}

/// A client that does not know of a pod's priority does not take it away.
fn keep(attempt: &Attempt<'_>, pod: &mut Object) {
    let is_pod = attempt.is_core("pods") && !attempt.is_sub();
    let Some(old) = attempt.old.filter(|_| is_pod && matches!(attempt.operation, Operation::Update(_)))
    else {
        return;
    };
    let Some(spec) = pod.struct_mut("spec") else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let (None, Some(had)) = (spec.get(field), old.at(&["spec", field])) {
            spec.set(field, had.clone());
        }
    }
}

fn default_class(attempt: &Attempt<'_>) -> Result<Option<Object>> {
    let registry = attempt.core.registry();
    let Some(resource) = registry.preferred("scheduling.k8s.io", "priorityclasses") else { return Ok(None) };
    let (codec, cache) = attempt.core.codec(resource)?;
    let mut best: Option<Object> = None;
    for entry in cache.list("").1 {
        let class = codec.object(&entry).map_err(ApiError::internal)?;
        let is_default = class.bool_at(&["globalDefault"]).unwrap_or_default();
        let lower = best.as_ref().is_none_or(|best| class.int_at(&["value"]) < best.int_at(&["value"]));
        if is_default && lower {
            best = Some(class);
        }
    }
    Ok(best)
}

/// A pod stays five minutes on a node that stopped answering, unless it says otherwise.
pub fn default_tolerations(attempt: &Attempt<'_>, pod: &mut Object) {
    let written = matches!(attempt.operation, Operation::Create | Operation::Update(_));
    if !(attempt.is_core("pods") && written && !attempt.is_sub()) {
        return;
    }
    let Some(spec) = pod.struct_mut("spec") else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec.list_at(&["tolerations"]).unwrap_or_default().iter().any(|toleration| {
            let text = |name| toleration.child(name).and_then(Value::as_str).unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        });
        if tolerated {
            continue;
        }
        let Some(item) = spec.item_type("tolerations") else { return };
        let mut toleration = Object::new(item);
        toleration.set("key", key);
        toleration.set("operator", "Exists");
        toleration.set("effect", "NoExecute");
        toleration.set("tolerationSeconds", Value::Int(300));
        if let Some(list) = spec.list_mut("tolerations") {
            list.push(Value::Struct(toleration));
        }
    }
}
