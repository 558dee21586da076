//! What is to be done with a certificate request. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use k8s_openapi::api::core::v1::Node;

use super::Requested;

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
const MIN_TTL: Duration = Duration::from_secs(600);
const KEEP_DECIDED: SignedDuration = SignedDuration::from_hours(1);
const KEEP_PENDING: SignedDuration = SignedDuration::from_hours(24);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing before the request is that old.
    Wait(Duration),
    /// Remove it: it is old.
    Remove,
    /// Approve it if its user may create `certificatesigningrequests/SUBRESOURCE`.
    ApproveIf {
        /// `nodeclient` or `selfnodeclient`.
        subresource: &'static str,
        /// Why, for the condition.
        message: &'static str,
    },
    /// Approve it: a kubelet asks to serve under addresses of its own node.
    ApproveServing,
    /// Sign it.
    Sign {
        /// For clients.
        client: bool,
        /// For servers.
        server: bool,
        /// For how long.
        ttl: Duration,
    },
    /// It can never be signed.
    Fail(String),
}

fn has(request: &Request, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .is_some_and(|all| all.iter().any(|condition| condition.type_ == kind && condition.status == "True"))
}

fn issued(request: &Request) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some()
}

fn usages(request: &Request) -> BTreeSet<&str> {
    let usages = request.spec.usages.iter().flatten().map(String::as_str);
    usages.filter(|usage| *usage != "key encipherment").collect()
}

/// What a serving request is held against.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The node that the request is for.
    pub node: Option<&'a Node>,
    /// Addresses that are others': of other nodes, and of the API server.
    pub foreign: &'a BTreeSet<String>,
}

/// What to do with a request now; `asked` is what its PKCS #10 says.
pub fn plan(request: &Request, asked: &Result<Requested, String>, site: Site<'_>, now: Timestamp) -> Action {
    let made = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let decided = has(request, "Denied") || has(request, "Failed") || issued(request);
    let keep = if decided { KEEP_DECIDED } else { KEEP_PENDING };
    let left = made.checked_add(keep).unwrap_or(now).duration_since(now);
    if !left.is_positive() {
        return Action::Remove;
    }
    let wait = Action::Wait(left.unsigned_abs());
    if decided {
        return wait;
    }
    let signer = request.spec.signer_name.as_str();
    if !matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING) {
        return wait;
    }
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return if has(request, "Approved") { Action::Fail(why.clone()) } else { wait },
    };
    if has(request, "Approved") {
        return sign(request, asked);
    }
    if signer == KUBELET_CLIENT && is_node_client(request, asked) {
        return if request.spec.username.as_deref() == Some(&asked.name) {
            Action::ApproveIf {
                subresource: "selfnodeclient",
                message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
            }
        } else {
            Action::ApproveIf {
                subresource: "nodeclient",
                message: "Auto approving kubelet client certificate after SubjectAccessReview.",
            }
        };
    }
    if signer == KUBELET_SERVING && is_node_server(request, asked) {
        // The node may not have told its addresses yet.
        return if serves_itself(request, asked, site) {
            Action::ApproveServing
        } else {
            Action::Wait(LOOK_AGAIN)
        };
    }
    wait
}

fn is_node(asked: &Requested) -> bool {
    asked.name.starts_with("system:node:") && asked.groups == ["system:nodes"] && !asked.other_names
}

fn is_node_client(request: &Request, asked: &Requested) -> bool {
    is_node(asked)
        && asked.sans.is_empty()
        && usages(request) == BTreeSet::from(["client auth", "digital signature"])
}

fn is_node_server(request: &Request, asked: &Requested) -> bool {
    is_node(asked)
        && !asked.sans.is_empty()
        && usages(request) == BTreeSet::from(["digital signature", "server auth"])
}

/// Whether the user is that node, and every name is its own. A node says itself which addresses it has, so that what
/// is somebody else's, above all the API server's, is never taken on its word.
fn serves_itself(request: &Request, asked: &Requested, site: Site<'_>) -> bool {
    let addresses =
        site.node.and_then(|node| node.status.as_ref()).and_then(|status| status.addresses.as_ref());
    let known: BTreeSet<&str> = addresses.into_iter().flatten().map(|known| known.address.as_str()).collect();
    let own_name = asked.name.strip_prefix("system:node:").unwrap_or_default();
    let is_own = |san: &str| match san.parse::<IpAddr>() {
        Ok(ip) => known.contains(san) && !ip.is_loopback() && !site.foreign.contains(san),
        Err(_) => san == own_name && !names_the_server(san),
    };
    request.spec.username.as_deref() == Some(&asked.name) && asked.sans.iter().all(|san| is_own(san))
}

/// Names that clients know the API server by, which a node may have been called as well.
fn names_the_server(name: &str) -> bool {
    name == "localhost" || name == "kubernetes" || name.starts_with("kubernetes.")
}

fn sign(request: &Request, asked: &Requested) -> Action {
    let usages = usages(request);
    let fits = match request.spec.signer_name.as_str() {
        KUBELET_CLIENT => is_node_client(request, asked),
        KUBELET_SERVING => is_node_server(request, asked),
        _ => {
            usages.contains("client auth")
                && usages.is_subset(&BTreeSet::from(["client auth", "digital signature"]))
        }
    };
    if !fits {
        return Action::Fail(format!(
            "the request is not one that signer {:?} signs",
            request.spec.signer_name
        ));
    }
    let seconds = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let ttl = seconds.map_or(MAX_TTL, Duration::from_secs).clamp(MIN_TTL, MAX_TTL);
    Action::Sign { client: usages.contains("client auth"), server: usages.contains("server auth"), ttl }
}

#[cfg(test)]
mod tests;
