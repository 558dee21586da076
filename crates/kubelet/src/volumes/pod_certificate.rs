//! The `podCertificate` source of projected volumes (KEP-4317): a key that is made here and never leaves the node, and
//! a certificate for it that a signer of the cluster issues, renewed from `beginRefreshAt` on.
//!
//! Keys are kept in memory, and in the files that pods read. After a restart of the kubelet those are read again: a
//! certificate that is still good is kept until it is to be renewed. (Upstream's kubelet asks for a new one then, and a
//! pod whose signer is away does not get its files until it is back.)

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use auth::pki::join::chain;
use auth::pki::stub_request;
use base::SharedClock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest as Request, PodCertificateRequestSpec as Spec,
    PodCertificateRequestStatus as Status,
};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection as Source, ServiceAccount, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use parking_lot::Mutex;

use super::Cause;
use super::atomic::{File, Files};
use super::content::failed;
use crate::pods::spec::PodExt;

/// A signer answers within moments, or the mount is tried again later.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// While a new certificate is awaited, the old one is good for now.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);
/// Pods of one deployment do not come together.
const JITTER_SECONDS: u64 = 300;

/// A certificate that is not renewed for so long is overdue; upstream's.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);
/// The file below a pod's folder that says when which of its certificates is to be renewed.
const RECORD: &str = "pod-certificates.json";

/// A key and its certificate.
#[derive(Debug, Clone)]
struct Held {
    key_pem: String,
    chain: String,
    refresh_at: Timestamp,
}

/// A request that is not answered yet.
#[derive(Debug, Clone)]
struct Asked {
    name: String,
    key_pem: String,
}

/// What is known of one source of one pod.
#[derive(Debug, Clone, Default)]
struct Entry {
    held: Option<Held>,
    asked: Option<Asked>,
    /// How there will be none, and why. As with upstream, that is final for the pod.
    refused: Option<(&'static str, String)>,
}

impl Entry {
    /// How it is, as metrics name it.
    fn state(&self, now: Timestamp) -> &'static str {
        match (&self.refused, &self.held) {
            (Some((how, _)), _) => how,
            (None, None) => "not_yet_issued",
            (None, Some(held)) if not_after(&held.chain).is_none_or(|end| end < now) => "expired",
            (None, Some(held)) if now.duration_since(held.refresh_at) > OVERDUE => "overdue_for_refresh",
            (None, Some(_)) => "fresh",
        }
    }
}

