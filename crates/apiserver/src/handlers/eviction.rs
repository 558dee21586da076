//! `eviction` of pods: a deletion that asks the pod's disruption budget first (KEP-85).

use http::Response;
use kinds::Part;
use schema::{Object, Value};

use super::resource::Call;
use super::subresource::{done, read_other, set_condition};
use crate::body::Body;
use crate::options::{DeleteOptions, WriteOptions};
use crate::status::{ApiError, Cause, Result};
use crate::write::decode::Decoded;
use crate::write::{WriteContext, delete, update};

/// How often an eviction is tried anew when others write the pod in between.
const TRIES: usize = 20;
/// A budget with more evictions than this that nobody confirmed allows no further one.
const MAX_DISRUPTED: usize = 2000;

/// Evicts a pod.
///
/// # Errors
/// 429 when the budget forbids it now, 500 when more than one budget has a say.
pub async fn create(call: &Call<'_>, body: Body) -> Result<Response<Body>> {
    let (eviction, warnings) = read_other(call, body, ("policy", "v1", "Eviction")).await?;
    if !eviction.namespace().is_empty() && eviction.namespace() != call.authorized.info().namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    if eviction.name() != call.authorized.info().name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    same_dry_run(call, &eviction)?;
    let options = DeleteOptions::of(eviction.get("deleteOptions").and_then(Value::as_struct))?;
    let mut write = call.write_options("CreateOptions")?;
    write.dry_run |= options.dry_run;
    let mut taken = false;
    for attempt in 1..=TRIES {
        match evict(call, &options, &write, &mut taken).await {
            // Somebody wrote in between; whoever named a version wants to know.
            Err(error) if error.code == 409 && options.resource_version.is_none() && attempt < TRIES => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(done(call, &warnings)),
        }
    }
    Ok(done(call, &warnings))
}

/// Whoever says in the query and in the body whether it is only a trial says the same.
fn same_dry_run(call: &Call<'_>, eviction: &Object) -> Result<()> {
    let query = &call.authorized.info().query;
    let asked: Vec<&str> =
        query.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()).collect();
    let body = eviction.list_at(&["deleteOptions", "dryRun"]).unwrap_or_default();
    let given: Vec<&str> = body.iter().filter_map(Value::as_str).collect();
    if asked.is_empty() || given.is_empty() || asked == given {
        return Ok(());
    }
    let (asked, given) = (asked.join(" "), given.join(" "));
    let why = format!("Non-matching dry-run options in request and content: [{asked}] and [{given}]");
    Err(ApiError::with_code(500, "", why))
}

/// One try; `taken` is whether the budget was asked already.
async fn evict(
    call: &Call<'_>,
    options: &DeleteOptions,
    write: &WriteOptions,
    taken: &mut bool,
) -> Result<()> {
    let context = call.context(write);
    let (codec, _) = call.core.codec(call.resource)?;
    let entry = update::current(&context, &codec).await?;
    let pod = codec.object(&entry).map_err(ApiError::internal)?;
    let phase = pod.str_at(&["status", "phase"]).unwrap_or_default();
    let ended = matches!(phase, "Succeeded" | "Failed") || pod.deletion_timestamp().is_some();
    // What has not run yet disrupts nobody; should it begin to in the meantime, it is looked at anew.
    let mut pinned = phase == "Pending" && !ended;
    if !ended && !pinned && !*taken {
        pinned = !ask_budget(call, &pod, write).await?;
        *taken = !pinned;
    }
    let mut options = options.clone();
    options.uid.get_or_insert_with(|| pod.uid().to_owned());
    if pinned && options.resource_version.is_none() {
        options.resource_version = Some(pod.resource_version().to_owned());
    }
    if !write.dry_run {
        let version = mark(&context, &options, call.core.clock.now()).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(version);
        }
    }
    delete::delete(&context, &options).await?;
    Ok(())
}

