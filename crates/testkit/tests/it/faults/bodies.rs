//! Bodies that are not what they should be: each is refused with a reason, and the server goes on.

use http::Method;
use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::{Call, JSON, PROTOBUF};

use super::CONFIG_MAPS;

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn post(media_type: &str, body: impl Into<bytes::Bytes>) -> Call {
    Call::new(Method::POST, CONFIG_MAPS).body(media_type, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_whether_or_not_it_says_so() {
    let cluster = Cluster::start().await;
    let mut object = config_map("large");
    object["data"] = json!({"a": "x".repeat(3 << 20)});
    for client in [cluster.admin(), cluster.tls(0).await] {
        let refused = Call::post(CONFIG_MAPS, &object).send(&client).await.expect(413).json();
        assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
        assert_eq!(refused["reason"], "RequestEntityTooLarge");
        let read = Call::get("/api/v1/namespaces/default").send(&client).await;
        assert_eq!(read.code, 200, "the same client goes on");
    }
    // What fits into a body need not fit into an object.
    object["data"] = json!({"a": "x".repeat((1 << 20) + 1)});
    let refused = Call::post(CONFIG_MAPS, &object).send(&cluster.admin()).await.expect(422).message();
    assert!(refused.contains("Too long: may not be more than 1048576 bytes"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_such_object_is_refused_and_says_why() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    let deep = format!(r#"{{"metadata":{{"name":"a"}},"x":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let truncated = {
        let kind = schema::catalogue::builtin().kind("", "v1", "ConfigMap").unwrap();
        let object = schema::json::decode(&kind.ty, config_map("a").to_string().as_bytes()).unwrap().object;
        let mut bytes = schema::protobuf::wrap("v1", "ConfigMap", &schema::protobuf::encode(&object));
        bytes.truncate(bytes.len() - 3);
        bytes
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    let mut other_version = config_map("a");
    other_version["apiVersion"] = "v2".into();
    let mut elsewhere = config_map("a");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let rows: [(Call, u16, &str); 10] = [
        (post(JSON, ""), 400, "couldn't get version/kind; json parse error: unexpected end of JSON input"),
        (post(JSON, "{"), 400, "the object provided is unrecognized (must be of type ConfigMap)"),
        (post(JSON, &b"{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\":\"\xff\"}}"[..]), 400, "UTF-8"),
        (post(JSON, deep), 400, "exceeded max depth"),
        (post(PROTOBUF, truncated), 400, "unrecognized (must be of type ConfigMap): unexpected EOF"),
        (
            post(PROTOBUF, "{}"),
            400,
            "does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})",
        ),
        (
            post("text/plain", "a"),
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json",
        ),
        (Call::post(CONFIG_MAPS, &secret), 400, "Secret"),
        (
            Call::post(CONFIG_MAPS, &other_version),
            400,
            "no kind \"ConfigMap\" is registered for version \"v2\" in scheme",
        ),
        (
            Call::post(CONFIG_MAPS, &elsewhere),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ];
    for (call, code, why) in rows {
        let refused = call.send(&client).await.expect(code).message();
        assert!(refused.contains(why), "{refused:?} is not about {why:?}");
    }
    let path = format!("{CONFIG_MAPS}/a");
    let _ = Call::post(CONFIG_MAPS, &config_map("a")).send(&client).await.expect(201);
    let refused = Call::put(&path, &config_map("b")).send(&client).await.expect(400).message();
    assert_eq!(refused, "the name of the object (b) does not match the name on the URL (a)");
    let _ = Call::put("/api/v1/namespaces/nowhere/configmaps/a", &config_map("a"))
        .send(&client)
        .await
        .expect(404);
    let _ = Call::new(Method::PATCH, path)
        .body("application/merge-patch+json", "[1")
        .send(&client)
        .await
        .expect(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_field_is_an_error_a_warning_or_nothing_as_the_client_wishes() {
    let cluster = Cluster::start().await;
    let client = cluster.tls(0).await;
    let mut object = config_map("a");
    object["colour"] = "red".into();
    object["metadata"]["size"] = 3.into();
    let with = |validation: &str| Call::post(format!("{CONFIG_MAPS}?fieldValidation={validation}"), &object);
    let refused = with("Strict").send(&client).await.expect(400).message();
    let expected = r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "colour", unknown field "metadata.size""#;
    assert_eq!(refused, expected);
    let made = with("Warn").send(&client).await.expect(201);
    assert_eq!(made.warnings(), [r#"unknown field "colour""#, r#"unknown field "metadata.size""#]);
    assert!(made.json().get("colour").is_none());
    let twice =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"a":"1"},"data":{"a":"2"}}"#;
    let strict = Call::new(Method::POST, format!("{CONFIG_MAPS}?fieldValidation=Strict")).body(JSON, twice);
    assert!(strict.send(&client).await.expect(400).message().contains(r#"duplicate field "data""#));
    object["metadata"]["name"] = "c".into();
    let made =
        Call::post(format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &object).send(&client).await.expect(201);
    assert_eq!(made.warnings(), [""; 0]);
}
