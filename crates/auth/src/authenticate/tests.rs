use std::time::Duration;

use base::{Clock, ManualClock, SeededRandom};

use super::*;
use crate::token::{SigningKey, TokenRequest};

#[derive(Default)]
struct Objects(BTreeMap<String, FoundSecret>);

impl Objects {
    fn with(mut self, key: &str, uid: &str) -> Self {
        self.0.entry(key.into()).or_default().found.uid = uid.into();
        self
    }

    fn found(&self, key: String) -> Option<Found> {
        self.0.get(&key).map(|secret| secret.found.clone())
    }
}

impl Lookup for Objects {
    fn service_account(&self, namespace: &str, name: &str) -> Option<Found> {
        self.found(format!("sa/{namespace}/{name}"))
    }
    fn pod(&self, namespace: &str, name: &str) -> Option<Found> {
        self.found(format!("pod/{namespace}/{name}"))
    }
    fn node(&self, name: &str) -> Option<Found> {
        self.found(format!("node/{name}"))
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<FoundSecret> {
        self.0.get(&format!("secret/{namespace}/{name}")).cloned()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()))
}

fn tokens(clock: &Arc<ManualClock>) -> (Arc<TokenIssuer>, ServiceAccountTokens) {
    let key = rcgen::KeyPair::generate().unwrap();
    let key = SigningKey::from_pkcs8(key.serialized_der()).unwrap();
    let issuer =
        TokenIssuer::new("https://k", vec!["api".into()], key, clock.clone(), Arc::new(SeededRandom::new(1)));
    let issuer = Arc::new(issuer);
    (issuer.clone(), ServiceAccountTokens::new(issuer, clock.clone()))
}

fn reference(name: &str) -> Reference {
    Reference { name: name.into(), uid: format!("{name}-uid") }
}

fn request(pod: Option<Reference>, node: Option<Reference>) -> TokenRequest {
    TokenRequest {
        namespace: "a".into(),
        service_account: reference("robot"),
        pod,
        node,
        ttl: Duration::from_secs(600),
        ..TokenRequest::default()
    }
}

#[test]
fn a_service_account_is_who_its_token_says() {
    let clock = clock();
    let (issuer, tokens) = tokens(&clock);
    let objects = Objects::default().with("sa/a/robot", "robot-uid").with("pod/a/web", "web-uid");
    let minted = issuer.mint(&request(Some(reference("web")), Some(reference("one")))).unwrap();
    let Authenticated { user, audiences } =
        tokens.authenticate(&objects, &minted.token, &[]).unwrap().unwrap();
    assert_eq!(audiences, ["api"]);
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:a:robot", "robot-uid"));
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    let extra: Vec<_> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{}={}", key.rsplit('/').next().unwrap(), values[0]))
        .collect();
    assert_eq!(
        extra,
        [
            &format!("credential-id=JTI={}", minted.id),
            "node-name=one",
            "node-uid=one-uid",
            "pod-name=web",
            "pod-uid=web-uid"
        ]
    );
}

#[test]
fn a_token_ends_with_what_it_is_bound_to() {
    let clock = clock();
    let (issuer, tokens) = tokens(&clock);
    let (pod, node) = (Some(reference("web")), Some(reference("one")));
    let account = || Objects::default().with("sa/a/robot", "robot-uid");
    let mut deleted = account().with("pod/a/web", "web-uid");
    deleted.0.get_mut("pod/a/web").unwrap().found.deleted = Some(clock.now() - SignedDuration::from_secs(61));
    let mut dying = account().with("pod/a/web", "web-uid");
    dying.0.get_mut("pod/a/web").unwrap().found.deleted = Some(clock.now() - SignedDuration::from_secs(59));
    let invalidated = Some("service account token has been invalidated");
    let cases = [
        (Objects::default(), None, None, Some("serviceaccounts \"robot\" not found")),
        (account(), None, None, None),
        (
            account().with("sa/a/robot", "new"),
            None,
            None,
            Some("service account UID (new) does not match claim (robot-uid)"),
        ),
        (account(), pod.clone(), None, invalidated),
        (
            account().with("pod/a/web", "new"),
            pod.clone(),
            None,
            Some("pod UID (new) does not match service account pod ref claim (web-uid)"),
        ),
        (account().with("pod/a/web", "web-uid"), pod.clone(), node.clone(), None),
        (deleted, pod.clone(), None, invalidated),
        (dying, pod, None, None),
        (account(), None, node.clone(), invalidated),
        (account().with("node/one", "one-uid"), None, node, None),
    ];
    for (i, (objects, pod, node, expected)) in cases.into_iter().enumerate() {
        let token = issuer.mint(&request(pod, node)).unwrap().token;
        let found = tokens.authenticate(&objects, &token, &[]).map(|user| assert!(user.is_some()));
        assert_eq!(found.err().map(|error| error.to_string()).as_deref(), expected, "case {i}");
    }
}