/// Tells in the pod why it ends; the version that it has then.
async fn mark(context: &WriteContext<'_>, options: &DeleteOptions, now: jiff::Timestamp) -> Result<String> {
    let mut mutate = |pod: &Object| -> Result<Decoded> {
        let conflict = |why: String| Err(ApiError::conflict("", "Pod", pod.name(), &why));
        if let Some(uid) = options.uid.as_ref().filter(|uid| *uid != pod.uid()) {
            return conflict(format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                pod.uid()
            ));
        }
        if let Some(version) = options.resource_version.as_ref().filter(|v| *v != pod.resource_version()) {
            return conflict(format!(
                "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
                pod.resource_version()
            ));
        }
        let mut marked = pod.clone();
        marked.set_resource_version("");
        let told = ("EvictionByEvictionAPI", "Eviction API: evicting");
        set_condition(&mut marked, "DisruptionTarget", "True", told, now);
        Ok(Decoded::from_patch(marked, Vec::new()))
    };
    let (committed, _) = update::update(context, Part::Status, &mut mutate).await?;
    Ok(committed.object.resource_version().to_owned())
}

/// Takes one of the disruptions that the pod's budget allows; false when none had to be taken because the pod is of no
/// use as it is.
async fn ask_budget(call: &Call<'_>, pod: &Object, write: &WriteOptions) -> Result<bool> {
    let registry = call.core.registry();
    let Some(resource) = registry.preferred("policy", "poddisruptionbudgets") else { return Ok(true) };
    let (codec, cache) = call.core.codec(resource)?;
    let mut matching = Vec::new();
    for entry in cache.list(pod.namespace()).1 {
        let budget = codec.object(&entry).map_err(ApiError::internal)?;
        let selector = schema::labels::Selector::from_label_selector(budget.struct_at(&["spec", "selector"]));
        // A selector that cannot be read selects nothing, as for the controller of budgets.
        if selector.is_ok_and(|selector| selector.matches(|key| pod.label(key))) {
            matching.push(budget);
        }
    }
    let budget = match matching.as_slice() {
        [] => return Ok(true),
        [one] => one,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::with_code(500, "", why));
        }
    };
    if !is_ready(pod) && unhealthy_may_go(budget) {
        return Ok(false);
    }
    let authorized = call.authorized.for_object(budget.name(), budget.namespace());
    let context = WriteContext { core: call.core, authorized: &authorized, resource, options: write };
    let (name, now) = (pod.name().to_owned(), call.core.clock.now());
    let mut mutate = |budget: &Object| -> Result<Decoded> {
        allows(budget)?;
        Ok(Decoded::from_patch(decremented(budget, &name, now), Vec::new()))
    };
    update::update(&context, Part::Status, &mut mutate).await?;
    Ok(true)
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.list_at(&["status", "conditions"]).unwrap_or_default();
    conditions.iter().any(|condition| {
        let text = |field: &str| condition.child(field).and_then(Value::as_str);
        text("type") == Some("Ready") && text("status") == Some("True")
    })
}

fn number(budget: &Object, field: &str) -> i64 {
    budget.int_at(&["status", field]).unwrap_or_default()
}

fn unhealthy_may_go(budget: &Object) -> bool {
    let (healthy, wanted) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow")
        || (healthy >= wanted && wanted > 0)
}

/// Whether a budget allows one more disruption.
fn allows(budget: &Object) -> Result<()> {
    const WHY: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let name = budget.name();
    let with_cause = |mut error: ApiError, message: String| {
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
        error.details.get_or_insert_default().causes.push(cause);
        Err(error)
    };
    let allowed = number(budget, "disruptionsAllowed");
    if number(budget, "observedGeneration") < budget.generation() {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return with_cause(ApiError::too_many_requests(WHY, 10), message);
    }
    let forbidden = |why: &str| ApiError::forbidden("policy", "poddisruptionbudget", name, why);
    let not_now = format!("The disruption budget {name} does not allow evicting pods currently");
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return with_cause(forbidden(why), format!("{not_now}: {why}"));
    }
    if budget.map_at(&["status", "disruptedPods"]).map_or(0, schema::Map::len) > MAX_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        let message = format!("{not_now}: too many pending evictions not confirmed by PDB controller");
        return with_cause(forbidden(why), message);
    }
    if allowed > 0 {
        return Ok(());
    }
    with_cause(ApiError::too_many_requests(WHY, 0), exhausted(budget, &not_now))
}

