use schema::Object;

use crate::field::Errors;
use crate::judged::judge;
use crate::{Part, rules};

const HEAD: &str = "\"apiVersion\":\"resource.k8s.io/v1\"";

fn decode(kind: &str, rest: &str) -> Object {
    let text = format!("{{{HEAD},\"kind\":\"{kind}\",\"metadata\":{{\"name\":\"c\"}},{rest}}}");
    let kind = schema::catalogue::builtin().kind("resource.k8s.io", "v1", kind).unwrap();
    schema::json::decode(&kind.ty, text.as_bytes()).unwrap().object
}

#[test]
fn a_class_whose_expression_does_not_compile_is_refused() {
    let class = |expression: &str| {
        judge(&format!(
            "{{{HEAD},\"kind\":\"DeviceClass\",\"metadata\":{{\"name\":\"c\"}},\"spec\":{{\"selectors\":[{{\"cel\":\
             {{\"expression\":\"{expression}\"}}}}]}}}}"
        ))
    };
    assert_eq!(class("device.driver == 'd'"), [""; 0]);
    let why = "spec.selectors[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the \
               unknown type, not string";
    assert_eq!(class("device.driver"), [why]);
    let [unknown] = &class("nothing")[..] else { panic!() };
    let why = "spec.selectors[0].cel.expression: Invalid value: \"nothing\": compilation failed: ERROR: \
               <input>:1:1: undeclared reference to 'nothing' (in container '')";
    assert!(unknown.starts_with(why), "{unknown}");
}

#[test]
fn an_empty_status_takes_away_what_was_there() {
    let decode = |status: &str| decode("ResourceClaim", &format!("\"status\":{status}"));
    let old = decode("{\"reservedFor\":[{\"resource\":\"pods\",\"name\":\"p\",\"uid\":\"u\"}]}");
    let mut new = decode("{}");
    (rules("resource.k8s.io", "ResourceClaim").prepare_update)(&mut new, &old, Part::Status);
    assert_eq!(new.list_at(&["status", "reservedFor"]).unwrap_or_default().len(), 0);
}

#[test]
fn what_a_claim_asks_for_stays() {
    let claim = |count: i64| {
        let exactly = format!("{{\"deviceClassName\":\"x\",\"count\":{count}}}");
        let requests = format!("[{{\"name\":\"a\",\"exactly\":{exactly}}}]");
        decode("ResourceClaim", &format!("\"spec\":{{\"devices\":{{\"requests\":{requests}}}}}"))
    };
    let judged = |new: i64| {
        let mut errors = Errors::new();
        let rules = rules("resource.k8s.io", "ResourceClaim");
        (rules.validate_update)(&claim(new), &claim(1), Part::Main, &mut errors);
        errors.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(judged(1), [""; 0]);
    let [why] = &judged(2)[..] else { panic!() };
    assert!(why.starts_with("spec: Invalid value: {\"Devices\":{\"Requests\":[{\"Name\":\"a\""), "{why}");
    assert!(why.ends_with(": field is immutable"), "{why}");
}

#[test]
fn an_expression_that_may_cost_too_much_is_refused() {
    let mut expression = "true".to_owned();
    for name in ["a", "b", "c", "d"] {
        expression = format!("device.attributes.all({name}, {expression})");
    }
    let spec = format!("{{\"selectors\":[{{\"cel\":{{\"expression\":\"{expression}\"}}}}]}}");
    let class =
        format!("{{{HEAD},\"kind\":\"DeviceClass\",\"metadata\":{{\"name\":\"c\"}},\"spec\":{spec}}}");
    assert_eq!(
        judge(&class),
        ["spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"]
    );
}

#[test]
fn a_taint_says_since_when_it_is_there() {
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let (first, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let slice = |value: &str| {
        let taints = format!("[{{\"key\":\"k\",\"value\":\"{value}\",\"effect\":\"NoExecute\"}}]");
        let devices = format!("[{{\"name\":\"a\",\"taints\":{taints}}}]");
        decode("ResourceSlice", &format!("\"spec\":{{\"driver\":\"d\",\"devices\":{devices}}}"))
    };
    let dated = rules("resource.k8s.io", "ResourceSlice").dated;
    let time = |slice: &Object| {
        let device = slice.list_at(&["spec", "devices"]).unwrap()[0].as_struct().unwrap();
        let taint = device.list_at(&["taints"]).unwrap()[0].as_struct().unwrap();
        taint.get("timeAdded").unwrap().as_time().unwrap()
    };
    let mut old = slice("v");
    dated(&mut old, None, first);
    assert_eq!(time(&old), first);
    for (value, expected) in [("v", first), ("w", later)] {
        let mut new = slice(value);
        dated(&mut new, Some(&old), later);
        assert_eq!(time(&new), expected, "{value}");
    }
    let rule = |effect: &str| {
        decode(
            "DeviceTaintRule",
            &format!("\"spec\":{{\"taint\":{{\"key\":\"k\",\"effect\":\"{effect}\"}}}}"),
        )
    };
    let dated = rules("resource.k8s.io", "DeviceTaintRule").dated;
    let mut old = rule("None");
    dated(&mut old, None, first);
    let mut new = old.clone();
    new.struct_mut("spec").unwrap().struct_mut("taint").unwrap().set("effect", "NoExecute");
    dated(&mut new, Some(&old), later);
    let time = |rule: &Object| rule.at(&["spec", "taint", "timeAdded"]).unwrap().as_time().unwrap();
    assert_eq!((time(&old), time(&new)), (first, later));
}