fn bootstrap_secret(changes: &[(&str, &str)]) -> Objects {
    let mut data: BTreeMap<String, Vec<u8>> = [
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", "system:bootstrappers:knarr:node"),
        ("expiration", "2026-01-02T04:00:00Z"),
    ]
    .map(|(key, value)| (key.to_owned(), value.into()))
    .into();
    data.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
    let secret = FoundSecret { found: Found::default(), kind: "bootstrap.kubernetes.io/token".into(), data };
    Objects([("secret/kube-system/bootstrap-token-abcdef".to_owned(), secret)].into())
}

#[test]
fn a_bootstrap_token_is_good_while_its_secret_says_so() {
    let tokens = BootstrapTokens::new(clock());
    let ask = |objects: &Objects, token: &str| {
        tokens.authenticate(objects, token, &[]).unwrap().map(|found| found.user)
    };
    let user = ask(&bootstrap_secret(&[]), "abcdef.0123456789abcdef").unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(
        user.groups,
        ["system:bootstrappers", "system:bootstrappers:knarr:node", "system:authenticated"]
    );
    for token in
        ["abcdef.0123456789abcdeX", "abcdef.0123456789abcde0", "ghijkl.0123456789abcdef", "abcdef.", "abcdef"]
    {
        assert_eq!(ask(&bootstrap_secret(&[]), token), None, "{token}");
    }
    for change in [
        ("token-id", "other0"),
        ("usage-bootstrap-authentication", "false"),
        ("expiration", "2026-01-02T03:00:00Z"),
        ("expiration", "soon"),
        ("auth-extra-groups", "system:masters"),
        ("auth-extra-groups", "system:bootstrappers:"),
    ] {
        assert_eq!(ask(&bootstrap_secret(&[change]), "abcdef.0123456789abcdef"), None, "{change:?}");
    }
    let mut other = bootstrap_secret(&[]);
    other.0.values_mut().for_each(|secret| secret.kind = "Opaque".into());
    assert_eq!(ask(&other, "abcdef.0123456789abcdef"), None);
}

#[test]
fn a_union_finds_whoever_knows_the_token() {
    let clock = clock();
    let (issuer, service_accounts) = tokens(&clock);
    let union = Union(vec![Arc::new(service_accounts), Arc::new(BootstrapTokens::new(clock.clone()))]);
    let objects = bootstrap_secret(&[]).with("sa/a/robot", "robot-uid");
    let token = issuer.mint(&request(None, None)).unwrap().token;
    let name = |token: &str| {
        union.authenticate(&objects, token, &[]).map(|found| found.map(|found| found.user.name))
    };
    assert_eq!(name(&token), Ok(Some("system:serviceaccount:a:robot".to_owned())));
    assert_eq!(name("abcdef.0123456789abcdef"), Ok(Some("system:bootstrap:abcdef".to_owned())));
    assert_eq!(name("something"), Ok(None));
    clock.advance(Duration::from_secs(3600));
    assert_eq!(name(&token), Err(AuthError::Token(TokenError::Expired)));
}
