use http::Method;
use serde_json::{Value, json};
use testkit::http::Call;

use super::bench::{Bench, CONFIG_MAPS, config_map, on_config_maps};

/// The operations that were asked about since the last time, with the subresource where there is one.
fn operations(bench: &Bench) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |asked: &Value| match text(&asked["subResource"]).as_str() {
        "" => text(&asked["operation"]),
        sub => format!("{}/{sub}", text(&asked["operation"])),
    };
    bench.webhook.asked().iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_told_who_does_what_to_which_object() {
    let bench = Bench::start().await;
    bench.configure(json!({"rules": [on_config_maps("*")]})).await;
    let (client, one) = (&bench.client, format!("{CONFIG_MAPS}/a"));
    let created = Call::post(CONFIG_MAPS, &config_map("a")).send(client).await.expect(201).json();
    let (path, review) = bench.webhook.calls().remove(0);
    assert_eq!(path, "/validate?timeout=5s");
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    let request = &review["request"];
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("a"), &json!("default")));
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["userInfo"]["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!((&request["dryRun"], &request["oldObject"]), (&json!(false), &json!(null)));
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert_eq!(request["object"]["metadata"]["uid"], created["metadata"]["uid"]);

    let _ = Call::patch(&one, &json!({"data": {"v": "2"}})).send(client).await.expect(200);
    let asked = bench.webhook.asked().remove(0);
    assert_eq!((&asked["operation"], &asked["object"]["data"]["v"]), (&json!("UPDATE"), &json!("2")));
    assert_eq!(asked["oldObject"]["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let _ = Call::delete(&one).send(client).await.expect(200);
    let asked = bench.webhook.asked().remove(0);
    assert_eq!((&asked["operation"], &asked["object"]), (&json!("DELETE"), &json!(null)));
    assert_eq!(asked["oldObject"]["data"]["v"], "2");
    // Reading is nobody's business.
    let _ = Call::get(CONFIG_MAPS).send(client).await.expect(200);
    assert_eq!(operations(&bench), [""; 0]);
}

async fn write_in_every_way(bench: &Bench) -> Vec<String> {
    let (client, pods) = (&bench.client, "/api/v1/namespaces/default/pods");
    let account = json!({"metadata": {"name": "default"}});
    let _ = Call::post("/api/v1/namespaces/default/serviceaccounts", &account).send(client).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    bench.webhook.asked();
    let _ = Call::post(pods, &pod).send(client).await.expect(201);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let _ = Call::patch(format!("{pods}/p"), &labels).send(client).await.expect(200);
    let status = json!({"status": {"message": "well"}});
    let _ = Call::patch(format!("{pods}/p/status"), &status).send(client).await.expect(200);
    let now = Call::new(Method::DELETE, format!("{pods}/p?gracePeriodSeconds=0"));
    let _ = now.send(client).await.expect(200);
    operations(bench)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_choose_by_operation_resource_subresource_and_scope() {
    let bench = Bench::start().await;
    let rows: [(Value, &[&str]); 8] = [
        (json!({}), &["CREATE", "UPDATE", "DELETE"]),
        (json!({"operations": ["CREATE", "DELETE"]}), &["CREATE", "DELETE"]),
        (json!({"resources": ["pods/status"]}), &["UPDATE/status"]),
        (json!({"resources": ["pods/*"]}), &["CREATE", "UPDATE", "UPDATE/status", "DELETE"]),
        (json!({"resources": ["*"]}), &["CREATE", "UPDATE", "DELETE"]),
        (
            json!({"resources": ["*/*"], "apiGroups": ["*"], "scope": "Namespaced"}),
            &["CREATE", "UPDATE", "UPDATE/status", "DELETE"],
        ),
        (json!({"scope": "Cluster"}), &[]),
        (json!({"apiGroups": ["apps"]}), &[]),
    ];
    for (fields, expected) in rows {
        let mut rule =
            json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["*"]});
        for (field, value) in fields.as_object().unwrap() {
            rule[field] = value.clone();
        }
        bench.configure(json!({"rules": [rule]})).await;
        assert_eq!(write_in_every_way(&bench).await, expected, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_choose_by_the_labels_of_the_object_and_of_its_namespace() {
    let bench = Bench::start().await;
    let (client, watched) = (&bench.client, json!({"matchLabels": {"watch": "yes"}}));
    let labelled = |name: &str, value: &str| json!({"metadata": {"name": name, "labels": {"watch": value}}});
    bench.configure(json!({"objectSelector": watched, "rules": [on_config_maps("*")]})).await;
    let _ = Call::post(CONFIG_MAPS, &labelled("a", "no")).send(client).await.expect(201);
    assert_eq!(operations(&bench), [""; 0]);
    // The labels before and after count: nobody escapes by taking them off.
    for value in ["yes", "no"] {
        let patch = json!({"metadata": {"labels": {"watch": value}}});
        let _ = Call::patch(format!("{CONFIG_MAPS}/a"), &patch).send(client).await.expect(200);
        assert_eq!(operations(&bench), ["UPDATE"], "{value}");
    }
    let namespaces =
        json!({"apiGroups": [""], "apiVersions": ["*"], "resources": ["namespaces"], "operations": ["*"]});
    bench.configure(json!({"namespaceSelector": watched, "rules": [on_config_maps("*"), namespaces]})).await;
    // A namespace is in itself, with the labels that it is to have.
    for (name, value) in [("quiet", "no"), ("loud", "yes")] {
        let _ = Call::post("/api/v1/namespaces", &labelled(name, value)).send(client).await.expect(201);
        let path = format!("/api/v1/namespaces/{name}/configmaps");
        let _ = Call::post(path, &config_map("a")).send(client).await.expect(201);
    }
    let asked = bench.webhook.asked();
    let about: Vec<_> =
        asked.iter().map(|asked| (asked["kind"]["kind"].as_str(), asked["namespace"].as_str())).collect();
    assert_eq!(about, [(Some("Namespace"), Some("loud")), (Some("ConfigMap"), Some("loud"))]);
    let _ = Call::patch("/api/v1/namespaces/quiet", &json!({"metadata": {"labels": {"watch": "yes"}}}))
        .send(client)
        .await
        .expect(200);
    assert_eq!(operations(&bench), ["UPDATE"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_about_one_version_holds_for_the_others_unless_it_is_to_be_exact() {
    let bench = Bench::start().await;
    let rule = json!({"apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"], "operations": ["CREATE"]});
    let scaler = |version: &str, name: &str| {
        let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
        let object = json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name}, "spec": {"maxReplicas": 3, "scaleTargetRef": target},
        });
        let path = format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
        Call::post(path, &object)
    };
    bench.configure(json!({"rules": [rule], "matchPolicy": "Exact"})).await;
    let _ = scaler("v1", "a").send(&bench.client).await.expect(201);
    assert_eq!(operations(&bench), [""; 0]);
    bench.configure(json!({"rules": [rule]})).await;
    let _ = scaler("v1", "b").send(&bench.client).await.expect(201);
    let asked = bench.webhook.asked().remove(0);
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
    assert_eq!(asked["resource"]["version"], "v2");
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v2");
    assert_eq!(asked["object"]["spec"]["maxReplicas"], 3);
}