/// Why a budget has nothing left.
fn exhausted(budget: &Object, not_now: &str) -> String {
    let conditions = budget.list_at(&["status", "conditions"]).unwrap_or_default();
    let text = |condition: &'_ Value, field: &str| {
        condition.child(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let told = conditions
        .iter()
        .find(|condition| text(condition, "type") == "DisruptionAllowed")
        .filter(|condition| text(condition, "status") == "False" && !text(condition, "message").is_empty())
        .map(|condition| (text(condition, "reason"), text(condition, "message")));
    let (healthy, wanted) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    match told {
        Some((reason, message)) if reason == "SyncFailed" => {
            format!("{not_now} because it failed sync: {message}")
        }
        _ if healthy <= wanted => {
            let name = budget.name();
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => format!("{not_now} ({reason}): {message}"),
        None => not_now.to_owned(),
    }
}

fn decremented(budget: &Object, pod: &str, now: jiff::Timestamp) -> Object {
    let mut taken = budget.clone();
    taken.set_resource_version("");
    let left = number(budget, "disruptionsAllowed") - 1;
    if let Some(status) = taken.struct_mut("status") {
        status.set("disruptionsAllowed", Value::Int(left));
        if let Some(disrupted) = status.map_mut("disruptedPods") {
            disrupted.insert(pod, Value::Time(crate::write::prepare::whole_seconds(now)));
        }
    }
    if left == 0 {
        set_condition(&mut taken, "DisruptionAllowed", "False", ("InsufficientPods", ""), now);
    }
    taken
}

#[cfg(test)]
mod tests {
    use schema::Object;

    use super::{allows, unhealthy_may_go};

    fn budget(status: &str) -> Object {
        let kind = schema::catalogue::builtin().kind("policy", "v1", "PodDisruptionBudget").unwrap();
        let json = format!("{{\"metadata\":{{\"name\":\"b\",\"generation\":2}},\"status\":{status}}}");
        schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
    }

    #[test]
    fn budgets_say_why_they_refuse() {
        assert!(allows(&budget(r#"{"observedGeneration":2,"disruptionsAllowed":1}"#)).is_ok());
        for (status, code, wait, cause) in [
            (
                r#"{"observedGeneration":1,"disruptionsAllowed":1}"#,
                429,
                10,
                "The disruption budget b is still being processed by the server.",
            ),
            (
                r#"{"observedGeneration":2,"disruptionsAllowed":0,"desiredHealthy":3,"currentHealthy":2}"#,
                429,
                0,
                "The disruption budget b needs 3 healthy pods and has 2 currently",
            ),
            (
                r#"{"observedGeneration":2,"disruptionsAllowed":0,"desiredHealthy":3,"currentHealthy":4}"#,
                429,
                0,
                "The disruption budget b does not allow evicting pods currently",
            ),
            (
                r#"{"observedGeneration":2,"disruptionsAllowed":0,"conditions":[{"type":"DisruptionAllowed","status":"False","reason":"SyncFailed","message":"no scale"}]}"#,
                429,
                0,
                "The disruption budget b does not allow evicting pods currently because it failed sync: no scale",
            ),
            (
                r#"{"observedGeneration":2,"disruptionsAllowed":-1}"#,
                403,
                0,
                "The disruption budget b does not allow evicting pods currently: pdb disruptions allowed is negative",
            ),
        ] {
            let error = allows(&budget(status)).unwrap_err();
            let details = error.details.unwrap();
            let told = details.causes.last().unwrap();
            assert_eq!((error.code, details.retry_after_seconds), (code, wait), "{status}");
            assert_eq!(
                (told.reason.as_str(), told.message.as_str()),
                ("DisruptionBudget", cause),
                "{status}"
            );
        }
    }

    #[test]
    fn pods_of_no_use_go_when_enough_others_are_well() {
        assert!(unhealthy_may_go(&budget(r#"{"currentHealthy":3,"desiredHealthy":3}"#)));
        assert!(!unhealthy_may_go(&budget(r#"{"currentHealthy":2,"desiredHealthy":3}"#)));
        assert!(!unhealthy_may_go(&budget(r#"{"currentHealthy":0,"desiredHealthy":0}"#)));
    }
}
