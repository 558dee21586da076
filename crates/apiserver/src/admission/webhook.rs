//! Validating webhooks: called over TLS, all that match at once, with their failure policies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Method, Request, header};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use schema::labels::Selector;
use schema::{Object, Value};

use super::Attempt;
use crate::https::{self, CallError};
use crate::status::{ApiError, Result};

/// The longest answer that is read.
const MAX_ANSWER: usize = 3 * 1024 * 1024;
/// What is never sent to webhooks, so that a broken one can always be removed.
const OWN_GROUP: &str = "admissionregistration.k8s.io";

/// Asks every webhook that matches.
///
/// # Errors
/// What the first webhook that refuses says; 500 when one with failure policy `Fail` cannot be asked.
pub async fn validate(
    attempt: &Attempt<'_>,
    object: Option<&Object>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if attempt.resource.group == OWN_GROUP {
        return Ok(());
    }
    let hooks = matching(attempt, object)?;
    if hooks.is_empty() {
        return Ok(());
    }
    let review = review(attempt, object);
    let answers = join_all(hooks.iter().map(|hook| hook.call(attempt, &review))).await;
    for (hook, answer) in hooks.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                warnings.extend(answer.warnings.clone());
                answer.verdict(&hook.name)?;
            }
            Err(error) if hook.fail_open => {
                tracing::warn!(webhook = %hook.name, %error, "failed calling webhook, failing open");
            }
            Err(error) => {
                let why = format!("failed calling webhook {:?}: failed to call webhook: {error}", hook.name);
                return Err(ApiError::internal(why));
            }
        }
    }
    Ok(())
}

struct Hook {
    name: String,
    fail_open: bool,
    timeout: Duration,
    ca_bundle: Vec<u8>,
    target: Target,
}

enum Target {
    Url(String),
    Service { namespace: String, name: String, path: String, port: i64 },
}

fn matching(attempt: &Attempt<'_>, object: Option<&Object>) -> Result<Vec<Hook>> {
    let registry = attempt.core.registry();
    let Some(resource) = registry.preferred(OWN_GROUP, "validatingwebhookconfigurations") else {
        return Ok(Vec::new());
    };
    let (codec, cache) = attempt.core.codec(resource)?;
    let mut hooks = Vec::new();
    for entry in cache.list("").1 {
        let configuration = codec.object(&entry).map_err(ApiError::internal)?;
        for hook in
            configuration.list_at(&["webhooks"]).unwrap_or_default().iter().filter_map(Value::as_struct)
        {
            if applies(attempt, hook, object)? {
                hooks.push(read_hook(hook));
            }
        }
    }
    Ok(hooks)
}

fn strings<'o>(object: &'o Object, field: &str) -> Vec<&'o str> {
    object.list_at(&[field]).unwrap_or_default().iter().filter_map(Value::as_str).collect()
}

fn applies(attempt: &Attempt<'_>, hook: &Object, object: Option<&Object>) -> Result<bool> {
    let rules = hook.list_at(&["rules"]).unwrap_or_default();
    if !rules.iter().filter_map(Value::as_struct).any(|rule| rule_matches(attempt, rule)) {
        return Ok(false);
    }
    let bad = |error: schema::labels::SelectorError| ApiError::internal(error);
    let selector = Selector::from_label_selector(hook.struct_at(&["objectSelector"])).map_err(bad)?;
    let labels_match =
        |object: Option<&Object>| object.is_some_and(|object| selector.matches(|key| object.label(key)));
    let everything = hook.get("objectSelector").is_none() || selector.is_everything();
    if !everything && !labels_match(object) && !labels_match(attempt.old) {
        return Ok(false);
    }
    let namespace = attempt.namespace();
    if hook.get("namespaceSelector").is_none() || namespace.is_empty() {
        return Ok(true);
    }
    let selector = Selector::from_label_selector(hook.struct_at(&["namespaceSelector"])).map_err(bad)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let found = attempt.find("", "namespaces", namespace);
    Ok(found.is_some_and(|entry| selector.matches(|key| entry.label(key))))
}

fn rule_matches(attempt: &Attempt<'_>, rule: &Object) -> bool {
    let any =
        |field: &str, value: &str| strings(rule, field).iter().any(|&known| known == "*" || known == value);
    let info = attempt.authorized.info();
    let resource_matches = strings(rule, "resources").iter().any(|&known| {
        let (name, sub) = known.split_once('/').unwrap_or((known, ""));
        let name_matches = name == "*" || name == attempt.resource.plural;
        name_matches && (sub == "*" || sub == info.subresource)
    });
    let scope = match rule.str_at(&["scope"]).unwrap_or("*") {
        "Cluster" => !attempt.resource.namespaced,
        "Namespaced" => attempt.resource.namespaced,
        _ => true,
    };
    scope
        && resource_matches
        && any("operations", attempt.operation.name())
        && any("apiGroups", &attempt.resource.group)
        && any("apiVersions", &attempt.resource.version)
}