/// When the first certificate of a chain ends; `None` when there is none to read.
fn not_after(chain: &str) -> Option<Timestamp> {
    auth::pki::join::not_after(chain).ok()
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Issued {
        chain: String,
        refresh_at: Timestamp,
    },
    /// `denied` or `failed`, and why.
    Refused(&'static str, String),
    Pending,
}

/// Reads an answer. Pure.
fn answer(name: &str, status: &Status) -> Result<Answer, Cause> {
    let of = |kind: &str| status.conditions.iter().flatten().find(|known| known.type_ == kind);
    for (kind, how, words) in [("Denied", "denied", "was denied"), ("Failed", "failed", "failed")] {
        if let Some(found) = of(kind) {
            let (reason, message) = (&found.reason, &found.message);
            let why = format!("PodCertificateRequest {name} {words}, reason={reason:?}, message={message:?}");
            return Ok(Answer::Refused(how, why));
        }
    }
    if of("Issued").is_none() {
        return Ok(Answer::Pending);
    }
    let text = status.certificate_chain.as_deref().unwrap_or_default();
    let chain = chain(text).map_err(|error| Cause::Certificate(format!("{name}: {error}")))?;
    let refresh_at = status.begin_refresh_at.as_ref().map(|time| time.0);
    let refresh_at = refresh_at.ok_or_else(|| Cause::Certificate(format!("{name} has no beginRefreshAt")))?;
    Ok(Answer::Issued { chain, refresh_at })
}

/// A pod's own part of the jitter.
fn jitter(uid: &str) -> SignedDuration {
    let sum = uid.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    SignedDuration::from_secs(i64::try_from(sum % JITTER_SECONDS).unwrap_or(0))
}

/// The certificates of all pods, by uid, and by what their source says.
pub struct PodCertificates {
    /// `<root>/pods`
    pods: PathBuf,
    clock: SharedClock,
    known: Mutex<HashMap<String, HashMap<String, Entry>>>,
}

/// What stands for a source among those of its pod.
fn key(source: &Source) -> String {
    serde_json::json!(source).to_string()
}

impl PodCertificates {
    /// None yet.
    pub fn new(pods: PathBuf, clock: SharedClock) -> Self {
        Self { pods, clock, known: Mutex::default() }
    }

    /// How many there are, by signer and by how they are.
    pub fn states(&self) -> BTreeMap<(String, &'static str), u32> {
        let (known, now) = (self.known.lock(), self.clock.now());
        let mut states = BTreeMap::new();
        for (key, entry) in known.values().flatten() {
            let signer = serde_json::from_str::<Source>(key).map(|source| source.signer_name);
            *states.entry((signer.unwrap_or_default(), entry.state(now))).or_default() += 1;
        }
        states
    }

    fn record(&self, pod: &Pod) -> PathBuf {
        self.pods.join(pod.uid()).join(RECORD)
    }

    fn recorded(&self, pod: &Pod) -> BTreeMap<String, Timestamp> {
        match std::fs::read_to_string(self.record(pod)) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(pod = %pod.described(), %error, "when certificates are to be renewed is not known");
                BTreeMap::new()
            }),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(pod = %pod.described(), %error, "when certificates are to be renewed is not known");
                }
                BTreeMap::new()
            }
        }
    }

    /// What the pod has, if it is good: a kubelet before this one put it there.
    fn kept(&self, pod: &Pod, source: &Source) -> Option<Held> {
        let refresh_at = *self.recorded(pod).get(&key(source))?;
        let volumes = pod.spec()?.volumes.as_deref().unwrap_or_default();
        let is_in = |volume: &&Volume| {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            sources.filter_map(|one| one.pod_certificate.as_ref()).any(|one| one == source)
        };
        let name = &volumes.iter().find(is_in)?.name;
        let folder = self.pods.join(pod.uid()).join("volumes/kubernetes.io~projected").join(name);
        let read = |path: &Option<String>| {
            let path = path.as_ref().filter(|path| !path.is_empty())?;
            std::fs::read_to_string(folder.join(path)).ok()
        };
        let (key_pem, chain) = match read(&source.credential_bundle_path) {
            Some(bundle) => {
                let at = bundle.find("-----BEGIN CERTIFICATE-----")?;
                let (key, chain) = bundle.split_at(at);
                (key.to_owned(), chain.to_owned())
            }
            None => (read(&source.key_path)?, read(&source.certificate_chain_path)?),
        };
        let good = not_after(&chain).is_some_and(|end| self.clock.now() < end);
        (good && key_pem.contains("PRIVATE KEY")).then_some(Held { key_pem, chain, refresh_at })
    }

    /// Notes when a certificate is to be renewed. What cannot be noted is asked for anew by the next kubelet.
    fn note(&self, pod: &Pod, source: &Source, refresh_at: Timestamp) {
        let mut all = self.recorded(pod);
        if all.insert(key(source), refresh_at) == Some(refresh_at) {
            return;
        }
        let text = serde_json::json!(all).to_string();
        if let Err(error) = auth::pki::write_private(&self.record(pod), &text) {
            tracing::warn!(pod = %pod.described(), %error, "when a certificate is to be renewed is not kept");
        }
    }

    /// Forgets a pod's keys.
    pub fn forget(&self, uid: &str) {
        self.known.lock().remove(uid);
    }

    /// The files of a source, with this access, and when to look at them again.
    pub async fn files(
        &self,
        client: &kube::Client,
        pod: &Pod,
        source: &Source,
        (owner, mode): (Option<u32>, u32),
    ) -> Result<(Files, Option<Timestamp>), Cause> {
        let (held, again) = self.credentials(client, pod, source).await?;
        let owner = source.user.and_then(|user| u32::try_from(user).ok()).or(owner);
        let file = |text: String| File { content: text.into_bytes(), mode, owner };
        let mut files = Files::new();
        let mut put = |path: &Option<String>, text: String| {
            if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
                files.insert(path.clone(), file(text));
            }
        };
        put(&source.credential_bundle_path, format!("{}{}", held.key_pem, held.chain));
        put(&source.key_path, held.key_pem);
        put(&source.certificate_chain_path, held.chain);
        Ok((files, again))
    }

    async fn credentials(
        &self,
        client: &kube::Client,
        pod: &Pod,
        source: &Source,
    ) -> Result<(Held, Option<Timestamp>), Cause> {
        let key = key(source);
        let known = self.known.lock().get(pod.uid()).and_then(|entries| entries.get(&key)).cloned();
        let mut entry = known.unwrap_or_else(|| Entry { held: self.kept(pod, source), ..Entry::default() });
        let now = self.clock.now();
        let renewed = match &entry.held {
            Some(held) if now < held.refresh_at => Ok(()),
            _ => match entry.refused.clone() {
                Some((_, why)) => Err(Cause::Certificate(why)),
                None => renew(client, pod, source, &mut entry).await,
            },
        };
        if let (Ok(()), Some(held)) = (&renewed, &entry.held) {
            self.note(pod, source, held.refresh_at);
        }
        self.known.lock().entry(pod.uid().to_owned()).or_default().insert(key, entry.clone());
        match (renewed, entry.held) {
            (Ok(()), Some(held)) => {
                let again = held.refresh_at;
                Ok((held, Some(again)))
            }
            // The old one is better than none, even when it has ended: the pod runs, and says so itself.
            (Err(error), Some(held)) => {
                tracing::warn!(pod = %pod.described(), %error, "a pod's certificate is not renewed yet");
                Ok((held, now.checked_add(AGAIN).ok()))
            }
            (Err(error), None) => Err(error),
            (Ok(()), None) => Err(Cause::Certificate("no certificate came".to_owned())),
        }
    }
}

