use super::*;
use crate::object::Object;

const SCHEMA: &str = r#"{"type":"object","required":["spec"],"properties":{
    "spec":{"type":"object","required":["size"],"properties":{
        "size":{"type":"integer","minimum":1,"maximum":10},
        "name":{"type":"string","pattern":"^[a-z]+$","maxLength":5},
        "mode":{"type":"string","enum":["fast","slow"],"default":"fast"},
        "port":{"x-kubernetes-int-or-string":true},
        "note":{"type":"string","nullable":true},
        "any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
        "labels":{"type":"object","additionalProperties":{"type":"string"}},
        "items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["key"],
            "maxItems":2,"items":{"type":"object","properties":{"key":{"type":"string"},
            "weight":{"type":"number","default":1}}}},
        "ip":{"type":"string","format":"ipv4"},
        "choice":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},
            "oneOf":[{"required":["a"]},{"required":["b"]}]}
    }},"status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}"#;

fn ty() -> StructRef {
    structural(SCHEMA.as_bytes(), "example.com", "v1", "Foo").unwrap().into()
}

fn decode(text: &str) -> json::Decoded {
    json::decode(&ty(), text.as_bytes()).unwrap()
}

fn found(o: &Object) -> Vec<String> {
    let errors = validate(o).into_iter();
    errors.map(|e| format!("{}|{:?}|{}|{}", e.path, e.kind, e.value.unwrap_or_default(), e.detail)).collect()
}

#[test]
fn decoding_prunes_and_writes_by_name() {
    let text = r#"{"spec":{"unknown":1,"size":3,"any":{"z":1,"a":[null,1.5]},"port":"http"},
        "metadata":{"name":"x","labels":{"a":"b"},"annotations":{"c":"d"}},"kind":"Foo","apiVersion":"example.com/v1"}"#;
    let decoded = decode(text);
    assert_eq!(decoded.strict, ["unknown field \"spec.unknown\""]);
    assert_eq!(decoded.object.name(), "x");
    assert_eq!(
        String::from_utf8(json::encode(&decoded.object)).unwrap(),
        r#"{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"annotations":{"c":"d"},"labels":{"a":"b"},"name":"x"},"spec":{"any":{"a":[null,1.5],"z":1},"port":"http","size":3}}"#
    );
    assert!(found(&decoded.object).is_empty());
}

#[test]
fn defaults_are_deep() {
    let mut object = decode(r#"{"spec":{"size":1,"mode":null,"items":[{"key":"a"}]}}"#).object;
    apply_defaults(&mut object);
    let text = String::from_utf8(json::encode(&object)).unwrap();
    assert_eq!(text, r#"{"spec":{"items":[{"key":"a","weight":1}],"mode":"fast","size":1}}"#);
}

#[test]
fn errors_are_upstreams() {
    assert_eq!(found(&decode("{}").object), ["spec|Required||"]);
    for (spec, error) in [
        (
            r#"{"size":"x"}"#,
            r#"spec.size|TypeInvalid|"string"|spec.size in body must be of type integer: "string""#,
        ),
        (r#"{"size":11}"#, "spec.size|Invalid|11|spec.size in body should be less than or equal to 10"),
        (r#"{"size":0}"#, "spec.size|Invalid|0|spec.size in body should be greater than or equal to 1"),
        (r#"{"size":1,"name":"A"}"#, r#"spec.name|Invalid|"A"|spec.name in body should match '^[a-z]+$'"#),
        (r#"{"size":1,"name":"abcdef"}"#, "spec.name|TooLong||may not be more than 5 bytes"),
        (r#"{"size":1,"mode":"x"}"#, r#"spec.mode|NotSupported|"x"|supported values: "fast", "slow""#),
        (
            r#"{"size":1,"port":true}"#,
            r#"spec.port|TypeInvalid|"boolean"|spec.port in body must be of type integer,string: "boolean""#,
        ),
        (
            r#"{"size":null}"#,
            r#"spec.size|TypeInvalid|"null"|spec.size in body must be of type integer: "null""#,
        ),
        (
            r#"{"size":1,"labels":{"a":1}}"#,
            r#"spec.labels.a|TypeInvalid|"integer"|spec.labels.a in body must be of type string: "integer""#,
        ),
        (r#"{"size":1,"items":[{"key":"a"},{"key":"a"}]}"#, r#"spec.items[1]|Duplicate|{"key":"a"}|"#),
        (
            r#"{"size":1,"items":[{"key":"a"},{"key":"b"},{"key":"c"}]}"#,
            "spec.items|TooMany|3|must have at most 2 items",
        ),
        (
            r#"{"size":1,"ip":"1.2.3"}"#,
            r#"spec.ip|TypeInvalid|"1.2.3"|spec.ip in body must be of type ipv4: "1.2.3""#,
        ),
    ] {
        let object = decode(&format!(r#"{{"spec":{spec}}}"#)).object;
        assert_eq!(found(&object), [error], "{spec}");
    }
    let both = decode(r#"{"spec":{"size":1,"choice":{"a":"1","b":"2"}}}"#).object;
    assert_eq!(
        found(&both),
        [
            r#"|Invalid|""|"spec.choice" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
    assert!(found(&decode(r#"{"spec":{"size":1,"note":null}}"#).object).is_empty());
}

#[test]
fn a_schema_must_be_structural() {
    let errors = structural(br#"{"properties":{"a":{}}}"#, "g", "v1", "K").unwrap_err();
    assert_eq!(
        errors,
        [
            "openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
            "openAPIV3Schema.type: Required value: must not be empty at the root",
        ]
    );
}
