//! Services.

use std::collections::BTreeSet;

use schema::{Object, Value};

use crate::content;
use crate::edit::{self, each, made, number, text};
use crate::field::{Errors, Path};
use crate::meta::{self, NameRule, age};
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_update};

const fn column(name: &'static str, priority: i32) -> Column {
    Column { name, ty: "string", format: "", priority }
}

/// The rules of `Service`.
pub(crate) const RULES: Rules = Rules {
    defaults,
    prepare_create: |object| {
        object.remove("status");
        made(object, "status", |status| edit::present(status, "loadBalancer"));
    },
    prepare_update: |new, old, part| {
        generic_prepare_update(new, old, part);
        new.set_generation(old.generation());
        if part == Part::Main {
            drop_what_its_type_has_not(new, old);
        }
    },
    validate,
    validate_update,
    warnings: |service, _, part| if part == Part::Main { warnings(service) } else { Vec::new() },
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        column("Type", 0),
        column("Cluster-IP", 0),
        column("External-IP", 0),
        column("Port(s)", 0),
        column("Age", 0),
        column("Selector", 1),
    ],
    cells,
    selectable: &[
        ("spec.clusterIP", |service| edit::get(service, &["spec", "clusterIP"]).to_owned()),
        ("spec.type", |service| edit::get(service, &["spec", "type"]).to_owned()),
    ],
    // Names may begin with a digit since v1.36 (KEP-5311).
    name: NameRule::Label,
    ..GENERIC
};

fn defaults(service: &mut Object) {
    made(service, "spec", |spec| {
        text(spec, "sessionAffinity", "None");
        text(spec, "type", "ClusterIP");
        if edit::get(spec, &["sessionAffinity"]) == "None" {
            spec.remove("sessionAffinityConfig");
        }
        if edit::get(spec, &["sessionAffinity"]) == "ClientIP" {
            made(spec, "sessionAffinityConfig", |config| {
                made(config, "clientIP", |client| number(client, "timeoutSeconds", 10800));
            });
        }
        each(spec, "ports", |port| {
            text(port, "protocol", "TCP");
            let unset = matches!(port.get("targetPort"), None | Some(Value::Int(0)));
            let empty = port.str_at(&["targetPort"]).is_some_and(str::is_empty);
            if unset || empty {
                let own = port.int_at(&["port"]).unwrap_or_default();
                port.set("targetPort", Value::Int(own));
            }
        });
        let kind = edit::get(spec, &["type"]).to_owned();
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            text(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            edit::flag(spec, "allocateLoadBalancerNodePorts", true);
        }
        if kind != "ExternalName" {
            text(spec, "internalTrafficPolicy", "Cluster");
        }
    });
}

/// Takes away what a Service of the type that it now is does not have, where the old one had it and nobody wrote another
/// value: mostly the cluster itself gave it (`dropTypeDependentFields`).
fn drop_what_its_type_has_not(new: &mut Object, old: &Object) {
    let had = edit::get(old, &["spec", "type"]).to_owned();
    let is = edit::get(new, &["spec", "type"]).to_owned();
    let is_outside = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let Some((spec, old_spec)) = new.struct_mut("spec").zip(old.struct_at(&["spec"])) else { return };
    let drop = |spec: &mut Object, fields: &[&str]| {
        if fields.iter().all(|field| spec.get(field) == old_spec.get(field)) {
            fields.iter().for_each(|field| {
                spec.remove(field);
            });
        }
    };
    if had != "ExternalName" && is == "ExternalName" {
        drop(spec, &["clusterIP", "clusterIPs"]);
        drop(spec, &["ipFamilies"]);
        drop(spec, &["ipFamilyPolicy"]);
    }
    if is_outside(&had) && !is_outside(&is) {
        if node_ports(spec) == node_ports(old_spec) {
            each(spec, "ports", |port| {
                port.remove("nodePort");
            });
        }
        drop(spec, &["externalTrafficPolicy"]);
    }
    if has_check(old_spec) && !has_check(spec) {
        drop(spec, &["healthCheckNodePort"]);
    }
    if had == "LoadBalancer" && is != had {
        drop(spec, &["allocateLoadBalancerNodePorts"]);
        drop(spec, &["loadBalancerClass"]);
    }
    if is != "LoadBalancer" {
        made(new, "status", |status| {
            status.remove("loadBalancer");
            edit::present(status, "loadBalancer");
        });
    }
}

/// Whether a load balancer is to know which nodes have endpoints.
fn has_check(spec: &Object) -> bool {
    edit::get(spec, &["type"]) == "LoadBalancer" && edit::get(spec, &["externalTrafficPolicy"]) == "Local"
}

fn node_ports(spec: &Object) -> BTreeSet<i64> {
    let ports = edit::structs(spec, &["ports"]).filter_map(|port| port.int_at(&["nodePort"]));
    ports.filter(|port| *port != 0).collect()
}

