//! What a LimitRange of the namespace gives a pod, and what it forbids (`plugin/pkg/admission/limitranger`).

use std::collections::BTreeMap;

use schema::quantity::Quantity;
use schema::{Object, Value};

use super::resources::{container_limits, container_requests};
use super::validate::read::{amounts, entries, items, sub, text};
use crate::edit;

type Amounts = BTreeMap<String, Quantity>;

/// Gives containers the requests and limits that they leave out, and writes down in an annotation which.
pub fn fill_in(range: &Object, pod: &mut Object) {
    let Some(spec) = sub(range, "spec") else { return };
    let of = |field: &str| -> BTreeMap<String, String> {
        items(spec, "limits")
            .filter(|limit| text(limit, "type") == "Container")
            .flat_map(|limit| entries(limit, field))
            .map(|(name, amount)| (name.to_owned(), amount.to_owned()))
            .collect()
    };
    let (requests, limits) = (of("defaultRequest"), of("default"));
    let mut told = Vec::new();
    edit::within(pod, "spec", |spec| {
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            edit::each(spec, list, |container| {
                let name = text(container, "name").to_owned();
                let set_limits = add(container, "limits", &limits);
                let set_requests = add(container, "requests", &requests);
                for (set, kind) in [(set_requests, "request"), (set_limits, "limit")] {
                    if !set.is_empty() {
                        told.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                    }
                }
            });
        }
    });
    if let (false, Some(annotations)) = (told.is_empty(), pod.metadata_mut().map_mut("annotations")) {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        annotations.insert("kubernetes.io/limit-ranger", text);
    }
}

fn add<'n>(container: &mut Object, field: &str, wanted: &'n BTreeMap<String, String>) -> Vec<&'n str> {
    let missing: Vec<(&String, &String)> =
        wanted.iter().filter(|(name, _)| container.at(&["resources", field, name]).is_none()).collect();
    if !missing.is_empty() {
        edit::made(container, "resources", |resources| {
            let Some(map) = resources.map_mut(field) else { return };
            for (name, amount) in &missing {
                map.insert(name.as_str(), Value::Str((*amount).clone()));
            }
        });
    }
    missing.into_iter().map(|(name, _)| name.as_str()).collect()
}

