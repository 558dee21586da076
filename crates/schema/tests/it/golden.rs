//! Upstream's golden objects, of this version and the ones before.

use std::path::{Path, PathBuf};
use std::process::Command;

use schema::{Kind, builtin, json, protobuf, transcode, yaml};

fn testdata() -> PathBuf {
    let gen_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("gen");
    let out = Command::new("go")
        .args(["mod", "download", "-json", "k8s.io/api"])
        .current_dir(gen_dir)
        .output()
        .expect("go must be on the PATH");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let module: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    Path::new(module["Dir"].as_str().unwrap()).join("testdata")
}

struct Golden {
    name: String,
    kind: &'static Kind,
    json: Vec<u8>,
    yaml: Vec<u8>,
    pb: Vec<u8>,
    /// What a round trip gives, where that is not the same.
    after: [Option<Vec<u8>>; 3],
}

fn goldens(version: &str) -> Vec<Golden> {
    let dir = testdata().join(version);
    let mut found = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .filter(|p| !p.to_string_lossy().contains("after_roundtrip"))
        .collect();
    names.sort();
    for path in names {
        let read = |extension: &str| std::fs::read(path.with_extension(extension)).unwrap();
        let json = read("json");
        let meta = json::peek_type_meta(&json).unwrap();
        let (group, version) = meta.group_version();
        let Some(kind) = builtin().kind(group, version, &meta.kind) else {
            continue;
        };
        let after = ["json", "yaml", "pb"]
            .map(|e| std::fs::read(path.with_extension(format!("after_roundtrip.{e}"))).ok());
        found.push(Golden {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            kind,
            yaml: read("yaml"),
            pb: read("pb"),
            json,
            after,
        });
    }
    found
}

fn check(golden: &Golden, errors: &mut Vec<String>) {
    let Golden { name, kind, .. } = golden;
    let [after_json, after_yaml, after_pb] = &golden.after;
    let mut fail = |what: &str| errors.push(format!("{name}: {what}"));
    // Embedded raw JSON keeps its white space, which the goldens have but the protobuf has not.
    let compact = json::compact(&golden.json).unwrap();
    let decoded = match json::decode(&kind.ty, &compact) {
        Ok(decoded) => decoded,
        Err(e) => return fail(&format!("JSON: {e}")),
    };
    // A field that is gone was renamed or dropped in an alpha version.
    let clean = after_json.is_none();
    if clean && !decoded.strict.is_empty() {
        fail(&format!("strict: {:?}", decoded.strict));
    }
    let object = decoded.object;
    let wrapped = protobuf::wrap(&kind.api_version(), &kind.kind, &protobuf::encode(&object));
    if wrapped != *after_pb.as_ref().unwrap_or(&golden.pb) {
        fail("protobuf differs");
    }
    let pretty = json::encode_pretty(&object);
    let expected = after_json.as_ref().unwrap_or(&golden.json);
    if pretty != *expected {
        fail(&format!("JSON differs: {}", first_difference(&pretty, expected)));
    }
    let unknown = protobuf::unwrap(&golden.pb).unwrap();
    assert_eq!(unknown.api_version, kind.api_version());
    let raw = &golden.pb[unknown.raw];
    match protobuf::decode(&kind.ty, raw) {
        Ok(mut from_pb) => {
            from_pb.set_gvk(kind);
            if from_pb != object {
                fail("tree from protobuf differs");
            }
        }
        Err(e) => fail(&format!("protobuf: {e}")),
    }
    let mut transcoded = Vec::new();
    let gvk = kind.api_version();
    match transcode::protobuf_to_json(&kind.ty, Some((&gvk, &kind.kind)), raw, &mut transcoded) {
        Ok(()) => {
            let plain = json::encode(&object);
            if transcoded != plain {
                fail(&format!("transcoded differs: {}", first_difference(&transcoded, &plain)));
            }
        }
        Err(e) => fail(&format!("transcode: {e}")),
    }
    match yaml::decode(&kind.ty, &golden.yaml) {
        Ok(decoded) if decoded.object != object => fail("tree from YAML differs"),
        Ok(decoded) if clean && !decoded.strict.is_empty() => fail(&format!("YAML: {:?}", decoded.strict)),
        Ok(_) => {}
        Err(e) => fail(&format!("YAML: {e}")),
    }
    let written = yaml::encode(&object);
    let expected = after_yaml.as_ref().unwrap_or(&golden.yaml);
    if written != *expected {
        fail(&format!("YAML differs: {}", first_difference(&written, expected)));
    }
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let from = at.saturating_sub(40);
    let show = |b: &[u8]| String::from_utf8_lossy(&b[from.min(b.len())..(at + 60).min(b.len())]).into_owned();
    format!("ours {:?} theirs {:?}", show(ours), show(theirs))
}

fn check_version(version: &str, at_least: usize) {
    let all = goldens(version);
    assert!(all.len() >= at_least, "{version} has {} objects", all.len());
    let mut errors = Vec::new();
    for golden in &all {
        check(golden, &mut errors);
    }
    let shown: Vec<_> = errors.iter().take(30).collect();
    assert!(errors.is_empty(), "{} of {version}: {shown:#?}", errors.len());
}

#[test]
fn this_version() {
    check_version("HEAD", 180);
}

#[test]
fn earlier_versions() {
    for version in ["v1.33.0", "v1.34.0", "v1.35.0", "v1.36.0"] {
        check_version(version, 150);
    }
}