fn read_hook(hook: &Object) -> Hook {
    let text = |path: &[&str]| hook.str_at(path).unwrap_or_default().to_owned();
    let target = match hook.str_at(&["clientConfig", "url"]) {
        Some(url) => Target::Url(url.to_owned()),
        None => Target::Service {
            namespace: text(&["clientConfig", "service", "namespace"]),
            name: text(&["clientConfig", "service", "name"]),
            path: text(&["clientConfig", "service", "path"]),
            port: hook.int_at(&["clientConfig", "service", "port"]).unwrap_or(443),
        },
    };
    let ca_bundle = hook.at(&["clientConfig", "caBundle"]).and_then(Value::as_bytes);
    let seconds = hook.int_at(&["timeoutSeconds"]).filter(|&seconds| seconds > 0).unwrap_or(10);
    Hook {
        name: text(&["name"]),
        fail_open: hook.str_at(&["failurePolicy"]) == Some("Ignore"),
        timeout: Duration::from_secs(seconds.unsigned_abs()),
        ca_bundle: ca_bundle.map(|bytes| bytes.to_vec()).unwrap_or_default(),
        target,
    }
}

fn review(attempt: &Attempt<'_>, object: Option<&Object>) -> serde_json::Value {
    let info = attempt.authorized.info();
    let user = attempt.authorized.user();
    let resource = attempt.resource;
    let kind =
        serde_json::json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let gvr = serde_json::json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let whole = |object: Option<&Object>| {
        let json = object.map(schema::json::encode);
        json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(serde_json::Value::Null)
    };
    let name = object.map_or(info.name.as_str(), Object::name);
    serde_json::json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": attempt.core.random.uuid(),
            "kind": kind, "resource": gvr, "subResource": info.subresource,
            "requestKind": kind, "requestResource": gvr, "requestSubResource": info.subresource,
            "name": name, "namespace": info.namespace, "operation": attempt.operation.name(),
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
            "object": whole(object), "oldObject": whole(attempt.old),
            "dryRun": attempt.dry_run, "options": null,
        }
    })
}

#[derive(serde::Deserialize)]
struct AnsweredReview {
    response: Option<Answer>,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    status: Option<AnswerStatus>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(serde::Deserialize)]
struct AnswerStatus {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    code: u16,
}

impl Answer {
    fn verdict(self, hook: &str) -> Result<()> {
        if self.allowed {
            return Ok(());
        }
        let (message, reason, code) =
            self.status.map_or_else(Default::default, |status| (status.message, status.reason, status.code));
        let why = match (message.is_empty(), reason.is_empty()) {
            (false, _) => format!("admission webhook {hook:?} denied the request: {message}"),
            (true, false) => format!("admission webhook {hook:?} denied the request: {reason}"),
            (true, true) => format!("admission webhook {hook:?} denied the request without explanation"),
        };
        let code = if (400..600).contains(&code) { code } else { 403 };
        Err(ApiError::with_code(code, if code == 403 { "Forbidden" } else { "" }, why))
    }
}

impl Hook {
    async fn call(
        &self,
        attempt: &Attempt<'_>,
        review: &serde_json::Value,
    ) -> std::result::Result<Answer, String> {
        let exchange = self.exchange(attempt, review);
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(self.timeout).to_string()),
        }
    }

    async fn exchange(
        &self,
        attempt: &Attempt<'_>,
        review: &serde_json::Value,
    ) -> std::result::Result<Answer, String> {
        let (address, name, path) = self.resolve(attempt)?;
        let tls = client_config(&self.ca_bundle)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &name)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(|error| error.to_string())?;
        let connection = https::connect(&address, &name, tls)
            .await
            .map_err(|error| format!("Post \"https://{name}\": {error}"))?;
        let response = connection.send(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = https::read(response.into_body(), MAX_ANSWER).await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let answered: AnsweredReview = serde_json::from_slice(&body)
            .map_err(|error| format!("the answer is no AdmissionReview: {error}"))?;
        let answer = answered.response.ok_or("the answer has no response")?;
        let asked = review.pointer("/request/uid").and_then(serde_json::Value::as_str).unwrap_or_default();
        if answer.uid != asked {
            return Err(format!("expected response.uid={asked:?}, got {:?}", answer.uid));
        }
        Ok(answer)
    }

    /// Where to connect, which name to expect there, and the path.
    fn resolve(&self, attempt: &Attempt<'_>) -> std::result::Result<(String, String, String), String> {
        match &self.target {
            Target::Url(url) => {
                let rest = url
                    .strip_prefix("https://")
                    .ok_or_else(|| format!("{url} does not begin with https://"))?;
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
                    _ => (authority, "443"),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Ok((format!("{host}:{port}"), host.to_owned(), format!("/{path}")))
            }
            Target::Service { namespace, name, path, port } => {
                let key = format!("{namespace}/{name}");
                let service = attempt.read("", "services", &key).map_err(|error| error.to_string())?;
                let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
                let ip = service.str_at(&["spec", "clusterIP"]).unwrap_or_default();
                if ip.is_empty() || ip == "None" {
                    return Err(format!("service {name:?} has no cluster IP"));
                }
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                Ok((format!("{ip}:{port}"), format!("{name}.{namespace}.svc"), path))
            }
        }
    }
}

fn client_config(ca_bundle: &[u8]) -> std::result::Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_bundle) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