fn validate(service: &Object, errors: &mut Errors) {
    let path = Path::new("spec");
    let Some(spec) = service.struct_at(&["spec"]) else { return };
    let kind = edit::get(spec, &["type"]);
    let headless = edit::get(spec, &["clusterIP"]) == "None";
    let ports = spec.list_at(&["ports"]).map_or(0, <[Value]>::len);
    if ports == 0 && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    if kind == "ExternalName" {
        let name = edit::get(spec, &["externalName"]).trim_end_matches('.');
        match name {
            "" => errors.required(&path.child("externalName"), ""),
            name => errors.each(&path.child("externalName"), name, NameRule::Subdomain.check(name)),
        }
    }
    validate_ports(spec, ports, &path, errors);
    validate_check(spec, &path, errors);
    meta::labels(spec.map_at(&["selector"]), &path.child("selector"), errors);
    let affinity = edit::get(spec, &["sessionAffinity"]);
    if !matches!(affinity, "None" | "ClientIP") {
        errors.not_supported(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    }
    if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &TYPES);
    }
    for (field, allowed) in
        [("externalTrafficPolicy", ["Cluster", "Local"]), ("internalTrafficPolicy", ["Cluster", "Local"])]
    {
        let value = edit::get(spec, &[field]);
        if !value.is_empty() && !allowed.contains(&value) {
            errors.not_supported(&path.child(field), value, &allowed);
        }
    }
    if let Some(given) = spec.str_at(&["trafficDistribution"]).filter(|given| !DISTRIBUTIONS.contains(given))
    {
        errors.not_supported_in_order(&path.child("trafficDistribution"), given, &DISTRIBUTIONS);
    }
}

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];

