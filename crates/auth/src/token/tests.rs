use std::sync::Arc;

use base::{ManualClock, SeededRandom};
use rcgen::KeyPair;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const ISSUER: &str = "https://kubernetes.default.svc";

fn key() -> SigningKey {
    SigningKey::from_pkcs8(KeyPair::generate().unwrap().serialized_der()).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()))
}

fn issuer(key: &SigningKey, clock: &Arc<ManualClock>) -> TokenIssuer {
    TokenIssuer::new(ISSUER, Vec::new(), key.clone(), clock.clone(), Arc::new(SeededRandom::new(1)))
}

fn reference(name: &str) -> Reference {
    Reference { name: name.into(), uid: format!("{name}-uid") }
}

fn request() -> TokenRequest {
    TokenRequest {
        namespace: "a".into(),
        service_account: reference("robot"),
        pod: Some(reference("web")),
        node: Some(reference("one")),
        ttl: HOUR,
        warn_after: Some(HOUR / 2),
        ..TokenRequest::default()
    }
}

#[test]
fn a_token_says_what_upstreams_say() {
    let (key, clock) = (key(), clock());
    let issuer = issuer(&key, &clock);
    let minted = issuer.mint(&request()).unwrap();
    let claims = issuer.verify(&minted.token, &[]).unwrap().unwrap();
    let now = "2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(
        serde_json::to_value(&claims).unwrap(),
        serde_json::json!({
            "aud": [ISSUER], "iss": ISSUER, "sub": "system:serviceaccount:a:robot", "jti": minted.id,
            "iat": now, "nbf": now, "exp": now + 3600,
            "kubernetes.io": {
                "namespace": "a",
                "serviceaccount": {"name": "robot", "uid": "robot-uid"},
                "pod": {"name": "web", "uid": "web-uid"},
                "node": {"name": "one", "uid": "one-uid"},
                "warnafter": now + 1800,
            },
        })
    );
    assert_eq!(minted.expires.as_second(), now + 3600);
}

#[test]
fn times_count_with_a_minute_of_leeway_whichever_way_the_clock_jumps() {
    let (key, clock) = (key(), clock());
    let issuer = issuer(&key, &clock);
    let start: Timestamp = clock_now(&clock);
    let token = issuer.mint(&request()).unwrap().token;
    for (offset, expected) in [
        (3600 + 60, Ok(true)),
        (3600 + 61, Err(TokenError::Expired)),
        (-60, Ok(true)),
        (-61, Err(TokenError::NotYet)),
        (0, Ok(true)),
    ] {
        clock.jump_to(start + jiff::SignedDuration::from_secs(offset));
        assert_eq!(issuer.verify(&token, &[]).map(|claims| claims.is_some()), expected, "{offset}");
    }
}

fn clock_now(clock: &Arc<ManualClock>) -> Timestamp {
    base::Clock::now(&**clock)
}

#[test]
fn a_token_is_for_its_audience_only() {
    let (key, clock) = (key(), clock());
    let issuer = issuer(&key, &clock);
    let token = issuer.mint(&TokenRequest { audiences: vec!["vault".into()], ..request() }).unwrap().token;
    let vault = ["other".to_owned(), "vault".to_owned()];
    assert!(issuer.verify(&token, &vault).unwrap().is_some());
    let error = issuer.verify(&token, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("token audiences [\"vault\"] is invalid for the target audiences [{ISSUER:?}]")
    );
}

#[test]
fn only_known_keys_count_and_nothing_may_be_changed() {
    let (key_a, key_b, clock) = (key(), key(), clock());
    let (a, b) = (issuer(&key_a, &clock), issuer(&key_b, &clock));
    let token = a.mint(&request()).unwrap().token;
    assert_eq!(b.verify(&token, &[]), Err(TokenError::Signature));
    let rotated = issuer(&key_b, &clock).accept(key_a.verifying_key().clone());
    assert!(rotated.verify(&token, &[]).unwrap().is_some(), "a key of the past is still accepted");
    assert_eq!(rotated.jwks().matches("\"kid\"").count(), 2);

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let forged = URL_SAFE_NO_PAD.encode(claims.replace("robot", "admin"));
    assert_eq!(a.verify(&format!("{header}.{forged}.{signature}"), &[]), Err(TokenError::Signature));
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#] {
        let claims = URL_SAFE_NO_PAD.encode(&claims);
        let token = format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(a.verify(&token, &[]), Ok(None), "{header}");
    }
}

#[test]
fn what_is_not_ours_is_left_to_others() {
    let (key, clock) = (key(), clock());
    let issuer = issuer(&key, &clock);
    let foreign =
        TokenIssuer::new("https://else", Vec::new(), key.clone(), clock, Arc::new(SeededRandom::new(2)));
    let foreign = foreign.mint(&request()).unwrap().token;
    for token in ["", "opaque", "a.b", "a.b.c", "abcdef.0123456789abcdef", &foreign] {
        assert_eq!(issuer.verify(token, &[]), Ok(None), "{token}");
    }
}

#[test]
fn others_learn_the_key_by_discovery() {
    let (key, clock) = (key(), clock());
    let issuer = issuer(&key, &clock);
    let set: serde_json::Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let jwk = &set["keys"][0];
    assert_eq!((&jwk["kty"], &jwk["crv"], &jwk["alg"]), (&"EC".into(), &"P-256".into(), &"ES256".into()));
    for coordinate in ["x", "y"] {
        assert_eq!(URL_SAFE_NO_PAD.decode(jwk[coordinate].as_str().unwrap()).unwrap().len(), 32);
    }
    let document = discovery_document(ISSUER, "https://kubernetes.default.svc/openid/v1/jwks");
    assert!(document.contains("\"issuer\":\"https://kubernetes.default.svc\""), "{document}");
}