/// Asks, unless that is done already, and looks for the answer.
async fn renew(client: &kube::Client, pod: &Pod, source: &Source, entry: &mut Entry) -> Result<(), Cause> {
    let asked = match &entry.asked {
        Some(asked) => asked.clone(),
        None => {
            let asked = ask(client, pod, source).await?;
            entry.asked = Some(asked.clone());
            asked
        }
    };
    let requests: Api<Request> = Api::namespaced(client.clone(), pod.namespace());
    for _ in 0..LOOKS {
        let Some(found) = requests.get_opt(&asked.name).await.map_err(failed)? else {
            entry.asked = None;
            return Err(Cause::Certificate(format!("PodCertificateRequest {} was deleted", asked.name)));
        };
        match answer(&asked.name, &found.status.unwrap_or_default())? {
            Answer::Issued { chain, refresh_at } => {
                let refresh_at = refresh_at.checked_add(jitter(pod.uid())).unwrap_or(refresh_at);
                entry.held = Some(Held { key_pem: asked.key_pem, chain, refresh_at });
                entry.asked = None;
                return Ok(());
            }
            Answer::Refused(how, why) => {
                entry.asked = None;
                entry.refused = Some((how, why.clone()));
                return Err(Cause::Certificate(why));
            }
            Answer::Pending => tokio::time::sleep(PAUSE).await,
        }
    }
    let (signer, name) = (&source.signer_name, &asked.name);
    Err(Cause::Certificate(format!(
        "PodCertificateRequest {name} is not issued yet: is there a signer for {signer:?}?"
    )))
}

