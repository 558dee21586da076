use jiff::Timestamp;

use super::*;
use crate::object::Object;
use crate::{builtin, json};

fn deployment(text: &str) -> Object {
    let ty = &builtin().kind("apps", "v1", "Deployment").unwrap().ty;
    json::decode(ty, text.as_bytes()).unwrap().object
}

fn fields(o: &Object, at: usize) -> String {
    let list = o.metadata().list_at(&["managedFields"]).unwrap_or_default();
    let entry = list.get(at).and_then(|e| e.as_struct()).unwrap();
    String::from_utf8(entry.get("fieldsV1").unwrap().as_bytes().unwrap().to_vec()).unwrap()
}

const CREATED: &str = r#"{"metadata":{"name":"a","labels":{"app":"a"}},"spec":{"replicas":2,
    "selector":{"matchLabels":{"app":"a"}},"template":{"spec":{"containers":[{"name":"c","image":"i",
    "ports":[{"containerPort":80,"protocol":"TCP"}],"args":["x"],"resources":{}}]}}}}"#;

#[test]
fn texts_read_back() {
    let text = r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:set":{"v:\"x\"":{},"v:1":{}}}}"#;
    let set = FieldSet::parse(text.as_bytes()).unwrap();
    let expected = text.replace(r#""v:\"x\"":{},"v:1":{}"#, r#""v:1":{},"v:\"x\"":{}"#);
    assert_eq!(String::from_utf8(set.to_json()).unwrap(), expected);
    assert!(FieldSet::parse(b"{\"nothing\":{}}").is_err());
}

fn write<'a>(manager: &'a str, subresource: &'a str) -> Write<'a> {
    let reset: &[&[&str]] = if subresource.is_empty() { &[&["status"]] } else { &[&["spec"]] };
    Write { manager, api_version: "apps/v1", subresource, about: About::AllBut(reset) }
}

#[test]
fn a_creator_owns_what_it_set() {
    let mut new = deployment(CREATED);
    let time = Timestamp::from_second(1000).unwrap();
    update_managed_fields(None, &mut new, &write("kubectl", ""), time);
    assert_eq!(
        fields(&new, 0),
        r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}}}}}}"#
    );
}

#[test]
fn an_update_takes_only_what_it_changed() {
    let mut old = deployment(CREATED);
    let early = Timestamp::from_second(1000).unwrap();
    let late = Timestamp::from_second(2000).unwrap();
    update_managed_fields(None, &mut old, &write("a", ""), early);

    let mut same = old.clone();
    update_managed_fields(Some(&old), &mut same, &write("b", ""), late);
    assert_eq!(same, old);

    let mut new = old.clone();
    new.struct_mut("spec").unwrap().set("replicas", 3i64);
    update_managed_fields(Some(&old), &mut new, &write("b", ""), late);
    assert!(!fields(&new, 0).contains("f:replicas"));
    assert_eq!(fields(&new, 1), r#"{"f:spec":{"f:replicas":{}}}"#);

    let mut scaled = new.clone();
    scaled.struct_mut("status").unwrap().set("replicas", 3i64);
    update_managed_fields(Some(&new), &mut scaled, &write("c", "status"), late);
    assert_eq!(fields(&scaled, 2), r#"{"f:status":{"f:replicas":{}}}"#);

    let mut bare = scaled.clone();
    bare.metadata_mut().remove("managedFields");
    update_managed_fields(Some(&scaled), &mut bare, &write("d", ""), late);
    assert_eq!(bare, scaled);
}

#[test]
fn old_updaters_are_merged() {
    let mut object = deployment(CREATED);
    for i in 0..15 {
        let mut next = object.clone();
        next.metadata_mut().map_mut("annotations").unwrap().insert(format!("k{i}"), "v");
        let time = Timestamp::from_second(1000 + i).unwrap();
        let old = (i > 0).then_some(&object);
        update_managed_fields(old, &mut next, &write(&format!("m{i}"), ""), time);
        object = next;
    }
    let list = object.metadata().list_at(&["managedFields"]).unwrap();
    assert_eq!(list.len(), 10);
    let names: Vec<_> = list.iter().map(|e| e.as_struct().unwrap().str_at(&["manager"]).unwrap()).collect();
    assert!(names.contains(&"ancient-changes") && names.contains(&"m14"));
}

#[test]
fn what_a_write_resets_is_nobodys_and_saying_it_again_changes_no_time() {
    let mut old = deployment(CREATED);
    let (early, late) = (Timestamp::from_second(1000).unwrap(), Timestamp::from_second(2000).unwrap());
    update_managed_fields(None, &mut old, &write("a", ""), early);
    let mut new = old.clone();
    new.struct_mut("spec").unwrap().set("replicas", 3i64);
    new.struct_mut("status").unwrap().set("replicas", 3i64);
    update_managed_fields(Some(&old), &mut new, &write("b", "status"), late);
    assert!(fields(&new, 0).contains("f:replicas"), "the specification is not this write's");
    assert_eq!(fields(&new, 1), r#"{"f:status":{"f:replicas":{}}}"#);
    // What the write changed is put back, so that only the time of its entry would be new.
    let mut again = old.clone();
    again.struct_mut("spec").unwrap().set("replicas", 4i64);
    update_managed_fields(Some(&old), &mut again, &write("a", ""), late);
    again.struct_mut("spec").unwrap().set("replicas", old.int_at(&["spec", "replicas"]));
    assert_ne!(again, old);
    forget_new_times(&old, &mut again);
    assert_eq!(again, old);
}

fn owned(group: &str, kind: &str, subresource: &str, json: &str) -> Option<String> {
    let kind = crate::builtin().kind(group, "v1", kind).unwrap();
    let mut object = crate::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    update_managed_fields(None, &mut object, &write("a", subresource), Timestamp::from_second(1000).unwrap());
    object.metadata().get("managedFields").map(|_| fields(&object, 0))
}

#[test]
fn a_reference_is_one_part_but_where_its_field_says_otherwise() {
    let volume = r#"{"metadata":{"name":"v"},"spec":{"claimRef":{"name":"c","namespace":"n"}}}"#;
    let of_volume = owned("", "PersistentVolume", "", volume).unwrap();
    assert_eq!(of_volume, r#"{"f:spec":{"f:claimRef":{".":{},"f:name":{},"f:namespace":{}}}}"#);
    let event = r#"{"metadata":{"name":"e"},"involvedObject":{"name":"c"}}"#;
    assert_eq!(owned("", "Event", "", event).unwrap(), r#"{"f:involvedObject":{}}"#);
}

#[test]
fn any_json_in_a_built_in_kind_is_one_part() {
    let claim = r#"{"metadata":{"name":"c"},"status":{"devices":[{"driver":"d","pool":"p","device":"x","data":{"a":{"b":1}}}]}}"#;
    let of_claim = owned("resource.k8s.io", "ResourceClaim", "status", claim).unwrap();
    assert!(of_claim.contains(r#""f:data":{}"#), "{of_claim}");
}

#[test]
fn of_an_object_with_an_item_that_has_no_key_nothing_is_anybodys() {
    let account = |secrets: &str| {
        owned("", "ServiceAccount", "", &format!(r#"{{"metadata":{{"name":"s"}},"secrets":{secrets}}}"#))
    };
    assert_eq!(account(r#"[{"name":"a"}]"#).unwrap(), r#"{"f:secrets":{".":{},"k:{\"name\":\"a\"}":{}}}"#);
    assert_eq!(account(r#"[{"name":"a"},{}]"#), None);
}
