use serde_json::json;

use super::{CONFIG_MAP, SECRET};
use crate::field::Errors;
use crate::rules::Rules;

fn errors(rules: &Rules, kind: &str, object: &serde_json::Value) -> Vec<String> {
    let kind = schema::catalogue::builtin().kind("", "v1", kind).unwrap();
    let mut object = schema::json::decode(&kind.ty, object.to_string().as_bytes()).unwrap().object;
    (rules.defaults)(&mut object);
    let mut errors = Errors::new();
    (rules.validate)(&object, &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn secrets_have_what_their_type_needs() {
    let secret = |kind: &str, data: serde_json::Value| {
        errors(&SECRET, "Secret", &json!({"metadata": {"name": "s"}, "type": kind, "stringData": data}))
    };
    let none: [&str; 0] = [];
    let basic = "kubernetes.io/basic-auth";
    assert_eq!(
        secret(basic, json!({})),
        ["data[username]: Required value", "data[password]: Required value"]
    );
    assert_eq!(secret(basic, json!({"username": ""})), none);
    let ssh = "kubernetes.io/ssh-auth";
    assert_eq!(secret(ssh, json!({"ssh-privatekey": ""})), ["data[ssh-privatekey]: Required value"]);
    assert_eq!(secret(ssh, json!({"ssh-privatekey": "k"})), none);
    assert_eq!(secret("kubernetes.io/tls", json!({"tls.crt": ""})), ["data[tls.key]: Required value"]);
    let docker = "kubernetes.io/dockercfg";
    assert_eq!(secret(docker, json!({})), ["data[.dockercfg]: Required value"]);
    assert_eq!(secret(docker, json!({".dockercfg": "{}"})), none);
    assert_eq!(
        secret(docker, json!({".dockercfg": ""})),
        ["data[.dockercfg]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input"]
    );
    assert_eq!(
        secret("kubernetes.io/service-account-token", json!({})),
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
    );
}

#[test]
fn keys_are_names_of_files() {
    let of = |key: &str| errors(&CONFIG_MAP, "ConfigMap", &json!({"data": {key: "v"}}));
    assert_eq!(of("..").len(), 1);
    assert!(of("..").first().unwrap().ends_with("must not be '..'"));
    assert!(of("..a").first().unwrap().ends_with("must not start with '..'"));
    assert_eq!(of(".a"), Vec::<String>::new());
    assert_eq!(of("a b").len(), 1);
}

#[test]
fn null_is_no_bytes() {
    let json = json!({"binaryData": {"k": null}});
    let kind = schema::catalogue::builtin().kind("", "v1", "ConfigMap").unwrap();
    let mut object = schema::json::decode(&kind.ty, json.to_string().as_bytes()).unwrap().object;
    (CONFIG_MAP.defaults)(&mut object);
    assert_eq!(
        String::from_utf8(schema::json::encode(&object)).unwrap(),
        r#"{"metadata":{},"binaryData":{"k":""}}"#
    );
}
