//! Acting in another's name, by headers (`apiserver/pkg/endpoints/filters/impersonation.go`).

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

/// Who somebody wants to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Headers that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationError {
    /// Groups or more, and nobody whose they are.
    #[error("requested [{0}] impersonation without impersonating a user")]
    WithoutUser(&'static str),
    /// A value that is no text. It is refused, since going on without it would be going on as somebody else.
    #[error("the header {0} holds something else than text")]
    NotText(String),
}

/// Reads the headers; `None` when nobody is impersonated.
///
/// # Errors
/// When groups or more are named and no user, or a value is unreadable.
pub fn parse(headers: &HeaderMap) -> Result<Option<Impersonation>, ImpersonationError> {
    let texts = |name: &str| {
        let text = |value: &HeaderValue| {
            value.to_str().map(str::to_owned).map_err(|_| ImpersonationError::NotText(name.to_owned()))
        };
        headers.get_all(name).iter().map(text).collect::<Result<Vec<String>, _>>()
    };
    let user = texts("impersonate-user")?.into_iter().next().unwrap_or_default();
    let uid = texts("impersonate-uid")?.into_iter().next().unwrap_or_default();
    let groups = texts("impersonate-group")?;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            extra.entry(decode(key)).or_default().extend(texts(name.as_str())?);
        }
    }
    if !user.is_empty() {
        return Ok(Some(Impersonation { user, uid, groups, extra }));
    }
    match (groups.is_empty(), uid.is_empty(), extra.is_empty()) {
        (false, ..) => Err(ImpersonationError::WithoutUser("groups")),
        (_, false, _) => Err(ImpersonationError::WithoutUser("uid")),
        (_, _, false) => Err(ImpersonationError::WithoutUser("extra")),
        _ => Ok(None),
    }
}

/// Header names cannot hold every character: the rest is percent-encoded.
fn decode(key: &str) -> String {
    percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned()
}

impl Impersonation {
    /// What whoever asks must be allowed to `impersonate`: group, resource, subresource, namespace and name of each.
    pub fn checks(&self) -> Vec<(&str, &str, &str, &str, &str)> {
        let mut checks = vec![match service_account(&self.user) {
            Some((namespace, name)) => ("", "serviceaccounts", "", namespace, name),
            None => ("", "users", "", "", self.user.as_str()),
        }];
        checks.extend(self.groups.iter().map(|group| ("", "groups", "", "", group.as_str())));
        if !self.uid.is_empty() {
            checks.push(("authentication.k8s.io", "uids", "", "", self.uid.as_str()));
        }
        for (key, values) in &self.extra {
            for value in values {
                checks.push(("authentication.k8s.io", "userextras", key.as_str(), "", value.as_str()));
            }
        }
        checks
    }

    /// The user to go on as.
    pub fn into_user(self) -> User {
        let mut groups = self.groups;
        if let (Some((namespace, _)), true) = (service_account(&self.user), groups.is_empty()) {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        let has = |name: &str| groups.iter().any(|group| group == name);
        if self.user == ANONYMOUS {
            if !has(UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.to_owned());
            }
        } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        User { name: self.user, uid: self.uid, groups, extra: self.extra }
    }
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(*name, value.parse().unwrap());
            headers
        })
    }

    fn user(pairs: &[(&'static str, &str)]) -> User {
        parse(&headers(pairs)).unwrap().unwrap().into_user()
    }

    #[test]
    fn a_service_account_gets_its_groups() {
        let headers = headers(&[("impersonate-user", "system:serviceaccount:a:b")]);
        let wanted = parse(&headers).unwrap().unwrap();
        assert_eq!(wanted.checks(), [("", "serviceaccounts", "", "a", "b")]);
        let groups = wanted.into_user().groups;
        assert_eq!(groups, ["system:serviceaccounts", "system:serviceaccounts:a", AUTHENTICATED]);
        assert_eq!(service_account("system:serviceaccount:a:"), None, "then it is a plain user");
    }

    #[test]
    fn everything_that_is_taken_on_must_be_allowed() {
        let wanted = parse(&headers(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "devs"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscopes", "view"),
        ]));
        let wanted = wanted.unwrap().unwrap();
        assert_eq!(
            wanted.checks(),
            [
                ("", "users", "", "", "jane"),
                ("", "groups", "", "", "devs"),
                ("", "groups", "", "", "ops"),
                ("authentication.k8s.io", "uids", "", "", "7"),
                ("authentication.k8s.io", "userextras", "example.com/scopes", "", "view"),
            ]
        );
        assert_eq!(wanted.into_user().groups, ["devs", "ops", AUTHENTICATED]);
    }

    #[test]
    fn nobody_in_particular_stays_unauthenticated() {
        assert_eq!(user(&[("impersonate-user", ANONYMOUS)]).groups, [UNAUTHENTICATED]);
        let groups = user(&[("impersonate-user", "x"), ("impersonate-group", UNAUTHENTICATED)]).groups;
        assert_eq!(groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        assert_eq!(parse(&HeaderMap::new()), Ok(None));
        let groups = parse(&headers(&[("impersonate-group", "g")]));
        assert_eq!(groups, Err(ImpersonationError::WithoutUser("groups")));
        let mut unreadable = HeaderMap::new();
        unreadable.insert("impersonate-user", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(matches!(parse(&unreadable), Err(ImpersonationError::NotText(_))));
    }
}
