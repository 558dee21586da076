use super::*;

fn request(signer: &str, user: &str, usages: &[&str]) -> Request {
    let value = serde_json::json!({
        "metadata": {"name": "csr-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"signerName": signer, "username": user, "usages": usages, "request": ""},
    });
    serde_json::from_value(value).unwrap()
}

fn with_condition(mut request: Request, kind: &str) -> Request {
    let status = serde_json::json!({"conditions": [{"type": kind, "status": "True"}]});
    request.status = Some(serde_json::from_value(status).unwrap());
    request
}

fn asked(name: &str, groups: &[&str], sans: &[&str]) -> Result<Requested, String> {
    let owned = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
    Ok(Requested { name: name.to_owned(), groups: owned(groups), sans: owned(sans), other_names: false })
}

fn node(address: &str) -> Node {
    let status = serde_json::json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    serde_json::from_value(status).unwrap()
}

fn look(request: &Request, asked: &Result<Requested, String>, node: Option<&Node>, now: Timestamp) -> Action {
    plan(request, asked, Site { node, foreign: &BTreeSet::from(["10.0.0.9".to_owned()]) }, now)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const CLIENT_USAGES: [&str; 2] = ["client auth", "digital signature"];
const SERVER_USAGES: [&str; 2] = ["server auth", "digital signature"];

#[test]
fn a_kubelet_gets_a_client_certificate_for_a_node_and_nobody_else_does() {
    let now = at("2026-01-01T00:00:01Z");
    let joining = request(KUBELET_CLIENT, "system:bootstrap:abcdef", &CLIENT_USAGES);
    let action = look(&joining, &asked("system:node:a", &["system:nodes"], &[]), None, now);
    assert!(matches!(action, Action::ApproveIf { subresource: "nodeclient", .. }), "{action:?}");
    let renewing = request(KUBELET_CLIENT, "system:node:a", &CLIENT_USAGES);
    let action = look(&renewing, &asked("system:node:a", &["system:nodes"], &[]), None, now);
    assert!(matches!(action, Action::ApproveIf { subresource: "selfnodeclient", .. }), "{action:?}");
    for (name, groups, sans) in [
        ("system:node:a", &["system:masters"][..], &[][..]),
        ("system:node:a", &["system:nodes", "system:masters"][..], &[][..]),
        ("alice", &["system:nodes"][..], &[][..]),
        ("system:node:a", &["system:nodes"][..], &["kubernetes"][..]),
    ] {
        let action = look(&joining, &asked(name, groups, sans), None, now);
        assert!(matches!(action, Action::Wait(_)), "{name} {groups:?}: {action:?}");
        let action =
            look(&with_condition(joining.clone(), "Approved"), &asked(name, groups, sans), None, now);
        assert!(matches!(action, Action::Fail(_)), "{name} {groups:?}: {action:?}");
    }
}

#[test]
fn a_kubelet_may_serve_under_its_own_addresses_alone() {
    let now = at("2026-01-01T00:00:01Z");
    let serving = request(KUBELET_SERVING, "system:node:a", &SERVER_USAGES);
    let own = asked("system:node:a", &["system:nodes"], &["10.0.0.1"]);
    assert_eq!(look(&serving, &own, Some(&node("10.0.0.1")), now), Action::ApproveServing);
    assert!(matches!(look(&serving, &own, Some(&node("10.0.0.2")), now), Action::Wait(_)));
    assert!(matches!(look(&serving, &own, None, now), Action::Wait(_)));
    // A node tells its addresses itself: those of others are not taken on its word.
    let nobody = node("10.0.0.9");
    let foreign = asked("system:node:a", &["system:nodes"], &["10.0.0.9"]);
    assert!(matches!(look(&serving, &foreign, Some(&nobody), now), Action::Wait(_)));
    for name in ["kubernetes", "kubernetes.default.svc", "localhost", "b"] {
        let called = asked("system:node:a", &["system:nodes"], &[name]);
        assert!(matches!(look(&serving, &called, Some(&node(name)), now), Action::Wait(_)), "{name}");
    }
    let posing = request(KUBELET_SERVING, "system:node:kubernetes", &SERVER_USAGES);
    let posed = asked("system:node:kubernetes", &["system:nodes"], &["kubernetes"]);
    assert!(matches!(look(&posing, &posed, Some(&node("kubernetes")), now), Action::Wait(_)));
    let other = request(KUBELET_SERVING, "system:node:b", &SERVER_USAGES);
    assert!(matches!(look(&other, &own, Some(&node("10.0.0.1")), now), Action::Wait(_)));
}

#[test]
fn what_is_approved_is_signed_for_as_long_as_was_asked() {
    let now = at("2026-01-01T00:00:01Z");
    let mut request = with_condition(request(KUBELET_CLIENT, "u", &CLIENT_USAGES), "Approved");
    request.spec.expiration_seconds = Some(3600);
    let action = look(&request, &asked("system:node:a", &["system:nodes"], &[]), None, now);
    assert_eq!(action, Action::Sign { client: true, server: false, ttl: Duration::from_secs(3600) });
}

#[test]
fn old_requests_go() {
    let decided = with_condition(request(KUBELET_CLIENT, "u", &CLIENT_USAGES), "Denied");
    let asked = asked("system:node:a", &["system:nodes"], &[]);
    assert_eq!(look(&decided, &asked, None, at("2026-01-01T01:00:00Z")), Action::Remove);
    let half = Action::Wait(Duration::from_secs(1800));
    assert_eq!(look(&decided, &asked, None, at("2026-01-01T00:30:00Z")), half);
    let foreign = request("example.com/mine", "u", &CLIENT_USAGES);
    assert!(matches!(look(&foreign, &asked, None, at("2026-01-01T01:00:00Z")), Action::Wait(_)));
    assert_eq!(look(&foreign, &asked, None, at("2026-01-02T00:00:00Z")), Action::Remove);
}
