//! Every object of `judged.txt` gets the errors that a kube-apiserver gave it.

use crate::field::Errors;

/// What is wrong with a new object.
pub fn judge(json: &str) -> Vec<String> {
    let meta = schema::json::peek_type_meta(json.as_bytes()).unwrap();
    let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
    let kind = schema::catalogue::builtin().kind(group, version, &meta.kind).unwrap();
    let mut object = schema::json::decode(&kind.ty, json.as_bytes()).unwrap().object;
    let rules = crate::rules(group, &meta.kind);
    (rules.defaults)(&mut object);
    (rules.prepare_create)(&mut object);
    let mut errors = Errors::new();
    (rules.validate_create)(&object, &mut errors);
    (rules.validate)(&object, &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn objects_are_judged_as_upstream_judges_them() {
    let mut seen = 0;
    for case in include_str!("judged.txt").split("\n\n") {
        let mut lines = case.lines().filter(|line| !line.starts_with('#'));
        let Some(object) = lines.next() else { continue };
        let wanted: Vec<&str> = lines.filter_map(|line| line.strip_prefix("! ")).collect();
        assert_eq!(judge(object), wanted, "{object}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}
