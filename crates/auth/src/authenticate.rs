//! Who shows a bearer token: a service account, or a machine that is about to join.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::SharedClock;
use jiff::{SignedDuration, Timestamp};

use crate::token::{Claims, Reference, TokenError, TokenIssuer};
use crate::user::User;

/// An object that tokens depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its UID.
    pub uid: String,
    /// Since when it is being deleted, if it is.
    pub deleted: Option<Timestamp>,
}

/// A Secret that a token depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundSecret {
    /// What it is.
    pub found: Found,
    /// Its type, such as `bootstrap.kubernetes.io/token`.
    pub kind: String,
    /// Its data, decoded.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// What tokens are checked against; the API server answers from its watch cache.
pub trait Lookup: Send + Sync {
    /// A service account.
    fn service_account(&self, namespace: &str, name: &str) -> Option<Found>;
    /// A pod.
    fn pod(&self, namespace: &str, name: &str) -> Option<Found>;
    /// A node.
    fn node(&self, name: &str) -> Option<Found>;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Option<FoundSecret>;
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user: User,
    /// Those of the audiences asked for that the token is for.
    pub audiences: Vec<String>,
}

/// Why a credential is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A service account token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Knows one kind of bearer token.
pub trait BearerAuthenticator: Send + Sync {
    /// Whose the token is, for one of `audiences` (empty: the API server's own). `None` when this is not a
    /// token that it knows.
    ///
    /// # Errors
    /// Why a token of the known kind is refused.
    fn authenticate(
        &self,
        lookup: &dyn Lookup,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthError>;
}

/// Asks several in turn. Whoever knows the token decides; if nobody does, the first refusal counts.
pub struct Union(pub Vec<Arc<dyn BearerAuthenticator>>);

impl BearerAuthenticator for Union {
    fn authenticate(
        &self,
        lookup: &dyn Lookup,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthError> {
        let mut refusal = None;
        for authenticator in &self.0 {
            match authenticator.authenticate(lookup, token, audiences) {
                Ok(None) => {}
                Ok(Some(authenticated)) => return Ok(Some(authenticated)),
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        refusal.map_or(Ok(None), Err)
    }
}

/// An object that was deleted less than this long ago still counts, for clocks that differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Service account tokens.
pub struct ServiceAccountTokens {
    issuer: Arc<TokenIssuer>,
    clock: SharedClock,
}

impl ServiceAccountTokens {
    /// Tokens of `issuer`.
    pub fn new(issuer: Arc<TokenIssuer>, clock: SharedClock) -> Self {
        Self { issuer, clock }
    }

    fn is_gone(&self, found: &Found) -> bool {
        let before = self.clock.now().checked_sub(LEEWAY).unwrap_or(Timestamp::MIN);
        found.deleted.is_some_and(|deleted| deleted < before)
    }

    /// That what the token is bound to is still there, and is still the same.
    fn check_bound(&self, kind: &str, bound: &Reference, found: Option<Found>) -> Result<(), TokenError> {
        let gone = || TokenError::Invalidated("service account token has been invalidated".to_owned());
        let found = found.ok_or_else(gone)?;
        if found.uid != bound.uid {
            let claim = format!("service account {} ref claim", kind.to_lowercase());
            return Err(TokenError::Invalidated(format!(
                "{kind} UID ({}) does not match {claim} ({})",
                found.uid, bound.uid
            )));
        }
        if self.is_gone(&found) { Err(gone()) } else { Ok(()) }
    }

    fn check_objects(&self, lookup: &dyn Lookup, claims: &Claims) -> Result<(), TokenError> {
        let kubernetes = &claims.kubernetes;
        let (namespace, account) = (kubernetes.namespace.as_str(), &kubernetes.service_account);
        let Some(found) = lookup.service_account(namespace, &account.name) else {
            return Err(TokenError::Invalidated(format!("serviceaccounts {:?} not found", account.name)));
        };
        if found.uid != account.uid {
            return Err(TokenError::Invalidated(format!(
                "service account UID ({}) does not match claim ({})",
                found.uid, account.uid
            )));
        }
        if self.is_gone(&found) {
            return Err(TokenError::Invalidated(format!(
                "service account {namespace}/{} has been deleted",
                account.name
            )));
        }
        if let Some(secret) = &kubernetes.secret {
            let found = lookup.secret(namespace, &secret.name).map(|secret| secret.found);
            self.check_bound("secret", secret, found)?;
        }
        match (&kubernetes.pod, &kubernetes.node) {
            (Some(pod), _) => self.check_bound("pod", pod, lookup.pod(namespace, &pod.name)),
            (None, Some(node)) => self.check_bound("node", node, lookup.node(&node.name)),
            (None, None) => Ok(()),
        }
    }
}

/// The user that a service account's token stands for.
fn service_account_user(claims: Claims) -> User {
    const EXTRA: &str = "authentication.kubernetes.io/";
    let kubernetes = claims.kubernetes;
    let own_group = format!("system:serviceaccounts:{}", kubernetes.namespace);
    let mut user = User::known(claims.sub, &["system:serviceaccounts", &own_group]);
    user.uid = kubernetes.service_account.uid;
    let bound = [("pod", kubernetes.pod), ("node", kubernetes.node)];
    for (kind, reference) in bound.into_iter().filter_map(|(kind, reference)| Some((kind, reference?))) {
        user.extra.insert(format!("{EXTRA}{kind}-name"), vec![reference.name]);
        user.extra.insert(format!("{EXTRA}{kind}-uid"), vec![reference.uid]);
    }
    if !claims.jti.is_empty() {
        user.extra.insert(format!("{EXTRA}credential-id"), vec![format!("JTI={}", claims.jti)]);
    }
    user
}

impl BearerAuthenticator for ServiceAccountTokens {
    fn authenticate(
        &self,
        lookup: &dyn Lookup,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthError> {
        let Some(claims) = self.issuer.verify(token, audiences)? else { return Ok(None) };
        self.check_objects(lookup, &claims)?;
        let wanted = if audiences.is_empty() { self.issuer.audiences() } else { audiences };
        let audiences = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        Ok(Some(Authenticated { user: service_account_user(claims), audiences }))
    }
}

/// Tokens with which machines join: `<id>.<secret>`, known by a Secret in kube-system.
pub struct BootstrapTokens(SharedClock);

impl BootstrapTokens {
    /// Tokens that end by this clock.
    pub fn new(clock: SharedClock) -> Self {
        Self(clock)
    }

    fn user(&self, secret: &FoundSecret, id: &str, shown: &str) -> Option<User> {
        let text = |key: &str| {
            secret.data.get(key).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
        };
        let expired = match text("expiration") {
            "" => false,
            // A time that cannot be read is treated as past.
            at => at.parse::<Timestamp>().map_or(true, |at| at < self.0.now()),
        };
        let usable = secret.kind == "bootstrap.kubernetes.io/token"
            && secret.found.deleted.is_none()
            && is_equal(text("token-secret").as_bytes(), shown.as_bytes())
            && text("token-id") == id
            && !expired
            && text("usage-bootstrap-authentication") == "true";
        let extra = text("auth-extra-groups");
        let extra: Vec<&str> = extra.split(',').filter(|group| !group.is_empty()).collect();
        if !usable || !extra.iter().all(|group| is_bootstrap_group(group)) {
            return None;
        }
        Some(User::known(
            format!("system:bootstrap:{id}"),
            &[&["system:bootstrappers"], extra.as_slice()].concat(),
        ))
    }
}

fn is_bootstrap_group(group: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '-';
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        (1..=256).contains(&rest.len()) && rest.chars().all(allowed) && !rest.ends_with([':', '-'])
    })
}

/// Compares in a time that does not depend on where the two differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// The parts of a bootstrap token, if it has their form.
fn parse_bootstrap(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && is_plain(id) && is_plain(secret)).then_some((id, secret))
}

impl BearerAuthenticator for BootstrapTokens {
    fn authenticate(
        &self,
        lookup: &dyn Lookup,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthError> {
        let Some((id, shown)) = parse_bootstrap(token) else { return Ok(None) };
        let Some(secret) = lookup.secret("kube-system", &format!("bootstrap-token-{id}")) else {
            return Ok(None);
        };
        let user = self.user(&secret, id, shown);
        Ok(user.map(|user| Authenticated { user, audiences: audiences.to_vec() }))
    }
}

#[cfg(test)]
mod tests;
