//! Renewals against an API server that is played.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use auth::pki::{Pki, Usage};
use base::{Clock, ManualClock, SeededRandom, SystemClock, SystemRandom};
use futures::future::BoxFuture;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition as Condition,
    CertificateSigningRequestStatus as Status,
};
use kube::client::Body;
use tokio::sync::mpsc;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Signed,
    Denied,
    /// Nobody looks at it.
    Ignored,
    /// The API server is away when it is asked.
    Away,
}

struct Cluster {
    pki: Pki,
    fates: Mutex<VecDeque<Fate>>,
    asked: Mutex<Vec<CertificateSigningRequest>>,
}

/// An API server by which one user asks.
#[derive(Clone)]
struct Server(Arc<Cluster>);

impl Server {
    /// What it answers; `None` never.
    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> Option<(StatusCode, Vec<u8>)> {
        let ok = |value: &CertificateSigningRequest| (StatusCode::OK, serde_json::to_vec(value).unwrap());
        let mut asked = self.0.asked.lock();
        if method == Method::POST {
            let fate = self.0.fates.lock().front().copied().unwrap();
            if matches!(fate, Fate::Away) {
                self.0.fates.lock().pop_front();
                return Some((StatusCode::SERVICE_UNAVAILABLE, b"away".to_vec()));
            }
            let mut request: CertificateSigningRequest = serde_json::from_slice(body).unwrap();
            request.metadata.name = Some(format!("csr-{}", asked.len()));
            request.metadata.resource_version = Some("1".to_owned());
            asked.push(request.clone());
            return Some(ok(&request));
        }
        let mut request = asked.last().unwrap().clone();
        if !uri.query().unwrap_or_default().contains("watch=true") {
            return Some(ok(&request));
        }
        let mut status = Status::default();
        match self.0.fates.lock().pop_front().unwrap() {
            Fate::Signed => {
                let csr = String::from_utf8(request.spec.request.0.clone()).unwrap();
                let cert = self.0.pki.sign_request(&csr, &[Usage::Client], 10 * HOUR).unwrap();
                status.certificate = Some(ByteString(cert.into_bytes()));
            }
            Fate::Denied => {
                status.conditions = Some(vec![Condition {
                    type_: "Denied".to_owned(),
                    status: "True".to_owned(),
                    message: Some("not this one".to_owned()),
                    ..Condition::default()
                }]);
            }
            Fate::Ignored | Fate::Away => return None,
        }
        request.status = Some(status);
        let event = serde_json::json!({"type": "MODIFIED", "object": request});
        Some((StatusCode::OK, format!("{event}\n").into_bytes()))
    }
}

impl tower::Service<http::Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let Some((code, bytes)) = server.answer(&parts.method, &parts.uri, &body) else {
                return std::future::pending().await;
            };
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = code;
            Ok(response)
        })
    }
}

struct Case {
    own: Arc<Cluster>,
    first: Arc<Cluster>,
    clock: Arc<ManualClock>,
    measure: Arc<Measure>,
    used: mpsc::UnboundedReceiver<CertKey>,
    renewal: Renewal,
    dir: tempfile::TempDir,
}

/// A kubelet that asks by bootstrap (`first`), and later as itself (`own`).
fn case(first: &[Fate], own: &[Fate]) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let cluster = |name: &str, fates: &[Fate]| {
        let pki = Pki::load_or_create(&dir.path().join(name), clock.clone(), SystemRandom::shared()).unwrap();
        let fates = Mutex::new(fates.iter().copied().collect());
        Arc::new(Cluster { pki, fates, asked: Mutex::default() })
    };
    let (first, own) = (cluster("first", first), cluster("own", own));
    let (sender, used) = mpsc::unbounded_channel();
    let measure = Arc::new(Measure::default());
    let renewal = Renewal {
        wanted: Wanted::client("a"),
        files: Files::new(dir.path(), "kubelet-client"),
        own: client::connect::local(Server(own.clone())),
        first: client::connect::local(Server(first.clone())),
        uses: Box::new(move |cert| sender.send(cert.clone()).map_err(|error| error.to_string())),
        goes_on: true,
        at_once: false,
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        measure: measure.clone(),
    };
    Case { own, first, clock, measure, used, renewal, dir }
}

