use serde_json::json;
use testkit::http::Call;

use super::bench::{Bench, CONFIG_MAPS, config_map, on_config_maps};
use super::server::Reply;

fn denied_with(status: serde_json::Value) -> Reply {
    Reply::Says(json!({"allowed": false, "status": status}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_allows_warns_or_denies_in_its_own_words() {
    let bench = Bench::start().await;
    bench
        .webhook
        .reply(Reply::Says(json!({"allowed": true, "warnings": ["mind the gap", "a \"quoted\" one"]})));
    let allowed = bench.attempt().await.expect(201);
    assert_eq!(allowed.warnings(), ["mind the gap", "a \"quoted\" one"]);
    let denied = r#"admission webhook "x.example.org" denied the request"#;
    let rows = [
        (
            json!({"message": "no", "code": 403, "reason": "Forbidden"}),
            403,
            format!("{denied}: no"),
            json!("Forbidden"),
        ),
        (json!({"message": "full", "code": 429}), 429, format!("{denied}: full"), json!(null)),
        (json!({"reason": "Invalid", "code": 422}), 422, format!("{denied}: Invalid"), json!("Invalid")),
        // A denial is never less than an error.
        (json!({"message": "no"}), 400, format!("{denied}: no"), json!(null)),
        (json!({"message": "no", "code": 200}), 400, format!("{denied}: no"), json!(null)),
        (json!(null), 400, format!("{denied} without explanation"), json!(null)),
    ];
    for (status, code, message, reason) in rows {
        bench.webhook.reply(denied_with(status));
        let refused = bench.attempt().await.expect(code).json();
        assert_eq!(
            (&refused["message"], &refused["reason"], &refused["code"]),
            (&json!(message), &reason, &json!(code))
        );
    }
    let causes = json!([{"reason": "FieldValueInvalid", "message": "too long", "field": "spec.rope"}]);
    bench.webhook.reply(denied_with(
        json!({"code": 422, "message": "no", "details": {"kind": "Boat", "causes": causes}}),
    ));
    let refused = bench.attempt().await.expect(422).json();
    assert_eq!(refused["details"], json!({"kind": "Boat", "causes": causes}));
}

/// What must be done whether or not failures are ignored: the attempt passes, or fails with `why`.
async fn fails_open_and_closed(bench: &Bench, fields: serde_json::Value, why: &str) {
    for policy in ["Ignore", "Fail"] {
        let mut fields = fields.clone();
        fields["failurePolicy"] = policy.into();
        bench.configure(fields).await;
        if policy == "Ignore" {
            let _ = bench.attempt().await.expect(201);
            continue;
        }
        let refused = bench.attempt().await.expect(500).json();
        assert_eq!(refused["reason"], "InternalError");
        let message = refused["message"].as_str().unwrap();
        let begin = r#"Internal error occurred: failed calling webhook "x.example.org": "#;
        let rest = message.strip_prefix(begin).unwrap_or_else(|| panic!("{message}"));
        assert!(rest.starts_with(why), "{rest:?} is not {why:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_answers_rubbish_fails_the_request_or_is_ignored() {
    let bench = Bench::start().await;
    let review = |fields: serde_json::Value| {
        let mut review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"});
        for (field, value) in fields.as_object().unwrap() {
            review[field] = value.clone();
        }
        Reply::Sends(200, review.to_string().into_bytes())
    };
    let invalid = |why: &str| format!("received invalid webhook response: {why}");
    let rows = [
        (Reply::Sends(200, b"rubbish".to_vec()), "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned()),
        (Reply::Sends(500, b"boom".to_vec()), r#"failed to call webhook: an error on the server ("boom") has prevented the request from succeeding"#.to_owned()),
        (Reply::Sends(404, Vec::new()), "failed to call webhook: the server could not find the requested resource".to_owned()),
        (review(json!({})), invalid("webhook response was absent")),
        (Reply::Says(json!({"allowed": true, "uid": "other"})), invalid("expected response.uid=")),
        (Reply::Says(json!({"allowed": true, "patch": "W10=", "patchType": "JSONPatch"})), invalid("validating webhook may not return response.patch")),
    ];
    for (reply, why) in rows {
        bench.webhook.reply(reply);
        fails_open_and_closed(&bench, json!({}), &why).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_cannot_be_reached_in_time_fails_the_request_or_is_ignored() {
    let bench = Bench::start().await;
    let url = bench.webhook.url();
    bench.webhook.reply(Reply::Hangs);
    let late = format!(r#"failed to call webhook: Post "{url}?timeout=1s": context deadline exceeded"#);
    fails_open_and_closed(&bench, json!({"timeoutSeconds": 1}), &late).await;
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let down = json!({"clientConfig": {"url": format!("https://{free}/v")}});
    let why = format!(
        r#"failed to call webhook: Post "https://{free}/v?timeout=5s": dial tcp {free}: connect: connection refused"#
    );
    fails_open_and_closed(&bench, down, &why).await;
    let stranger = json!({"clientConfig": {"url": url}});
    let why = format!(
        r#"failed to call webhook: Post "{url}?timeout=5s": tls: failed to verify certificate: x509: certificate signed by unknown authority"#
    );
    fails_open_and_closed(&bench, stranger, &why).await;
    let service = json!({"clientConfig": {"service": {"namespace": "default", "name": "nobody"}}});
    fails_open_and_closed(&bench, service, r#"failed to call webhook: "#).await;
    // A webhook that is in the way of everything can still be taken away.
    bench
        .configure(json!({"failurePolicy": "Fail", "timeoutSeconds": 1, "rules": [
        {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}]}))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_asks_only_webhooks_that_do_no_more_than_look() {
    let bench = Bench::start().await;
    for effects in ["None", "NoneOnDryRun"] {
        bench.configure(json!({"sideEffects": effects})).await;
        let _ = bench.attempt_with("dryRun=All").await.expect(201);
        let asked = bench.webhook.asked();
        assert_eq!((&asked[0]["dryRun"], &asked[0]["options"]["dryRun"]), (&json!(true), &json!(["All"])));
        let _ = Call::get(format!("{CONFIG_MAPS}/a")).send(&bench.client).await.expect(404);
    }
    bench.webhook.reply(denied_with(json!({"message": "no", "code": 403})));
    let _ = Call::post(format!("{CONFIG_MAPS}?dryRun=All"), &config_map("b"))
        .send(&bench.client)
        .await
        .expect(403);
    // Only a server of long ago took webhooks with other effects; one may still be stored.
    let row = schema::catalogue::builtin().kind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
    );
    let old = json!({"metadata": {"name": "y"}, "webhooks": [{
        "name": "y.example.org", "clientConfig": {"url": "https://127.0.0.1:1/"}, "sideEffects": "Some",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore", "rules": [on_config_maps("CREATE")]}]});
    let old = schema::json::decode(&row.unwrap().ty, old.to_string().as_bytes()).unwrap().object;
    let (group, kind) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
    let value = schema::protobuf::wrap(group, kind, &schema::protobuf::encode(&old));
    let put =
        store::testing::put("/registry/validatingwebhookconfigurations/y", store::Expect::Absent, value);
    bench.cluster.store().commit(vec![put]).await.unwrap();
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/y";
    let _ = Call::get(path).send(&bench.client).await.expect(200);
    bench.webhook.reply(Reply::allow());
    let refused = bench.attempt_with("dryRun=All").await.expect(400).message();
    assert_eq!(refused, r#"admission webhook "y.example.org" does not support dry run"#);
    let _ = bench.attempt().await.expect(201);
}