/// What has no effect, or soon will have none.
fn warnings(service: &Object) -> Vec<String> {
    let Some(spec) = service.struct_at(&["spec"]) else { return Vec::new() };
    let of = |field: &str| edit::get(spec, &[field]);
    let external_ips = spec.list_at(&["externalIPs"]).is_some_and(|list| !list.is_empty());
    let is_external = of("type") == "ExternalName";
    let mut told = Vec::new();
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    if service.annotation(HINTS).is_some() {
        let mode = "service.kubernetes.io/topology-mode";
        told.push(format!("annotation {HINTS} is deprecated, please use {mode} instead"));
    }
    let is_headless = of("type") == "ClusterIP" && of("clusterIP") == "None";
    if is_headless {
        let ignored = [
            ("loadBalancerIP", !of("loadBalancerIP").is_empty()),
            ("externalIPs", external_ips),
            ("SessionAffinity", of("sessionAffinity") != "None"),
        ];
        let ignored = ignored.into_iter().filter(|(_, is_set)| *is_set);
        told.extend(ignored.map(|(field, _)| format!("spec.{field} is ignored for headless services")));
    }
    if external_ips && !is_headless && !is_external {
        told.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if external_ips && is_external {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !of("externalName").is_empty() {
        told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if of("trafficDistribution") == "PreferClose" {
        let why = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
        told.push(format!("spec.trafficDistribution: {why}"));
    }
    told
}

fn validate_check(spec: &Object, path: &Path, errors: &mut Errors) {
    let port = spec.int_at(&["healthCheckNodePort"]).unwrap_or_default();
    if port != 0 && !has_check(spec) {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path.child("healthCheckNodePort"), port, why);
    }
}

fn validate_ports(spec: &Object, count: usize, path: &Path, errors: &mut Errors) {
    let (mut names, mut pairs, mut twice) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (index, port) in edit::structs(spec, &["ports"]).enumerate() {
        let path = path.child("ports").index(index);
        let name = edit::get(port, &["name"]);
        match name {
            "" if count > 1 => errors.required(&path.child("name"), ""),
            "" => {}
            name => {
                let problems = NameRule::Label.check(name);
                if !problems.is_empty() {
                    errors.each(&path.child("name"), name, problems);
                } else if !names.insert(name) {
                    errors.duplicate(&path.child("name"), name);
                }
            }
        }
        let number = port.int_at(&["port"]).unwrap_or_default();
        if !(1..=65535).contains(&number) {
            errors.invalid(&path.child("port"), number, "must be between 1 and 65535, inclusive");
        }
        let protocol = edit::get(port, &["protocol"]);
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.not_supported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
        let target = path.child("targetPort");
        match port.get("targetPort") {
            Some(Value::Int(number)) if !(1..=65535).contains(number) => {
                errors.invalid(&target, *number, "must be between 1 and 65535, inclusive");
            }
            Some(Value::Str(name)) => errors.each(&target, name, content::port_name(name)),
            _ => {}
        }
        if let Some(application) = port.str_at(&["appProtocol"]) {
            errors.each(&path.child("appProtocol"), application, content::qualified_name(application));
        }
        if !pairs.insert((number, protocol)) {
            twice.push((path, String::from_utf8_lossy(&schema::json::encode(port)).into_owned()));
        }
    }
    for (path, shown) in twice {
        errors.duplicate(&path, &shown);
    }
}

fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    let external = |service: &Object| edit::get(service, &["spec", "type"]) == "ExternalName";
    if part != Part::Main || external(new) || external(old) {
        return;
    }
    if let Some((new, old)) = new.struct_at(&["spec"]).zip(old.struct_at(&["spec"])) {
        let port = |spec: &Object| spec.int_at(&["healthCheckNodePort"]).unwrap_or_default();
        if has_check(new) && has_check(old) && port(old) != 0 && port(new) != port(old) {
            let path = Path::new("spec").child("healthCheckNodePort");
            errors.forbidden(&path, "field is immutable");
        }
    }
    let (ip, had) = (edit::get(new, &["spec", "clusterIP"]), edit::get(old, &["spec", "clusterIP"]));
    if ip != had && !had.is_empty() {
        let shown = crate::field::Json(format!("[{ip:?}]"));
        errors.invalid(&Path::new("spec").child("clusterIPs").index(0), shown, "may not change once set");
    }
}

fn cells(service: &Object, now: i64) -> Vec<Cell> {
    let kind = edit::get(service, &["spec", "type"]);
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let ingress: Vec<&str> = edit::structs(service, &["status", "loadBalancer", "ingress"])
        .map(|ingress| match edit::get(ingress, &["ip"]) {
            "" => edit::get(ingress, &["hostname"]),
            ip => ip,
        })
        .collect();
    let external_ips: Vec<&str> = service
        .list_at(&["spec", "externalIPs"])
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let external = match kind {
        "ExternalName" => edit::get(service, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" if ingress.is_empty() && external_ips.is_empty() => "<pending>".to_owned(),
        _ => or_none(&ingress.iter().chain(&external_ips).copied().collect::<Vec<_>>().join(",")),
    };
    let ports: Vec<String> = edit::structs(service, &["spec", "ports"])
        .map(|port| {
            let (number, protocol) =
                (port.int_at(&["port"]).unwrap_or_default(), edit::get(port, &["protocol"]));
            match port.int_at(&["nodePort"]).unwrap_or_default() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    let selector: Vec<String> = service
        .map_at(&["spec", "selector"])
        .into_iter()
        .flat_map(schema::Map::strings)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    vec![
        Cell::Text(service.name().to_owned()),
        Cell::Text(kind.to_owned()),
        Cell::Text(or_none(edit::get(service, &["spec", "clusterIP"]))),
        Cell::Text(external),
        Cell::Text(or_none(&ports.join(","))),
        Cell::Text(age(service, now)),
        Cell::Text(or_none(&selector.join(","))),
    ]
}

#[cfg(test)]
mod tests {
    use schema::Object;
    use serde_json::{Value, json};

    use super::RULES;
    use crate::field::Errors;
    use crate::rules::Part;

    fn service(spec: &Value) -> Object {
        let kind = schema::catalogue::builtin().kind("", "v1", "Service").unwrap();
        let json = json!({"metadata": {"name": "s"}, "spec": spec}).to_string();
        let mut service = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
        (RULES.defaults)(&mut service);
        service
    }

    fn told(spec: &Value) -> Vec<String> {
        let mut errors = Errors::new();
        (RULES.validate)(&service(spec), &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_say_where_they_lead() {
        let port = |more: &str, value: Value| told(&json!({"ports": [{"port": 80, more: value}]}));
        assert_eq!(port("targetPort", json!("http")), Vec::<String>::new());
        assert!(port("targetPort", json!("Bad_Name")).concat().contains("alpha-numeric characters"));
        assert_eq!(port("appProtocol", json!("a.b/c")), Vec::<String>::new());
        assert!(
            port("appProtocol", json!("a b"))
                .concat()
                .starts_with("spec.ports[0].appProtocol: Invalid value")
        );
        let twice =
            told(&json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80, "targetPort": 0}]}));
        assert!(twice.concat().starts_with("spec.ports[1]: Duplicate value"), "{twice:?}");
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let warnings = |spec: Value| (RULES.warnings)(&service(&spec), None, Part::Main);
        let headless = json!({"clusterIP": "None", "sessionAffinity": "ClientIP"});
        assert_eq!(warnings(headless), ["spec.SessionAffinity is ignored for headless services"]);
        assert_eq!(warnings(json!({"clusterIP": "None"})), Vec::<String>::new());
        let close = json!({"trafficDistribution": "PreferClose"});
        let why = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        assert_eq!(warnings(close), [why]);
        let wrong = told(&json!({"ports": [{"port": 1}], "trafficDistribution": "x", "type": "y"}));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(
            service(&json!({"sessionAffinityConfig": {"clientIP": {}}}))
                .at(&["spec", "sessionAffinityConfig"])
                .is_none()
        );
    }
}