#[tokio::test(start_paused = true)]
async fn the_first_certificate_is_had_by_bootstrap_and_the_next_ones_by_itself() {
    let mut case = case(&[Fate::Signed], &[Fate::Signed]);
    let files = case.renewal.files.clone();
    case.renewal.at_once = true;
    tokio::spawn(case.renewal.run(None));
    let one = case.used.recv().await.unwrap();
    assert_eq!(files.load().unwrap().unwrap(), one, "kept before it is used");
    let asked = case.first.asked.lock()[0].spec.clone();
    assert_eq!(asked.signer_name, "kubernetes.io/kube-apiserver-client-kubelet");
    assert_eq!(asked.usages.unwrap(), ["digital signature", "client auth"]);

    case.clock.advance(6 * HOUR);
    tokio::time::sleep(3 * HOUR).await;
    assert!(case.used.try_recv().is_err(), "it has lived less than seven tenths");
    case.clock.advance(3 * HOUR + HOUR / 10);
    let two = case.used.recv().await.unwrap();
    assert_ne!(one.key_pem, two.key_pem, "with a new key");
    assert_eq!((case.first.asked.lock().len(), case.own.asked.lock().len()), (1, 1));
    assert_eq!(files.load().unwrap().unwrap(), two);
    drop(case.dir);
}

#[tokio::test(start_paused = true)]
async fn denied_ignored_or_away_is_tried_again() {
    let mut case = case(&[Fate::Away, Fate::Denied, Fate::Ignored, Fate::Signed], &[]);
    let began = tokio::time::Instant::now();
    tokio::spawn(case.renewal.run(None));
    case.used.recv().await.unwrap();
    assert_eq!(case.measure.failures.load(Ordering::Relaxed), 3);
    let waited = began.elapsed();
    assert!((PATIENCE + 12 * PAUSES.0 / 2..PATIENCE + 20 * PAUSES.0).contains(&waited), "{waited:?}");
    assert_eq!(case.first.asked.lock().len(), 3, "the one that nobody took is not counted");
    drop(case.dir);
}

fn held(case: &Case, from: Duration, to: Duration) -> Holder {
    let now = case.clock.now();
    Holder {
        name: "system:node:a".to_owned(),
        groups: vec!["system:nodes".to_owned()],
        sans: Vec::new(),
        not_before: now - from,
        not_after: now - from + to,
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_given_asks_for_the_nodes_own_at_once() {
    let mut case = case(&[], &[Fate::Signed]);
    let given = held(&case, HOUR, 10 * HOUR);
    case.renewal.at_once = true;
    tokio::spawn(case.renewal.run(Some(given)));
    case.used.recv().await.unwrap();
    assert_eq!(case.own.asked.lock().len(), 1, "it is valid, and asks by itself");
    drop(case.dir);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_ended_is_no_way_to_ask() {
    let mut case = case(&[Fate::Signed], &[]);
    let ended = held(&case, HOUR, HOUR / 2);
    tokio::spawn(case.renewal.run(Some(ended)));
    case.used.recv().await.unwrap();
    assert_eq!(case.first.asked.lock().len(), 1);
    drop(case.dir);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_what_to_do() {
    let case = case(&[Fate::Denied, Fate::Ignored], &[]);
    let ask = || request(&case.renewal.first, &case.renewal.wanted, PATIENCE);
    let denied = ask().await.unwrap_err().to_string();
    assert_eq!(denied, "certificate signing request csr-0 is denied, reason: , message: not this one");
    let ignored = ask().await.unwrap_err().to_string();
    assert!(ignored.contains("`kubectl certificate approve csr-1`"), "{ignored}");
}
