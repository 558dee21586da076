//! Providers that are played by shell scripts, which note how often they were asked.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base::ManualClock;
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;

use super::*;

struct Case {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    providers: Providers,
    client: kube::Client,
    pod: Pod,
}

/// One provider, with these lines more in its configuration, that says this.
fn case(more: &str, says: &str) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("p");
    let script =
        format!("#!/bin/sh\necho asked >>\"$LOG\"\ncat >\"$LOG.request\"\ncat <<'EOF'\n{says}\nEOF\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = dir.path().join("config.yaml");
    let log = dir.path().join("log");
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: p\n  \
         apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: ['*.io']\n  defaultCacheDuration: 1h\n  \
         env: [{{name: LOG, value: {log:?}}}]\n{more}"
    );
    std::fs::write(&config, text).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let known = CredentialProviders::load(&config, dir.path()).unwrap();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "pod", "namespace": "n", "uid": "u"},
        "spec": {"serviceAccountName": "sa", "containers": []},
    }))
    .unwrap();
    let client = client::connect::local(tower::service_fn(|request: Request<Body>| async move {
        let body = match request.uri().path().ends_with("/token") {
            true => {
                json!({"metadata": {}, "spec": {"audiences": ["r"]}, "status": {"token": "t0ken", "expirationTimestamp": "2030-01-01T00:00:00Z"}})
            }
            false => json!({"metadata": {"name": "sa", "uid": "sa-uid", "annotations": {"role": "reader"}}}),
        };
        Ok::<_, std::convert::Infallible>(Response::new(Body::from(serde_json::to_vec(&body).unwrap())))
    }));
    Case { providers: Providers::new(known, crate::counts::meter(clock.clone())), dir, clock, client, pod }
}

impl Case {
    async fn ask(&self, image: &str) -> Vec<Found> {
        self.providers.credentials(&self.client, &self.pod, image).await
    }

    fn asked(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("log")).map_or(0, |text| text.lines().count())
    }

    fn request(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.dir.path().join("log.request")).unwrap()).unwrap()
    }
}

fn answer(key_type: &str, auth: &str) -> String {
    format!(
        "{{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\
         \"cacheKeyType\":\"{key_type}\",\"auth\":{auth}}}"
    )
}

#[tokio::test]
async fn an_answer_holds_for_what_it_is_for_and_as_long_as_it_says() {
    let auth =
        r#"{"a.io":{"username":"u","password":"p"},"a.io/team":{"username":"t","password":"q"},"b.io":{}}"#;
    let case = case("", &answer("Registry", auth));
    let found = case.ask("a.io/team/x:1").await;
    let users: Vec<_> = found.iter().map(|(auth, asked)| (auth.username.as_str(), asked.is_none())).collect();
    assert_eq!(users, [("t", true), ("u", true)], "what is meant most closely comes first");
    assert_eq!(
        case.request(),
        json!({"kind": "CredentialProviderRequest", "image": "a.io/team/x:1",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1"})
    );
    assert_eq!(case.ask("a.io/y").await.len(), 1);
    assert_eq!(case.asked(), 1, "of the same registry");
    case.ask("c.io/y").await;
    assert_eq!(case.asked(), 2);
    assert!(case.ask("example.com/y").await.is_empty());
    assert_eq!(case.asked(), 2, "no provider is for it");
    case.clock.advance(Duration::from_secs(3600));
    case.ask("a.io/y").await;
    assert_eq!(case.asked(), 3);
}

#[tokio::test]
async fn a_provider_may_be_told_of_the_pods_account() {
    let tokens = "  tokenAttributes: {serviceAccountTokenAudience: r, requireServiceAccount: true, cacheType: ServiceAccount, \
                  requiredServiceAccountAnnotationKeys: [role]}\n";
    let case = case(tokens, &answer("Image", r#"{"a.io":{"username":"u","password":"p"}}"#));
    let found = case.ask("a.io/x").await;
    let asked = found[0].1.clone().unwrap();
    assert_eq!((asked.uid.as_str(), asked.namespace.as_str(), asked.name.as_str()), ("sa-uid", "n", "sa"));
    let request = case.request();
    assert_eq!(request["serviceAccountToken"], "t0ken");
    assert_eq!(request["serviceAccountAnnotations"], json!({"role": "reader"}));
    case.ask("a.io/x").await;
    assert_eq!(case.asked(), 1, "the account's answer holds");
    let missing = case_with_missing_annotation().await;
    assert!(missing.is_empty());
}

async fn case_with_missing_annotation() -> Vec<Found> {
    let tokens = "  tokenAttributes: {serviceAccountTokenAudience: r, requireServiceAccount: true, cacheType: Token, \
                  requiredServiceAccountAnnotationKeys: [other]}\n";
    let case = case(tokens, &answer("Image", r#"{"a.io":{"username":"u","password":"p"}}"#));
    let found = case.ask("a.io/x").await;
    assert_eq!(case.asked(), 0, "it is not even asked");
    found
}

#[tokio::test]
async fn what_is_no_answer_helps_nobody() {
    let tokens = "  tokenAttributes: {serviceAccountTokenAudience: r, requireServiceAccount: true, cacheType: ServiceAccount}\n";
    let good = r#"{"a.io":{"username":"u","password":"p"}}"#;
    for (more, says) in [
        ("", "nonsense".to_owned()),
        ("", answer("Sometimes", good)),
        ("", answer("Image", good).replace("kubelet.k8s.io/v1", "kubelet.k8s.io/v1beta1")),
        (tokens, answer("Image", r#"{"a.io":{"username":"u","password":"t0ken"}}"#)),
    ] {
        let case = case(more, &says);
        assert!(case.ask("a.io/x").await.is_empty(), "{says}");
        assert_eq!(case.asked(), 1);
    }
}