/// What of a pod a LimitRange forbids; `None` when nothing.
pub fn forbidden(range: &Object, pod: &Object) -> Option<String> {
    let (limits, spec) = (sub(range, "spec")?, sub(pod, "spec")?);
    let mut problems = Vec::new();
    for limit in items(limits, "limits") {
        match text(limit, "type") {
            "Container" => {
                for container in items(spec, "containers").chain(items(spec, "initContainers")) {
                    let (requests, limits) = (of(container, "requests"), of(container, "limits"));
                    check(limit, "Container", &requests, &limits, &mut problems);
                }
            }
            "Pod" => {
                let whole = |mut sum: Amounts, field: &str| {
                    let own = of(spec, field).into_iter();
                    sum.extend(own.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")));
                    sum
                };
                let requests = whole(container_requests(spec), "requests");
                let limits = whole(container_limits(spec), "limits");
                check(limit, "Pod", &requests, &limits, &mut problems);
            }
            _ => {}
        }
    }
    aggregate(problems)
}

/// What of a claim a LimitRange forbids; `None` when nothing.
pub fn forbidden_claim(range: &Object, claim: &Object) -> Option<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = of(sub(claim, "spec")?, "requests");
    let mut problems = Vec::new();
    for limit in items(sub(range, "spec")?, "limits").filter(|limit| text(limit, "type") == KIND) {
        for (name, least) in amounts(limit, "min") {
            problems.extend(minimum(KIND, name, &least, requests.get(name), None));
        }
        for (name, most) in amounts(limit, "max") {
            let head = format!("maximum {name} usage per {KIND} is {most}");
            match requests.get(name) {
                None => problems.push(format!("{head}.  No request is specified")),
                Some(request) if *request > most => {
                    problems.push(format!("{head}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    aggregate(problems)
}

fn of(object: &Object, field: &str) -> Amounts {
    let resources = sub(object, "resources").into_iter();
    resources.flat_map(|own| amounts(own, field)).map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn check(limit: &Object, kind: &str, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    for (name, least) in amounts(limit, "min") {
        problems.extend(minimum(kind, name, &least, requests.get(name), limits.get(name)));
    }
    for (name, most) in amounts(limit, "max") {
        problems.extend(maximum(kind, name, &most, requests.get(name), limits.get(name)));
    }
    for (name, most) in amounts(limit, "maxLimitRequestRatio") {
        problems.extend(ratio(kind, name, &most, requests.get(name), limits.get(name)));
    }
}

type Amount<'q> = Option<&'q Quantity>;

fn minimum(
    kind: &str,
    name: &str,
    least: &Quantity,
    request: Amount<'_>,
    limit: Amount<'_>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {least}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{head}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    kind: &str,
    name: &str,
    most: &Quantity,
    request: Amount<'_>,
    limit: Amount<'_>,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {most}");
    match (request, limit) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(limit)) if limit > most => Some(format!("{head}, but limit is {limit}")),
        (Some(request), _) if request > most => Some(format!("{head}, but request is {request}")),
        _ => None,
    }
}

fn ratio(kind: &str, name: &str, most: &Quantity, request: Amount<'_>, limit: Amount<'_>) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {most}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let found = limit.as_f64() / request.as_f64();
    (found > most.as_f64()).then(|| format!("{head}, but provided ratio is {found:.6}"))
}

/// Several errors as Go's aggregates tell them: each once, in brackets when there are more.
fn aggregate(problems: Vec<String>) -> Option<String> {
    let mut once: Vec<String> = Vec::new();
    for problem in problems {
        if !once.contains(&problem) {
            once.push(problem);
        }
    }
    match once.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;

    fn object(kind: &str, json: &str) -> Object {
        let kind = schema::catalogue::builtin().kind("", "v1", kind).unwrap();
        schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object
    }

    const RANGE: &str = r#"{"spec":{"limits":[
        {"type":"Container","default":{"cpu":"500m"},"defaultRequest":{"cpu":"100m","memory":"64Mi"},"min":{"cpu":"50m"},"max":{"cpu":"1"},"maxLimitRequestRatio":{"cpu":"4"}},
        {"type":"Pod","max":{"cpu":"2"}}]}}"#;

    #[test]
    fn containers_get_what_they_leave_out() {
        let mut pod = object(
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"i"}],"initContainers":[{"name":"i","image":"i","resources":{"requests":{"cpu":"1"}}}]}}"#,
        );
        super::fill_in(&object("LimitRange", RANGE), &mut pod);
        assert_eq!(
            pod.annotation("kubernetes.io/limit-ranger"),
            Some(
                "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c; memory request for init container i; cpu limit for init container i"
            )
        );
        let container = pod.list_at(&["spec", "containers"]).unwrap()[0].as_struct().unwrap();
        assert_eq!(container.str_at(&["resources", "limits", "cpu"]), Some("500m"));
        assert_eq!(container.str_at(&["resources", "requests", "memory"]), Some("64Mi"));
    }

    #[test]
    fn what_a_range_forbids() {
        let range = object("LimitRange", RANGE);
        let judge = |resources: &str| {
            let pod = object(
                "Pod",
                &format!(
                    r#"{{"spec":{{"containers":[{{"name":"c","image":"i","resources":{resources}}}]}}}}"#
                ),
            );
            super::forbidden(&range, &pod)
        };
        assert_eq!(judge(r#"{"requests":{"cpu":"250m"},"limits":{"cpu":"1"}}"#), None);
        assert_eq!(
            judge(r#"{"requests":{"cpu":"10m"},"limits":{"cpu":"3"}}"#).as_deref(),
            Some(
                "[minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, but limit is 3, cpu max limit to request ratio per Container is 4, but provided ratio is 300.000000, maximum cpu usage per Pod is 2, but limit is 3]"
            )
        );
        assert_eq!(
            judge("{}").unwrap().split(", ").next(),
            Some("[minimum cpu usage per Container is 50m.  No request is specified")
        );
        let claims = object(
            "LimitRange",
            r#"{"spec":{"limits":[{"type":"PersistentVolumeClaim","max":{"storage":"1Gi"}}]}}"#,
        );
        let claim =
            object("PersistentVolumeClaim", r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#);
        assert_eq!(
            super::forbidden_claim(&claims, &claim).as_deref(),
            Some("maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi")
        );
    }
}
