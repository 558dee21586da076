use super::*;
use crate::builtin;

fn pod(json: &str) -> Object {
    let ty = &builtin().kind("", "v1", "Pod").unwrap().ty;
    json::decode(ty, json.as_bytes()).unwrap().object
}

fn spec(result: Result<Decoded, PatchError>) -> String {
    match result {
        Ok(decoded) => {
            let json = json::encode(&decoded.object);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            value["spec"].to_string()
        }
        Err(error) => error.to_string(),
    }
}

const POD: &str = r#"{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b","image":"y"}],
    "nodeName":"n","tolerations":[{"key":"k"}]}}"#;

#[test]
fn json_patches() {
    let original = pod(POD);
    let apply = |patch: &str| spec(json_patch(&original, patch.as_bytes()));
    assert!(
        apply(r#"[{"op":"replace","path":"/spec/containers/0/image","value":"z"}]"#)
            .contains(r#""image":"z""#)
    );
    assert!(
        apply(r#"[{"op":"add","path":"/spec/containers/-","value":{"name":"c"}}]"#).contains(r#""name":"c""#)
    );
    assert!(!apply(r#"[{"op":"remove","path":"/spec/nodeName"}]"#).contains("nodeName"));
    assert!(
        apply(r#"[{"op":"copy","from":"/spec/nodeName","path":"/spec/hostname"}]"#)
            .contains(r#""hostname":"n""#)
    );
    for (patch, error) in [
        (
            r#"[{"op":"test","path":"/spec/nodeName","value":"m"}]"#,
            "testing value /spec/nodeName failed: test failed",
        ),
        (
            r#"[{"op":"remove","path":"/spec/x"}]"#,
            "error in remove for path: '/spec/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            r#"[{"op":"add","path":"/a/b","value":1}]"#,
            "add operation does not apply: doc is missing path: \"/a/b\": missing value",
        ),
        (r#"[{"op":"jump","path":"/a"}]"#, "Unexpected kind: jump"),
    ] {
        assert_eq!(apply(patch), error);
    }
    assert!(matches!(json_patch(&original, b"{}"), Err(PatchError::Malformed(_))));
}

#[test]
fn merge_patches() {
    let original = pod(POD);
    let patched = merge_patch(&original, br#"{"spec":{"nodeName":null,"hostname":"h","x":1}}"#).unwrap();
    assert_eq!(patched.strict, ["unknown field \"spec.x\""]);
    assert_eq!(patched.object.str_at(&["spec", "hostname"]), Some("h"));
    assert_eq!(patched.object.at(&["spec", "nodeName"]), None);
}

#[test]
fn strategic_merges() {
    let original = pod(POD);
    let apply = |patch: &str| {
        let merged = strategic_merge(&original, patch.as_bytes()).map_err(|e| e.to_string())?;
        let containers = merged.object.list_at(&["spec", "containers"]).unwrap_or_default();
        let names = containers.iter().map(|c| {
            let c = c.as_struct().unwrap();
            format!("{}={}", c.str_at(&["name"]).unwrap_or(""), c.str_at(&["image"]).unwrap_or(""))
        });
        Ok::<_, String>(names.collect::<Vec<_>>().join(","))
    };
    assert_eq!(apply(r#"{"spec":{"containers":[{"name":"b","image":"z"}]}}"#).unwrap(), "a=x,b=z");
    assert_eq!(apply(r#"{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}"#).unwrap(), "b=y");
    assert_eq!(apply(r#"{"spec":{"containers":[{"$patch":"replace"},{"name":"q"}]}}"#).unwrap(), "q=");
    assert_eq!(
        apply(r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}}"#).unwrap(),
        "b=y,a=x"
    );
    assert_eq!(
        apply(r#"{"spec":{"containers":[{"image":"q"}]}}"#).unwrap_err(),
        "map: map[image:q] does not contain declared merge key: name"
    );
    assert_eq!(
        apply(r#"{"spec":{"containers":[{"$patch":"x"}]}}"#).unwrap_err(),
        "unknown patch type: x in map: map[$patch:x]"
    );
}

#[test]
fn what_a_patch_makes_is_shown_as_upstream_writes_it() {
    let json = r#"{"metadata":{"name":"p","labels":{"a":"b"}},"spec":{"nodeName":"n","containers":[
        {"name":"a","image":"x"},{"name":"b","image":"y"}],"hostname":"h"}}"#;
    let original = pod(json);
    let merged = patched_text(&original, br#"{"spec":{"hostname":5}}"#, true).unwrap();
    // Of what is changed the members are sorted; the rest is as it was.
    let (metadata, a, b) = (
        r#"{"metadata":{"name":"p","labels":{"a":"b"}},"#,
        r#"{"name":"a","image":"x","resources":{}}"#,
        r#"{"name":"b","image":"y","resources":{}}"#,
    );
    assert_eq!(
        merged,
        format!(r#"{metadata}"spec":{{"containers":[{a},{b}],"hostname":5,"nodeName":"n"}},"status":{{}}}}"#)
    );
    let operation = br#"[{"op":"replace","path":"/spec/containers/0","value":"c"}]"#;
    let patched = patched_text(&original, operation, false).unwrap();
    assert_eq!(
        patched,
        format!(
            r#"{metadata}"spec":{{"containers":["c",{b}],"hostname":"h","nodeName":"n"}},"status":{{}}}}"#
        )
    );
}

#[test]
fn strategic_merges_that_are_no_pod_are_told_as_upstream_does() {
    let original = pod(POD);
    for (patch, error) in [
        (r#"{"spec":{"containers":"x"}}"#, "cannot restore slice from string"),
        (r#"{"spec":{"tolerations":{}}}"#, "cannot restore slice from map"),
        (r#"{"spec":{"tolerations":[5]}}"#, "cannot restore struct from: int64"),
        (r#"{"spec":{"containers":[{"name":"a","command":[5]}]}}"#, "cannot convert int64 to string"),
        (r#"{"spec":{"restartPolicy":5}}"#, "cannot convert int64 to v1.RestartPolicy"),
        (r#"{"spec":{"restartPolicy":true}}"#, "unrecognized type: string"),
        (r#"{"spec":{"hostNetwork":"x"}}"#, "unrecognized type: bool"),
        (r#"{"spec":{"priority":1.5}}"#, "cannot convert float64 to int32"),
        (r#"{"spec":{"nodeSelector":[]}}"#, "cannot restore map from slice"),
    ] {
        assert_eq!(spec(strategic_merge(&original, patch.as_bytes())), error, "{patch}");
    }
}

#[test]
fn numbers_that_are_too_large_lose_their_upper_bits_in_strategic_merges_alone() {
    let kind = crate::builtin().kind("apps", "v1", "Deployment").unwrap();
    let object = crate::json::decode(&kind.ty, br#"{"metadata":{"name":"d"}}"#).unwrap().object;
    let patch = br#"{"spec":{"replicas":2147483648,"minReadySeconds":5.0}}"#;
    let merged = strategic_merge(&object, patch).unwrap().object;
    assert_eq!(merged.int_at(&["spec", "replicas"]), Some(i64::from(i32::MIN)));
    assert_eq!(merged.int_at(&["spec", "minReadySeconds"]), Some(5));
    assert!(matches!(merge_patch(&object, patch), Err(PatchError::Decode(_))));
}

#[test]
fn null_is_no_merge_patch_but_an_empty_strategic_one_and_an_operation_that_says_nothing() {
    let kind = crate::builtin().kind("", "v1", "ConfigMap").unwrap();
    let object = crate::json::decode(&kind.ty, br#"{"metadata":{"name":"c"}}"#).unwrap().object;
    let message = |error: PatchError| error.to_string();
    assert_eq!(merge_patch(&object, b"null").map_err(message).unwrap_err(), "Invalid JSON Patch");
    assert_eq!(strategic_merge(&object, b"null").unwrap().object, object);
    assert!(matches!(json_patch(&object, b"[null]"), Err(PatchError::Unprocessable(_))));
    assert_eq!(
        json_patch(&object, b"[1]").map_err(message).unwrap_err(),
        "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"
    );
    assert_eq!(
        merge_patch(&object, b"nul").map_err(message).unwrap_err(),
        "error decoding patch: invalid character ' ' in literal null (expecting 'l')"
    );
}

#[test]
fn lists_that_a_merge_patch_brings_are_written_in_the_order_of_their_names() {
    let kind = crate::builtin().kind("apps", "v1", "DaemonSet").unwrap();
    let json = br#"{"metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"a","image":"i"}]}}}}"#;
    let object = crate::json::decode(&kind.ty, json).unwrap().object;
    let patch = br#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"i","tty":1}]}}}}"#;
    let text = patched_text(&object, patch, true).unwrap();
    assert!(text.contains(r#"[{"image":"i","name":"a","tty":1}]"#), "{text}");
    // What it leaves alone is in the order of the fields.
    assert!(text.contains(r#"{"currentNumberScheduled":0,"numberMisscheduled":0,"#), "{text}");
}

#[test]
fn what_reads_its_own_json_does_not_know_its_field() {
    let told = |kind: &str, group: &str, patch: &str| {
        let kind = crate::builtin().kind(group, "v1", kind).unwrap();
        let object = crate::json::decode(&kind.ty, br#"{"metadata":{"name":"x"}}"#).unwrap().object;
        strategic_merge(&object, patch.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        told("Secret", "", r#"{"data":{"k":"x"}}"#),
        "error decoding from json: illegal base64 data at input byte 0"
    );
    assert_eq!(
        told("Lease", "coordination.k8s.io", r#"{"spec":{"renewTime":1}}"#),
        "json: cannot unmarshal number into Go value of type string"
    );
}
