//! Random objects of every kind through every codec, and broken bytes into every decoder.

use schema::types::Kind;
use schema::{Object, builtin, json, protobuf, serde, transcode, yaml};

use crate::generate::{self, Dice};

fn random(dice: &mut Dice, kind: &Kind) -> Object {
    let density = 1 + dice.below(10);
    let value = generate::object(dice, &kind.ty, 0, density);
    json::decode(&kind.ty, value.to_string().as_bytes()).unwrap().object
}

#[test]
fn every_codec_keeps_every_object() {
    for (seed, kind) in builtin().kinds().enumerate() {
        for round in 0..3 {
            let dice = &mut Dice::new(seed as u64 * 7 + round);
            // JSON does not tell empty from nil in all places: what it keeps is what was written.
            let text = json::encode(&random(dice, kind));
            let mut object = json::decode(&kind.ty, &text).unwrap().object;
            assert_eq!(String::from_utf8(json::encode(&object)), String::from_utf8(text.clone()));
            assert_eq!(yaml::decode(&kind.ty, &yaml::encode(&object)).unwrap().object, object);
            let whole: serde_json::Value = serde::from_object(&object).unwrap();
            assert_eq!(whole, serde_json::from_slice::<serde_json::Value>(&text).unwrap());
            if !kind.ty.has_proto || kind.ty.name.ends_with(".Table") {
                continue;
            }
            object.remove("kind");
            object.remove("apiVersion");
            let bytes = protobuf::encode(&object);
            let back = protobuf::decode(&kind.ty, &bytes).unwrap();
            assert_eq!(protobuf::encode(&back), bytes, "{}", kind.kind);
            let mut transcoded = Vec::new();
            transcode::protobuf_to_json(&kind.ty, None, &bytes, &mut transcoded).unwrap();
            let direct = json::encode(&back);
            assert_eq!(String::from_utf8(transcoded), String::from_utf8(direct.clone()), "{}", kind.kind);
            let read: serde_json::Value = serde::from_protobuf(&kind.ty, &bytes).unwrap();
            assert_eq!(read, serde_json::from_slice::<serde_json::Value>(&direct).unwrap(), "{}", kind.kind);
        }
    }
}

#[test]
fn broken_bytes_are_errors_and_never_panics() {
    let kind = builtin().kind("", "v1", "Pod").unwrap();
    for seed in 1..1500 {
        let dice = &mut Dice::new(seed);
        let object = random(dice, kind);
        for mut bytes in [protobuf::encode(&object), json::encode(&object), yaml::encode(&object)] {
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(bytes.len().max(1));
                match (dice.below(3), bytes.get_mut(at)) {
                    (0, Some(byte)) => *byte = dice.below(256) as u8,
                    (1, Some(byte)) => *byte ^= 1 << dice.below(8),
                    _ => bytes.truncate(at),
                }
            }
            let _ = protobuf::decode(&kind.ty, &bytes);
            let _ = protobuf::unwrap(&bytes);
            let _ = transcode::protobuf_to_json(&kind.ty, None, &bytes, &mut Vec::new());
            let _ = serde::from_protobuf::<serde_json::Value>(&kind.ty, &bytes);
            let _ = protobuf::splice_resource_version(&bytes, "7");
            let _ = json::decode(&kind.ty, &bytes);
            let _ = json::peek_type_meta(&bytes);
            let _ = yaml::decode(&kind.ty, &bytes);
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    let kind = builtin().kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let ty = schema::Type::Any;
    assert!(json::decode_value(&ty, deep(100).as_bytes()).is_ok());
    let error = json::decode_value(&ty, deep(100_000).as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "exceeded max depth");
    assert!(yaml::to_json(format!("a: {}", deep(100_000)).as_bytes()).is_err());
    let schema = format!("{}{}", r#"{"items":"#.repeat(5000), "}".repeat(5000));
    let text = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#);
    assert!(json::decode(&kind.ty, text.as_bytes()).is_err());
}

#[test]
fn a_resource_version_is_spliced_in_place() {
    for (seed, kind) in builtin().kinds().enumerate() {
        let named = kind.ty.field("metadata").is_some_and(|(_, f)| match &f.ty {
            schema::Type::Struct(ty) => ty.name.ends_with(".ObjectMeta"),
            _ => false,
        });
        if !named || !kind.ty.has_proto {
            continue;
        }
        let mut object = random(&mut Dice::new(seed as u64 + 1), kind);
        object.remove("kind");
        object.remove("apiVersion");
        let spliced = protobuf::splice_resource_version(&protobuf::encode(&object), "12345");
        object.set_resource_version("12345");
        assert_eq!(spliced, protobuf::encode(&object), "{}", kind.kind);
    }
}

#[test]
fn a_list_is_made_of_encoded_items() {
    let kind = builtin().kind("", "v1", "Pod").unwrap();
    let list = builtin().kind("", "v1", "PodList").unwrap();
    let items: Vec<Vec<u8>> = (1..4).map(|s| protobuf::encode(&random(&mut Dice::new(s), kind))).collect();
    let bytes = protobuf::encode_list("7", "more", Some(9), items.iter().map(Vec::as_slice));
    let decoded = protobuf::decode(&list.ty, &bytes).unwrap();
    assert_eq!(protobuf::encode(&decoded), bytes);
    assert_eq!(decoded.resource_version(), "7");
    assert_eq!(decoded.list_at(&["items"]).unwrap().len(), 3);
    let wrapped = protobuf::wrap("v1", "PodList", &bytes);
    let unknown = protobuf::unwrap(&wrapped).unwrap();
    assert_eq!((unknown.api_version.as_str(), unknown.kind.as_str()), ("v1", "PodList"));
    assert_eq!(&wrapped[unknown.raw], bytes.as_slice());
}

/// As Go reads them: an image without names is written with null for its names.
#[test]
fn a_list_that_is_null_is_read_as_an_empty_one() {
    #[derive(::serde::Deserialize, Debug, Default, PartialEq)]
    #[serde(default)]
    struct Node {
        status: Status,
    }
    #[derive(::serde::Deserialize, Debug, Default, PartialEq)]
    #[serde(default)]
    struct Status {
        images: Vec<Image>,
    }
    #[derive(::serde::Deserialize, Debug, Default, PartialEq)]
    #[serde(default)]
    struct Image {
        names: Vec<String>,
    }
    let kind = builtin().kind("", "v1", "Node").unwrap();
    let text =
        br#"{"status": {"images": [{"names": [], "sizeBytes": 5}, {"names": ["a"], "sizeBytes": 6}]}}"#;
    let object = json::decode(&kind.ty, text).unwrap().object;
    let stored = protobuf::encode(&object);
    let node: Node = serde::from_protobuf(&kind.ty, &stored).unwrap();
    let names = |node: &Node| node.status.images.iter().map(|image| image.names.len()).collect::<Vec<_>>();
    assert_eq!(names(&node), [0, 1]);
    let back = protobuf::decode(&kind.ty, &stored).unwrap();
    assert_eq!(names(&serde::from_object(&back).unwrap()), [0, 1]);
    // Whoever asks for JSON still sees what it says.
    let value: serde_json::Value = serde::from_protobuf(&kind.ty, &stored).unwrap();
    assert!(value["status"]["images"][0]["names"].is_null());
}
