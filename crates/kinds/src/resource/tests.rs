use crate::judged::judge;

const HEAD: &str = "\"apiVersion\":\"resource.k8s.io/v1\"";

fn claim(devices: &str) -> Vec<String> {
    judge(&format!(
        "{{{HEAD},\"kind\":\"ResourceClaim\",\"metadata\":{{\"name\":\"c\"}},\"spec\":{{\"devices\":{devices}}}}}"
    ))
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
fn a_claim_gets_its_defaults_and_is_looked_through() {
    let good = "{\"requests\":[{\"name\":\"a\",\"exactly\":{\"deviceClassName\":\"x\"}},\
                {\"name\":\"b\",\"firstAvailable\":[{\"name\":\"s\",\"deviceClassName\":\"x\"}]}],\
                \"constraints\":[{\"requests\":[\"a\",\"b/s\"],\"matchAttribute\":\"d/m\"}]}";
    assert_eq!(claim(good), [""; 0]);
    let bad = "{\"requests\":[{\"name\":\"a\",\"exactly\":{\"deviceClassName\":\"x\",\"allocationMode\":\"All\",\
               \"count\":2}},{\"name\":\"a\",\"exactly\":{}},{\"name\":\"c\"}],\
               \"constraints\":[{\"requests\":[\"a/s\"],\"matchAttribute\":\"d/m\"}]}";
    let requests = "spec.devices.requests";
    let name = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    assert_eq!(
        claim(bad),
        [
            format!("{requests}[1]: Duplicate value: \"a\""),
            format!(
                "{requests}[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"
            ),
            format!("{requests}[1].exactly.deviceClassName: Required value"),
            format!(
                "{requests}[2]: Required value: exactly one of `exactly` or `firstAvailable` is required"
            ),
            format!("spec.devices.constraints[0].requests[0]: Invalid value: \"a/s\": {name}"),
        ]
    );
}

#[test]
fn an_empty_status_takes_away_what_was_there() {
    let decode = |status: &str| {
        let text = format!(
            "{{{HEAD},\"kind\":\"ResourceClaim\",\"metadata\":{{\"name\":\"c\"}},\"status\":{status}}}"
        );
        let kind = schema::catalogue::builtin().kind("resource.k8s.io", "v1", "ResourceClaim").unwrap();
        schema::json::decode(&kind.ty, text.as_bytes()).unwrap().object
    };
    let old = decode("{\"reservedFor\":[{\"resource\":\"pods\",\"name\":\"p\",\"uid\":\"u\"}]}");
    let mut new = decode("{}");
    (crate::rules("resource.k8s.io", "ResourceClaim").prepare_update)(&mut new, &old, crate::Part::Status);
    assert_eq!(new.list_at(&["status", "reservedFor"]).unwrap_or_default().len(), 0);
}