async fn ask(client: &kube::Client, pod: &Pod, source: &Source) -> Result<Asked, Cause> {
    let spec = pod.spec().cloned().unwrap_or_default();
    let account = spec.service_account_name.filter(|name| !name.is_empty());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let node = spec.node_name.unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), pod.namespace());
    let nodes: Api<Node> = Api::all(client.clone());
    let account_uid = accounts.get(&account).await.map_err(failed)?.metadata.uid;
    let node_uid = nodes.get(&node).await.map_err(failed)?.metadata.uid;
    // A key of RSA takes a while.
    let key_type = source.key_type.clone();
    let made = tokio::task::spawn_blocking(move || stub_request(&key_type)).await;
    let unmade = |error: &dyn std::fmt::Display| Cause::Certificate(error.to_string());
    let (request, key_pem) = made.map_err(|error| unmade(&error))?.map_err(|error| unmade(&error))?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid().to_owned(),
        ..OwnerReference::default()
    };
    let asked = Request {
        metadata: ObjectMeta {
            namespace: Some(pod.namespace().to_owned()),
            generate_name: Some("req-".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Spec {
            signer_name: source.signer_name.clone(),
            pod_name: pod.name().to_owned(),
            pod_uid: pod.uid().to_owned(),
            service_account_name: account,
            service_account_uid: account_uid.unwrap_or_default(),
            node_name: node,
            node_uid: node_uid.unwrap_or_default(),
            max_expiration_seconds: source.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(request),
            unverified_user_annotations: source.user_annotations.clone(),
        },
        ..Request::default()
    };
    let requests: Api<Request> = Api::namespaced(client.clone(), pod.namespace());
    let made = requests.create(&PostParams::default(), &asked).await.map_err(failed)?;
    Ok(Asked { name: made.metadata.name.unwrap_or_default(), key_pem })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use base::ManualClock;
    use http::{Method, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// A cluster whose signer does this with the next requests.
    #[derive(Clone, Default)]
    struct Cluster {
        statuses: Arc<Mutex<Vec<Value>>>,
        asked: Arc<Mutex<Vec<Value>>>,
    }

    impl Cluster {
        fn client(&self) -> kube::Client {
            let cluster = self.clone();
            client::connect::local(tower::service_fn(move |request: http::Request<Body>| {
                let cluster = cluster.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let answer = cluster.answer(&parts.method, parts.uri.path(), &body);
                    let bytes = serde_json::to_vec(&answer).unwrap();
                    Ok::<_, Infallible>(Response::new(Body::from(bytes)))
                }
            }))
        }

        fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Value {
            if path.contains("/serviceaccounts/") || path.contains("/nodes/") {
                return json!({"metadata": {"name": "x", "uid": format!("uid-of-{}", path.rsplit('/').next().unwrap())}});
            }
            let mut asked = self.asked.lock();
            if method == Method::POST {
                let mut request: Value = serde_json::from_slice(body).unwrap();
                request["metadata"]["name"] = json!(format!("req-{}", asked.len()));
                asked.push(request.clone());
                return request;
            }
            let mut request = asked.last().unwrap().clone();
            let mut statuses = self.statuses.lock();
            if !statuses.is_empty() {
                request["status"] = statuses.remove(0);
            }
            request
        }
    }

    fn issued(refresh_at: &str) -> Value {
        let now = Timestamp::UNIX_EPOCH;
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let cert = auth::pki::join::self_signed("leaf", &[], now, century).unwrap();
        json!({
            "conditions": [{"type": "Issued", "status": "True", "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "certificateChain": format!("between\n{}", cert.cert_pem), "beginRefreshAt": refresh_at,
        })
    }

    fn denied() -> Value {
        json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No", "message": "not you", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "one", "serviceAccountName": "sa", "containers": []},
        }))
        .unwrap()
    }

    fn source() -> Source {
        serde_json::from_value(json!({
            "signerName": "example.com/s", "keyType": "ED25519", "maxExpirationSeconds": 3600,
            "credentialBundlePath": "bundle.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem",
            "userAnnotations": {"example.com/a": "b"},
        }))
        .unwrap()
    }

    fn text(files: &Files, path: &str) -> String {
        String::from_utf8(files[path].content.clone()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_made_here_and_renewed_when_its_signer_says() {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let certificates = PodCertificates::new(dir.path().to_owned(), clock.clone());
        let cluster = Cluster::default();
        *cluster.statuses.lock() = vec![json!({}), issued("2026-01-01T01:00:00Z")];
        let client = cluster.client();
        let (pod, source) = (pod(), source());
        let get = || certificates.files(&client, &pod, &source, (Some(7), 0o600));
        let (one, again) = get().await.unwrap();
        let (bundle, key, chain) = (text(&one, "bundle.pem"), text(&one, "key.pem"), text(&one, "chain.pem"));
        assert_eq!(bundle, format!("{key}{chain}"));
        assert!(key.starts_with("-----BEGIN PRIVATE KEY") && chain.starts_with("-----BEGIN CERT"), "{chain}");
        assert_eq!((one["key.pem"].mode, one["key.pem"].owner), (0o600, Some(7)));
        let spec = cluster.asked.lock()[0]["spec"].clone();
        assert_eq!(
            (&spec["serviceAccountUID"], &spec["nodeUID"]),
            (&json!("uid-of-sa"), &json!("uid-of-one"))
        );
        assert!(!cluster.asked.lock()[0].to_string().contains("PRIVATE"), "the key stays");

        let (same, _) = get().await.unwrap();
        assert_eq!(text(&same, "key.pem"), key);
        let again = again.unwrap();
        assert!(again < "2026-01-01T01:05:00Z".parse().unwrap(), "{again}");
        clock.jump_to(again);
        // Nobody answers at first: the old one is good for now.
        let (old, soon) = get().await.unwrap();
        assert_eq!((text(&old, "key.pem"), soon), (key.clone(), again.checked_add(AGAIN).ok()));
        *cluster.statuses.lock() = vec![issued("2026-01-01T02:00:00Z")];
        let (new, _) = get().await.unwrap();
        assert_ne!(text(&new, "key.pem"), key, "a new key for each certificate");
        assert_eq!(cluster.asked.lock().len(), 2, "the request that was pending was the one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_kubelet_keeps_what_is_good_and_asks_for_what_is_not() {
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::default();
        *cluster.statuses.lock() = vec![issued("2026-01-01T01:00:00Z")];
        let (client, source) = (cluster.client(), source());
        let mut pod = pod();
        let volume = json!({"name": "v", "projected": {"sources": [{"podCertificate": source}]}});
        pod.spec.as_mut().unwrap().volumes = Some(vec![serde_json::from_value(volume).unwrap()]);
        std::fs::create_dir(dir.path().join("u")).unwrap();
        let first = PodCertificates::new(dir.path().to_owned(), clock.clone());
        let (files, again) = first.files(&client, &pod, &source, (None, 0o600)).await.unwrap();
        assert_eq!(first.states(), [(("example.com/s".to_owned(), "fresh"), 1)].into());
        // As the volume's writer has them.
        let volume = dir.path().join("u/volumes/kubernetes.io~projected/v");
        std::fs::create_dir_all(&volume).unwrap();
        for (path, file) in &files {
            std::fs::write(volume.join(path), &file.content).unwrap();
        }
        let next = || PodCertificates::new(dir.path().to_owned(), clock.clone());
        let (kept, same) = next().files(&client, &pod, &source, (None, 0o600)).await.unwrap();
        assert_eq!((text(&kept, "bundle.pem"), same), (text(&files, "bundle.pem"), again));
        assert_eq!(cluster.asked.lock().len(), 1, "nothing is asked for");
        // When its time has come and nobody answers, the pod still has its files.
        clock.jump_to(again.unwrap());
        let (old, _) = next().files(&client, &pod, &source, (None, 0o600)).await.unwrap();
        assert_eq!(text(&old, "key.pem"), text(&files, "key.pem"));
        assert_eq!(cluster.asked.lock().len(), 2);
        std::fs::write(volume.join("bundle.pem"), "nothing of use").unwrap();
        let said = next().files(&client, &pod, &source, (None, 0o600)).await.err().unwrap().to_string();
        assert!(said.contains("is not issued yet"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_denied_is_not_asked_again() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let dir = tempfile::tempdir().unwrap();
        let certificates = PodCertificates::new(dir.path().to_owned(), clock);
        let cluster = Cluster::default();
        *cluster.statuses.lock() = vec![denied()];
        let client = cluster.client();
        for _ in 0..2 {
            let got = certificates.files(&client, &pod(), &source(), (None, 0o644)).await;
            let said = got.err().map(|error| error.to_string()).unwrap();
            assert_eq!(said, "PodCertificateRequest req-0 was denied, reason=\"No\", message=\"not you\"");
        }
        assert_eq!(cluster.asked.lock().len(), 1);
        let rsa = Source { key_type: "RSA3072".to_owned(), ..source() };
        *cluster.statuses.lock() = vec![issued("1970-01-02T00:00:00Z")];
        let (files, _) = certificates.files(&client, &pod(), &rsa, (None, 0o644)).await.unwrap();
        let bundle = files.values().next().map(|file| String::from_utf8_lossy(&file.content).into_owned());
        let length = bundle.unwrap().find("-----END PRIVATE KEY").unwrap();
        assert!(length > 2000, "a key of RSA is longer than others: {length}");
    }
}
